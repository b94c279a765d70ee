"""Tiles: exact ones with a halo for convolutional networks, overlapping ones for joint diffusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

KEY = "aior_tiles"
MINIMUM = 16


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
        return x[..., top : top + (self.core[2] - self.core[0]) * scale, left : left + (self.core[3] - self.core[1]) * scale]

    def place(self, canvas: Tensor, part: Tensor, scale: int = 1) -> None:
        """Write the core's pixels `part` into `canvas`."""
        top, left, bottom, right = (edge * scale for edge in self.core)
        canvas[..., top:bottom, left:right] = part.to(canvas)

    def widened(self, halo: int, height: int, width: int) -> Region:
        """The tile whose core is what this one sees, and which sees `halo` more; the picture is `height` by `width`."""
        return Region(self.outer, _grow(self.outer, halo, height, width))


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


def windows(length: int, tile: int, overlap: int) -> list[int]:
    """Starts of windows of `tile` over `length`, evenly spread, at least `overlap` shared by neighbours."""
    if tile >= length:
        return [0]
    count = 1 - (-(length - tile) // max(1, tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def window_weight(tile: int, overlap: int, *, first: bool, last: bool) -> Tensor:
    """Weights of one window, `tile`: raised cosine over `overlap` pixels, symmetric, flat at the picture's own borders."""
    position = torch.arange(tile, dtype=torch.float32) + 0.5
    ramp = torch.sin((position / overlap).clamp(max=1.0) * (torch.pi / 2)).square()
    weight = torch.ones(tile)
    if not first:
        weight = weight * ramp
    if not last:
        weight = weight * ramp.flip(0)
    return weight


def in_windows(function: Callable[[slice, slice], Tensor], like: Tensor, tile: int, overlap: int) -> Tensor:
    """Blend `function(rows, columns)` (`B C tile tile`) over all windows of `like` (`B C H W`)."""
    height, width = like.shape[-2:]
    rows, columns = windows(height, tile, overlap), windows(width, tile, overlap)
    total: Tensor | None = None
    weights = torch.zeros(height, width, device=like.device)
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            at = slice(top, min(top + tile, height)), slice(left, min(left + tile, width))
            out = function(*at)
            vertical = window_weight(out.shape[-2], overlap, first=i == 0, last=i == len(rows) - 1)
            horizontal = window_weight(out.shape[-1], overlap, first=j == 0, last=j == len(columns) - 1)
            weight = torch.outer(vertical, horizontal).to(like.device)
            if total is None:
                total = torch.zeros(*out.shape[:-2], height, width, device=like.device)
            total[..., at[0], at[1]] += out.float() * weight
            weights[at] += weight
    return (total / weights).to(like.dtype)


@dataclass(frozen=True, eq=False)
class TiledDenoiser:
    """A DIFFUSION_MODEL wrapper: at every step, the denoiser runs on overlapping windows and its predictions are blended.

    Everything of the latent's size among the arguments, the prior above all, is cut with the window.
    """

    tile: int
    overlap: int

    def __call__(self, executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        if max(x.shape[-2:]) <= self.tile:
            return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
        if control is not None:
            raise ValueError("DAFF Sampler: a ControlNet does not go together with tile. Set tile to 0, or leave the ControlNet out.")

        def run(rows: slice, columns: slice) -> Tensor:
            cut = {
                key: value[..., rows, columns] if torch.is_tensor(value) and value.shape[2:] == x.shape[2:] else value
                for key, value in kwargs.items()
            }
            return executor(x[..., rows, columns], timesteps, context, y, None, transformer_options.copy(), **cut)

        return in_windows(run, x, self.tile, self.overlap)


def with_tiles(model: ModelPatcher, tile: int) -> ModelPatcher:
    """A clone of MODEL whose denoiser sees at most `tile` latent pixels a side. It must be called before DAFF is applied."""
    model = model.clone()
    tile = max(tile, MINIMUM)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, TiledDenoiser(tile, tile // 4))
    return model
