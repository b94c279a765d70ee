"""Looks that belong to no single kind.

A "mixture" does several kinds of damage at once. A "clean" look changes a picture and damages nothing.
"""

from __future__ import annotations

import torch

from .draw import Draw
from .film import LOOKS, apply_look, draw_look
from .photograph import NestedStyle
from .published import of_kind


def _draw_film(draw: Draw, severity: float) -> dict:
    return {"look": draw_look(draw, draw.choice(LOOKS[1:]))}


def _film(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    return apply_look(picture, params["look"], seed)


FILM = NestedStyle(
    "clean",
    "black and white, sepia, faded dyes, a print: what an old picture is, without its grain",
    _draw_film,
    _film,
    {"gamma": (0.05, 10.0), "black": (0.0, 1.0), "white": (0.0, 1.0), "mono": (-1.0, 2.0)},
    said=lambda params: {},
    share=2.0,
)
APART = {"mixture": of_kind("mixture"), "clean": {**of_kind("clean"), "film": FILM}}
"""The looks by their names, for each of the two words that a step may have in place of a kind."""
