"""The subgraph blueprints: parts of the walk as single nodes, found by name in ComfyUI's node search."""

from __future__ import annotations

from dataclasses import dataclass

from .workflow_pieces import AMBER, BLUE, GREEN, PURPLE, Column, Node, decode, sampler


@dataclass(frozen=True)
class Port:
    """An input of a blueprint: a socket, or a widget if it has a `default`. Its nodes call it `in.NAME`."""

    name: str
    type: str
    default: object = None


@dataclass(frozen=True)
class Blueprint:
    """A blueprint. `name` is that of its file and its node. `outputs` maps names to `node.output`."""

    name: str
    description: str
    aliases: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: dict[str, str]
    columns: tuple[Column, ...]


ALIASES = ("AIOR", "restore", "repair", "denoise", "derain", "dehaze", "deblur", "low light", "enhance")
IMAGE = Port("image", "IMAGE")
TILE = Port("tile", "INT", 1024)
SETTINGS = (Port("steps", "INT", 4), Port("fidelity", "FLOAT", 0.0), Port("seed", "INT", 0))


def _model() -> Column:
    return Column("1 Model", GREEN, (Node("compact", "AIOR_LoadCompact"),))


def _prior(**more: str) -> Column:
    inputs = {"restorer": "compact.restorer", "vae": "compact.vae", "image": "in.image", **more}
    return Column("2 What is wrong with it", BLUE, (Node("prior", "AIOR_EncodePrior", inputs),))


def _sampler(**more: str) -> Node:
    return sampler(steps="in.steps", fidelity="in.fidelity", seed="in.seed", **more)


def _photo() -> Blueprint:
    return Blueprint(
        "Restore Photo",
        "Repairs a photograph with the bundled AIOR model: noise, blur, low resolution, rain, "
        "snow, haze, low light and JPEG damage, alone or "
        "mixed.",
        ALIASES,
        (IMAGE, *SETTINGS),
        {"image": "decode.image", "report": "prior.report"},
        (
            _model(),
            _prior(),
            Column("3 Sample", PURPLE, (_sampler(),)),
            Column("4 Decode", AMBER, (decode("sampler.latent"),)),
        ),
    )


def _large() -> Blueprint:
    whole = decode("sampler.latent")
    return Blueprint(
        "Restore Large Photo",
        "Repairs a large photograph in tiles, to save memory: one setting, tile, for all three "
        "steps, in pixels. The sampler's windows overlap, "
        "so that no seam shows.",
        (*ALIASES, "tile", "tiled", "large", "big", "memory"),
        (IMAGE, TILE, *SETTINGS),
        {"image": "decode.image", "report": "prior.report"},
        (
            _model(),
            _prior(tile="in.tile"),
            Column("3 Sample in tiles", PURPLE, (_sampler(tile="in.tile"),)),
            Column(
                "4 Decode in tiles",
                AMBER,
                (Node(whole.name, whole.type, {**whole.inputs, "tile": "in.tile"}),),
            ),
        ),
    )


def _masked() -> Blueprint:
    return Blueprint(
        "Restore Masked Area",
        "Repairs only what the mask covers; every pixel outside of it keeps its value. Paint the "
        "mask in the Mask Editor, or take one of Degradation Report.",
        (*ALIASES, "mask", "masked", "inpaint", "area", "selective"),
        (IMAGE, Port("mask", "MASK"), *SETTINGS),
        {"image": "decode.image", "report": "prior.report"},
        (
            _model(),
            _prior(),
            Column(
                "3 Sample under the mask",
                PURPLE,
                (
                    Node("masked", "SetLatentNoiseMask", {"samples": "prior.latent", "mask": "in.mask"}),
                    _sampler(latent="masked.LATENT"),
                ),
            ),
            Column("4 Decode", AMBER, (decode("sampler.latent"),)),
        ),
    )


BLUEPRINTS = (_photo(), _large(), _masked())
