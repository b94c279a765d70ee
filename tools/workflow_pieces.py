"""Parts of the tables of workflows and blueprints: nodes, columns, and the steps that nearly all have."""

from __future__ import annotations

from dataclasses import dataclass, field

# A group's title has the group's colour on a darker shade of it, so the colours are bright.
GREEN, BLUE, PURPLE, AMBER, GREY = "#5fbf7f", "#6fa8f0", "#b48cf0", "#e0ac50", "#b0b0b0"
# Wide enough for a line of the report.
REPORT_WIDTH, TEXT_WIDTH = 420, 420
UPSCALER = "RealESRGAN_x4plus.safetensors"


@dataclass(frozen=True)
class Node:
    """A node: its name in the table, its class, values of widgets, and links as `input="name.output"`.

    `more` is extra height in pixels for a larger picture.
    """

    name: str
    type: str
    inputs: dict = field(default_factory=dict)
    title: str = ""
    width: int = 320
    more: int = 0


@dataclass(frozen=True)
class Column:
    """Nodes from top to bottom. Neighbouring columns with one title share a group."""

    title: str
    color: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Workflow:
    """A workflow. `name` is that of its file. `note` is Markdown, shown on the left."""

    name: str
    note: str
    columns: tuple[Column, ...]
    note_height: int = 420


WALK = """**encode the prior -> fuse it while sampling -> decode with detail**

1. *Encode Degradation Prior* looks at the picture: features, and which damages it has.
2. *{sample}* makes a clean latent under the guidance of those features (DAFF).
3. *DAEM Decode* turns it into a picture with the input's own fine detail.

"""


def load() -> Column:
    return Column(
        "1 Photograph and model",
        GREEN,
        (
            Node("photo", "LoadImage", {"image": "example.png"}, title="The damaged photograph"),
            Node("compact", "AIOR_LoadCompact"),
        ),
    )


def prior(
    image: str = "photo.IMAGE", restorer: str = "compact.restorer", title: str = "2 What is wrong with it"
) -> Column:
    return Column(
        title,
        BLUE,
        (
            Node("prior", "AIOR_EncodePrior", {"restorer": restorer, "vae": "compact.vae", "image": image}),
            found(),
        ),
    )


def found(text: str = "prior.report", name: str = "found", title: str = "What was found") -> Node:
    """A node that shows a text."""
    return Node(name, "PreviewAny", {"source": text}, title=title, width=REPORT_WIDTH)


def apply() -> Node:
    return Node(
        "daff",
        "AIOR_ApplyDAFF",
        {"model": "compact.model", "restorer": "compact.restorer", "prior": "prior.prior"},
    )


def decode(samples: str, prior: str = "prior.prior", restorer: str = "compact.restorer") -> Node:
    return Node(
        "decode",
        "AIOR_DecodeDAEM",
        {"samples": samples, "vae": "compact.vae", "restorer": restorer, "prior": prior},
    )


def save(images: str = "decode.image", prefix: str = "AIOR", title: str = "The restored photograph") -> Node:
    return Node(
        "save", "SaveImage", {"images": images, "filename_prefix": prefix}, title=title, width=540, more=130
    )


def sampler(**inputs: str) -> Node:
    return Node(
        "sampler",
        "AIOR_DAFFSampler",
        {"model": "compact.model", "restorer": "compact.restorer", "prior": "prior.prior", **inputs},
    )


def beside(name: str, one: str, other: str, direction: str, title: str) -> Node:
    # The sizes are equal, so they are not matched: resizing a picture to its own size would round it to 8
    # bits.
    options = {"direction": direction, "match_image_size": False, "spacing_width": 8}
    return Node(name, "ImageStitch", {"image1": one, "image2": other, **options}, title=title)


def seen(images: str, title: str) -> Node:
    """A node that shows a picture of two halves, large, without saving it."""
    return Node("seen", "PreviewImage", {"images": images}, title=title, width=900, more=130)
