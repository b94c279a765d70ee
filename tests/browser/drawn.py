"""Where the front end draws things, in coordinates of the graph, on the canvas and in Nodes 2.0."""

from __future__ import annotations

from dataclasses import dataclass

from tools.front_end import FrontEnd

_NODES = """() => {
    const scale = app.canvas.ds.scale, modern = LiteGraph.vueNodesMode, title = LiteGraph.NODE_TITLE_HEIGHT
    const pen = document.createElement('canvas').getContext('2d')
    pen.font = `${LiteGraph.NODE_TEXT_SIZE}px ${LiteGraph.NODE_FONT}`
    return app.graph._nodes.map(node => {
        const shown = modern ? document.querySelector(`[data-node-id="${node.id}"]`) : null
        const box = shown?.getBoundingClientRect()
        const width = box ? box.width / scale : node.size[0]
        const height = box ? box.height / scale : node.size[1] + title
        const [x, y] = [node.pos[0], node.pos[1] - title]
        // The title begins behind the dot that folds the node.
        const titleWidth = pen.measureText(node.getTitle()).width
        return [String(node.id), node.type, node.getTitle(), x, y, x + width, y + height, titleWidth,
                width - title - 10]
    })
}"""
_NOTES = """() => [...document.querySelectorAll(
        '.comfy-markdown, .comfy-markdown-content, .comfy-markdown .tiptap')]
    .filter(note => note.offsetParent).map(note => {
        const text = document.createRange(), scale = app.canvas.ds.scale
        text.selectNodeContents(note)
        return [note.innerText, text.getBoundingClientRect().height / scale,
                note.getBoundingClientRect().height / scale]
    })"""
_GROUPS = """() => app.graph._groups.map(group => {
    const pen = document.createElement('canvas').getContext('2d')
    pen.font = `${LiteGraph.GROUP_TEXT_SIZE}px ${LiteGraph.GROUP_FONT}`
    const [x, y, width, height] = group._bounding
    return [group.title, group.color, x, y, x + width, y + height, pen.measureText(group.title).width]
})"""
_LINKS = "() => [...app.graph.links.values()].map(link => [String(link.origin_id), String(link.target_id)])"


@dataclass(frozen=True)
class Box:
    """A rectangle with a title.

    `title_width` is the width of the drawn text, `title_room` the space for it.
    """

    id: str
    kind: str
    title: str
    left: float
    top: float
    right: float
    bottom: float
    title_width: float
    title_room: float

    def overlaps(self, other: Box) -> bool:
        """Whether they share more than an edge; a pixel is allowed for rounding."""
        return (
            self.left + 1 < other.right
            and other.left + 1 < self.right
            and self.top + 1 < other.bottom
            and other.top + 1 < self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right + 1
            and other.bottom <= self.bottom + 1
        )


def nodes(front: FrontEnd) -> dict[str, Box]:
    """The nodes by their ids, titles included in the boxes."""
    return {row[0]: Box(*row) for row in front.page.evaluate(_NODES)}


def groups(front: FrontEnd) -> list[Box]:
    """The groups; `kind` is the colour as #rrggbb."""
    return [
        Box(title, color, title, left, top, right, bottom, width, right - left - 10)
        for title, color, left, top, right, bottom, width in front.page.evaluate(_GROUPS)
    ]


def links(front: FrontEnd) -> list[tuple[str, str]]:
    """(node it starts at, node it ends at) of every link."""
    return [tuple(link) for link in front.page.evaluate(_LINKS)]


def notes(front: FrontEnd) -> list[tuple[str, float, float]]:
    """(text, height of the text, height that is shown) of every note."""
    return [tuple(note) for note in front.page.evaluate(_NOTES)]


def contrast(color: str, share: float = 0.4375, ground: int = 0x1C) -> float:
    """WCAG's contrast of a group's title with its bar.

    The title has the group's colour. The bar has `share` of it over the dark canvas (two layers of a
    quarter).
    """
    values = [int(color.lstrip("#")[i : i + 2], 16) for i in (0, 2, 4)]

    def luminance(rgb: list[float]) -> float:
        linear = [
            v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4
            for v in (value / 255 for value in rgb)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bar = [share * value + (1 - share) * ground for value in values]
    return (luminance(values) + 0.05) / (luminance(bar) + 0.05)
