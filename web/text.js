// Shows on a node of this pack what it says when it runs: the `text` of its `ui`, or `aior_text` where it is not at the end of a graph. The front
// end itself shows that of Preview as Text only, and what a server can send as progress text neither from the cache nor in a graph that is not open.
import { app } from "../../scripts/app.js"

const NAME = "aior_text"
const textsOf = output => output?.text ?? output?.[NAME]
// Pixels: of a line and a character at this size of type, around the text, and of the margin that the front end keeps around a widget.
const LINE = 15, CHARACTER = 6.7, AROUND = 8, MARGIN = 10
const MOST_LINES = 18

function addText(node) {
    const element = document.createElement("pre")
    Object.assign(element.style, {
        margin: 0, padding: `${AROUND / 2}px 8px`, width: "100%", height: "100%", boxSizing: "border-box", overflow: "auto",
        whiteSpace: "pre-wrap", overflowWrap: "anywhere", userSelect: "text", borderRadius: "4px",
        font: `11px/${LINE}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace`,
        color: "var(--input-text)", background: "var(--comfy-input-bg)",
    })
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
    // The option keeps it out of the prompt, this out of the saved workflow.
    widget.serialize = false
    return widget
}

function heightOf(text, width) {
    const columns = Math.max(10, Math.floor((width - 2 * MARGIN - 16) / CHARACTER))
    const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0)
    return Math.min(lines, MOST_LINES) * LINE + AROUND + 2 * MARGIN
}

function show(node, texts) {
    if (!Array.isArray(texts) || !texts.length) return
    const widget = node.widgets?.find(widget => widget.name === NAME) ?? addText(node)
    // A node that ran for each entry of a list says one text for each: the node grows for the first, the rest is scrolled to.
    widget.element.first = texts[0]
    widget.value = texts.join("\n\n")
    const [width, height] = node.computeSize()
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
    node.setDirtyCanvas(true, true)
}

// Outputs go by "NODE" in the workflow itself and by "SUBGRAPH:NODE" in a subgraph.
function nodeAt(locator) {
    const root = app.graph.rootGraph ?? app.graph
    const [first, second] = locator.split(":")
    return second === undefined ? root.getNodeById(first) : root.subgraphs?.get(first)?.getNodeById(second)
}

const ours = node => node?.comfyClass?.startsWith("AIOR_")

app.registerExtension({
    // Begins with the DisplayName of pyproject.toml, as comfy-test asks for.
    name: "aiorallinoneimagerestoration.text",
    beforeRegisterNodeDef(type, definition) {
        if (!definition.name.startsWith("AIOR_")) return
        const before = type.prototype.onExecuted
        type.prototype.onExecuted = function (output) {
            before?.apply(this, arguments)
            show(this, textsOf(output))
        }
    },
    // What ran before: another tab that is opened again, an undo, a run taken from the history.
    onNodeOutputsUpdated(outputs) {
        for (const [locator, output] of Object.entries(outputs)) {
            const node = nodeAt(locator)
            if (ours(node)) show(node, textsOf(output))
        }
    },
})
