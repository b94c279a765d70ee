"""Transport: what happens to a developed picture on its way: resizing, coding, cropping, coding again."""

import functools
import math

import torch
import torch.nn.functional as F

from ..draw import Draw
from .chance import require
from .codecs import SUBSAMPLINGS, code_jpeg, code_webp
from .tables import draw_tables, nearest_quality

KERNELS = ("bicubic", "bilinear", "area", "lanczos", "nearest")
STEPS = ("resize", "jpeg", "webp", "round")
NO_TRANSPORT = {"steps": [], "enlarge": "bicubic"}


def draw_transport(
    draw: Draw, quality: float | None = None, scale: float | None = None, twice: bool | None = None
) -> dict:
    """Draw what happens to one file.

    quality: 1..100, of the last coding. None: as cameras code.
    scale: how many times smaller the picture becomes for good. None or 1: it keeps its size.
    twice: whether it is coded twice. None: three of ten files are. For the second coding the grid is shifted,
        as after a crop, or the picture was larger in the first one.
    """
    twice = draw.uniform() < 0.3 if twice is None else twice
    size = round(1.0 / scale, 6) if scale is not None and scale > 1.0 else 1.0
    steps = []
    if twice:
        larger = round(size * draw.uniform(1.1, 2.0), 6) if draw.uniform() < 0.4 else size
        first = max(quality + draw.uniform(-10.0, 25.0), 5.0) if quality is not None else None
        if larger != 1.0:
            steps.append({"do": "resize", "size": larger, "kernel": _draw_kernel(draw)})
        steps.append(_draw_jpeg(draw, first, camera=True))
        if larger != size:
            steps.append({"do": "resize", "size": size, "kernel": _draw_kernel(draw)})
    elif size != 1.0:
        steps.append({"do": "resize", "size": size, "kernel": _draw_kernel(draw)})
    if draw.uniform() < 0.12:
        webp = quality if quality is not None else draw.uniform(60.0, 95.0)
        steps.append({"do": "webp", "quality": min(100.0, webp), "shift": _draw_shift(draw)})
    else:
        steps.append(_draw_jpeg(draw, quality, camera=not twice))
    return {"steps": steps, "enlarge": draw.choice(("bicubic", "bilinear", "lanczos"), (0.6, 0.25, 0.15))}


def apply_transport(picture: torch.Tensor, params: dict, seed: int = 0) -> torch.Tensor:
    """Send `picture` (`B 3 H W`, display values 0..1) through the steps.

    It comes back in its own size and in 8 bits; without steps it is returned as it is. Nothing is random, so
    `seed` is unused. Raises ValueError for an unknown step or kernel.
    """
    height, width = picture.shape[-2:]
    now = picture
    for step in params["steps"]:
        name = step["do"]
        if name == "resize":
            require("a resize", step, size=(1.0 / 64.0, 4.0))
            target = tuple(max(8, round(side * step["size"])) for side in (height, width))
            now = resize(now, target, step["kernel"])
        elif name == "jpeg":
            now = code_jpeg(
                now, step["luma"], step["chroma"], step["subsampling"], step["shift"], step["smooth"]
            )
        elif name == "webp":
            now = code_webp(now, step["quality"], step["shift"])
        elif name == "round":
            now = round_to_bytes(now)
        else:
            raise ValueError(
                f"camera: unknown step of transport {name!r}; expected one of {', '.join(STEPS)}"
            )
    if now.shape[-2:] != picture.shape[-2:]:
        now = round_to_bytes(resize(now, (height, width), params["enlarge"]))
    return now


def transport_labels(params: dict) -> dict:
    """Return what the steps amount to: `quality`, `scale` and `codings`.

    The quality is that of the worst coding on the scale of the IJG, or None without one. The scale is that of
    the smallest size, 1 or more.
    """
    qualities = [nearest_quality(step["luma"]) for step in params["steps"] if step["do"] == "jpeg"]
    qualities += [float(step["quality"]) for step in params["steps"] if step["do"] == "webp"]
    sizes = [step["size"] for step in params["steps"] if step["do"] == "resize"]
    return {
        "quality": min(qualities, default=None),
        "scale": round(1.0 / min([1.0, *sizes]), 6),
        "codings": len(qualities),
    }


def round_to_bytes(picture: torch.Tensor) -> torch.Tensor:
    """Clamp to 0..1 and round to multiples of 1/255."""
    return (picture.clamp(0.0, 1.0) * 255.0).round() / 255.0


def resize(picture: torch.Tensor, size: tuple, kernel: str) -> torch.Tensor:
    """Resize `B C H W` to `size` (height, width); the result is clamped to 0..1.

    Kernels widen when the picture shrinks, except "nearest".
    """
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    if kernel == "nearest":
        return F.interpolate(picture, size=size, mode="nearest-exact")
    if kernel == "area":
        shrinks = size[0] <= picture.shape[-2]
        return (
            F.interpolate(picture, size=size, mode="area") if shrinks else resize(picture, size, "bilinear")
        )
    if kernel == "lanczos":
        return _lanczos(_lanczos(picture, size[0], -2), size[1], -1).clamp(0.0, 1.0)
    if kernel not in KERNELS:
        raise ValueError(f"camera: unknown kernel {kernel!r}; expected one of {', '.join(KERNELS)}")
    return F.interpolate(picture, size=size, mode=kernel, align_corners=False, antialias=True).clamp(0.0, 1.0)


def _lanczos(picture: torch.Tensor, new: int, axis: int) -> torch.Tensor:
    """Resample one axis to `new` pixels by Lanczos' kernel with three lobes; borders are replicated."""
    old = picture.shape[axis]
    widen = max(1.0, old / new)
    centre = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * (old / new) - 0.5
    reach = math.ceil(3.0 * widen)
    places = centre.floor() + torch.arange(1 - reach, reach + 1, dtype=torch.float64)
    distance = (places - centre) / widen
    weights = torch.sinc(distance) * torch.sinc(distance / 3.0) * (distance.abs() < 3.0)
    weights = (weights / weights.sum(1, keepdim=True)).to(picture)
    places = places.clamp(0, old - 1).long().to(picture.device)
    shape = (new, 1) if axis == -2 else (new,)
    taps = [
        picture.index_select(axis, places[:, tap]) * weights[:, tap].view(shape)
        for tap in range(places.shape[1])
    ]
    return functools.reduce(torch.add, taps)


def _draw_kernel(draw: Draw) -> str:
    return draw.choice(KERNELS, (0.35, 0.2, 0.2, 0.2, 0.05))


def _draw_shift(draw: Draw) -> list:
    return [int(draw.uniform(0.0, 15.999)), int(draw.uniform(0.0, 15.999))]


def _draw_jpeg(draw: Draw, quality: float | None, camera: bool) -> dict:
    """Draw a JPEG coding of a camera, or of a program.

    Cameras use 4:2:2 and 4:2:0 equally often, and tables of their own. Programs and messengers mostly use
    4:2:0 and the tables of the IJG.
    """
    shares = (0.16, 0.4, 0.04, 0.4) if camera else (0.2, 0.08, 0.0, 0.72)
    return {
        "do": "jpeg",
        **draw_tables(draw, quality, standard=0.35 if camera else 0.8),
        "subsampling": draw.choice(tuple(SUBSAMPLINGS), shares),
        "shift": _draw_shift(draw),
        "smooth": draw.uniform() < 0.8,
    }
