"""Tiles of a latent with a halo.

A tile sees its core and a halo around it. If the halo is as wide as the receptive field of a convolutional
network, the network makes of the core exactly what it makes of it in the whole picture. Which halo a network
needs is worked out in `pipeline/receptive_field.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .geometry import unit_of

Box = tuple[int, int, int, int]
"""Top, left, bottom, right; bottom and right are exclusive."""


@dataclass(frozen=True)
class Region:
    """A tile, in latent pixels.

    Methods with a `scale` take tensors with `scale` pixels to a latent pixel.

    Attributes:
        core: the part whose result the tile gives.
        outer: the part that the tile sees: its core and a halo, within the picture.
    """

    core: Box
    outer: Box

    def see(self, x: Tensor, scale: int = 1) -> Tensor:
        """Crop what the tile sees out of the whole `x`, `... H W` (a view)."""
        top, left, bottom, right = (edge * scale for edge in self.outer)
        return x[..., top:bottom, left:right]

    def inner(self, x: Tensor, scale: int = 1) -> Tensor:
        """Crop the core out of `x`, which covers what the tile sees, `... h w` (a view)."""
        top, left = (self.core[0] - self.outer[0]) * scale, (self.core[1] - self.outer[1]) * scale
        height, width = (self.core[2] - self.core[0]) * scale, (self.core[3] - self.core[1]) * scale
        return x[..., top : top + height, left : left + width]

    def place(self, canvas: Tensor, part: Tensor, scale: int = 1) -> None:
        """Write `part`, which covers the core, into the whole `canvas`, `... H W`."""
        top, left, bottom, right = (edge * scale for edge in self.core)
        canvas[..., top:bottom, left:right] = part.to(canvas)

    def grown(self, halo: int, height: int, width: int) -> Region:
        """The tile with the same core that sees `halo` latent pixels around it.

        `height` and `width` are the latent's.
        """
        return Region(self.core, _grow(self.core, halo, height, width))

    def widened(self, halo: int, height: int, width: int) -> Region:
        """The tile whose core is all that this one sees, and that sees `halo` latent pixels more.

        `height` and `width` are the latent's.
        """
        return Region(self.outer, _grow(self.outer, halo, height, width))

    def within(self, wider: Region, x: Tensor, scale: int = 1) -> Tensor:
        """Crop what this tile sees out of `x`, which covers what the tile `wider` sees (a view)."""
        return Region(self.outer, wider.outer).inner(x, scale)


def seen(image: Tensor, region: Region, scale: int) -> Tensor:
    """The part of a picture that a tile sees, as networks take it.

    Takes an IMAGE `B H W 3`, 0..1, with `scale` pixels to a latent pixel. Returns a copy, `B 3 h w`, -1..1,
    float32.
    """
    return unit_of(region.see(image.movedim(-1, 1), scale).movedim(1, -1))


def regions(height: int, width: int, tile: int, halo: int) -> list[Region]:
    """Cut a latent into tiles whose cores cover it exactly once.

    Args:
        height, width: the latent's size.
        tile: the largest side of a core; 0 gives one tile for everything.
        halo: how many latent pixels a tile sees beyond its core, on every side that has as many.

    Returns:
        The tiles, row by row. Cores have nearly equal sizes.
    """
    rows, columns = _spans(height, tile), _spans(width, tile)
    cores = [(top, left, bottom, right) for top, bottom in rows for left, right in columns]
    return [Region(core, _grow(core, halo, height, width)) for core in cores]


def _grow(box: Box, halo: int, height: int, width: int) -> Box:
    """The box with `halo` more on every side, within `height` by `width`."""
    top, left, bottom, right = box
    return max(0, top - halo), max(0, left - halo), min(height, bottom + halo), min(width, right + halo)


def _spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Start and end of spans of nearly equal length that cover `length`, none longer than `tile`."""
    count = 1 if tile <= 0 else -(-length // tile)
    edges = [length * i // count for i in range(count + 1)]
    return list(zip(edges, edges[1:]))
