// Shows the text that a node of this pack returns when it runs: `text` in the `ui` result of an output node,
// `aior_text` in that of any other. The front end shows such a text only for Preview as Text. Progress text from the
// server is no substitute: it is not sent for cached results, and it is lost while the graph is not open.
import { app } from "../../scripts/app.js"

const NAME = "aior_text"
const textsOf = output => output?.text ?? output?.[NAME]
// Sizes in pixels, for an 11px font. MARGIN is what the front end keeps free around a widget.
const LINE_HEIGHT = 15, CHARACTER_WIDTH = 6.7, PADDING = 8, MARGIN = 10
const MAX_LINES = 18

function addText(node) {
    const element = document.createElement("pre")
    Object.assign(element.style, {
        margin: 0, padding: `${PADDING / 2}px 8px`, width: "100%", height: "100%", boxSizing: "border-box", overflow: "auto",
        whiteSpace: "pre-wrap", overflowWrap: "anywhere", userSelect: "text", borderRadius: "4px",
        font: `11px/${LINE_HEIGHT}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace`,
        color: "var(--input-text)", background: "var(--comfy-input-bg)",
    })
    // The wheel scrolls a text that is longer than its box. Otherwise, and with Ctrl, it zooms the canvas.
    element.addEventListener("wheel", event => {
        event.stopPropagation()
        if (event.ctrlKey || element.scrollHeight <= element.clientHeight) {
            event.preventDefault()
            app.canvas.processMouseWheel(event)
        }
    })
    const widget = node.addDOMWidget(NAME, NAME, element, {
        serialize: false,
        getValue: () => element.textContent,
        setValue: text => { element.textContent = text },
        getMinHeight: () => heightOf(element.first ?? "", node.size[0]),
    })
    // The option `serialize` keeps the text out of the prompt; this property keeps it out of the saved workflow.
    widget.serialize = false
    return widget
}

function heightOf(text, width) {
    const columns = Math.max(10, Math.floor((width - 2 * MARGIN - 16) / CHARACTER_WIDTH))
    const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0)
    return Math.min(lines, MAX_LINES) * LINE_HEIGHT + PADDING + 2 * MARGIN
}

function show(node, texts) {
    if (!Array.isArray(texts) || !texts.length) return
    const widget = node.widgets?.find(widget => widget.name === NAME) ?? addText(node)
    // A node that ran for a list has one text per entry. The node grows to fit the first; the user scrolls to the rest.
    widget.element.first = texts[0]
    widget.value = texts.join("\n\n")
    const [width, height] = node.computeSize()
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
    node.setDirtyCanvas(true, true)
}

// A locator is "NODE" in the workflow itself and "SUBGRAPH:NODE" inside of a subgraph.
function nodeAt(locator) {
    const root = app.graph.rootGraph ?? app.graph
    const [first, second] = locator.split(":")
    return second === undefined ? root.getNodeById(first) : root.subgraphs?.get(first)?.getNodeById(second)
}

const ours = node => node?.comfyClass?.startsWith("AIOR_")

app.registerExtension({
    // comfy-test requires that the name begins with the DisplayName of pyproject.toml.
    name: "aiorallinoneimagerestoration.text",
    beforeRegisterNodeDef(type, definition) {
        if (!definition.name.startsWith("AIOR_")) return
        const before = type.prototype.onExecuted
        type.prototype.onExecuted = function (output) {
            before?.apply(this, arguments)
            show(this, textsOf(output))
        }
    },
    // Outputs of earlier runs: after switching tabs, after an undo, or when a run is loaded from the history.
    onNodeOutputsUpdated(outputs) {
        for (const [locator, output] of Object.entries(outputs)) {
            const node = nodeAt(locator)
            if (ours(node)) show(node, textsOf(output))
        }
    },
})
