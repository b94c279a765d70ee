"""Exact tiles: regions of a latent with a halo as wide as a convolutional network reaches."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from . import unit_of


@dataclass(frozen=True)
class Region:
    """A tile, in latent pixels: `core` is what it is responsible for, `outer` what it sees; (top, left, bottom, right) each."""

    core: tuple[int, int, int, int]
    outer: tuple[int, int, int, int]

    def see(self, x: Tensor, scale: int = 1) -> Tensor:
        """The part of `x` (`B C H W`, `scale` pixels to the latent pixel) that the tile sees."""
        top, left, bottom, right = (edge * scale for edge in self.outer)
        return x[..., top:bottom, left:right]

    def inner(self, x: Tensor, scale: int = 1) -> Tensor:
        """Of what the tile sees, its core."""
        top, left = (self.core[0] - self.outer[0]) * scale, (self.core[1] - self.outer[1]) * scale
        return x[
            ...,
            top : top + (self.core[2] - self.core[0]) * scale,
            left : left + (self.core[3] - self.core[1]) * scale,
        ]

    def place(self, canvas: Tensor, part: Tensor, scale: int = 1) -> None:
        """Write the core's pixels `part` into `canvas`."""
        top, left, bottom, right = (edge * scale for edge in self.core)
        canvas[..., top:bottom, left:right] = part.to(canvas)

    def grown(self, halo: int, height: int, width: int) -> Region:
        """The same core, with a sight of `halo` more on every side; the picture is `height` by `width`."""
        return Region(self.core, _grow(self.core, halo, height, width))

    def widened(self, halo: int, height: int, width: int) -> Region:
        """The tile whose core is what this one sees, and which sees `halo` more; the picture is `height` by `width`."""
        return Region(self.outer, _grow(self.outer, halo, height, width))

    def within(self, wider: Region, x: Tensor, scale: int = 1) -> Tensor:
        """What this tile sees, of `x`, which is what `wider` sees."""
        return Region(self.outer, wider.outer).inner(x, scale)


def seen(image: Tensor, region: Region, scale: int) -> Tensor:
    """What a tile sees of an IMAGE `B H W 3`, 0..1, `scale` pixels to the latent pixel -> picture `B 3 h w`, -1..1, a copy."""
    return unit_of(region.see(image.movedim(-1, 1), scale).movedim(1, -1))


def regions(height: int, width: int, tile: int, halo: int) -> list[Region]:
    """Tiles of at most `tile` whose cores cover the latent once, each seeing `halo` more on every side that has more.

    With a halo as large as a network's reach, what each tile makes of its core is what the whole picture would have made.
    `tile` 0 is one tile for everything.
    """
    rows, columns = _spans(height, tile), _spans(width, tile)
    cores = [(top, left, bottom, right) for top, bottom in rows for left, right in columns]
    return [Region(core, _grow(core, halo, height, width)) for core in cores]


def _grow(box: tuple[int, int, int, int], halo: int, height: int, width: int) -> tuple[int, int, int, int]:
    top, left, bottom, right = box
    return max(0, top - halo), max(0, left - halo), min(height, bottom + halo), min(width, right + halo)


def _spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Spans of nearly equal length, none longer than `tile`."""
    count = 1 if tile <= 0 else -(-length // tile)
    edges = [length * i // count for i in range(count + 1)]
    return list(zip(edges, edges[1:]))
