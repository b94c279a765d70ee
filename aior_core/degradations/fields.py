"""Random fields from a seed: smooth fields, fractal noise, ramps, masks, splatted points.

Everything random is drawn on the CPU, so that a recipe gives the same picture on every device.
"""

import math

import torch
import torch.nn.functional as F

MASK_KINDS = ("half", "field")
PATCH_KINDS = (*MASK_KINDS, "boxes")
"""Kinds of masks for patches. "boxes" are a few upright boxes with hard edges."""
MASK_PARTS = {"kind", "seed", "rest"}
CHUNK = 2**22
"""Largest number of elements in one temporary tensor of code that draws many small things: 16 MiB in fp32."""


def chunk_rows(columns: int) -> int:
    """Return how many rows of `columns` numbers fit into `CHUNK`.

    It is a multiple of 64, so that vector units treat chunks as they treat the whole.
    """
    return max(64, CHUNK // columns // 64 * 64)


def sides(picture: torch.Tensor) -> tuple[int, int]:
    """Return the height and width of `... H W`."""
    height, width = picture.shape[-2:]
    return height, width


def stream(seed: int) -> torch.Generator:
    """Return a CPU generator at `seed`. All random fields of this package come from such generators."""
    return torch.Generator().manual_seed(int(seed))


def smooth_field(height: int, width: int, generator: torch.Generator, cells: int = 3) -> torch.Tensor:
    """Return a field `H W` with about `cells` bumps per side at any size, roughly uniform in 0..1."""
    grid = torch.rand(1, 1, cells + 1, cells + 1, generator=generator)
    field = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=True)
    return field[0, 0].clamp(0.0, 1.0)


def fractal_noise(
    height: int, width: int, generator: torch.Generator, octaves: int = 4, cells: int = 2
) -> torch.Tensor:
    """Return `H W`: the sum of `octaves` smooth fields, each twice as fine and half as strong, stretched to
    0..1.
    """
    total = torch.zeros(height, width)
    for octave in range(octaves):
        total += smooth_field(height, width, generator, cells * 2**octave) * 0.5**octave
    low, high = total.min(), total.max()
    return (total - low) / (high - low).clamp_min(1e-6)


def plane(height: int, width: int, angle: float) -> torch.Tensor:
    """Return a ramp `H W` in 0..1 that rises in the direction `angle` (degrees; 90 is down, -90 is up)."""
    radians = math.radians(angle)
    rows = torch.linspace(-1.0, 1.0, height)[:, None] * math.sin(radians)
    columns = torch.linspace(-1.0, 1.0, width)[None, :] * math.cos(radians)
    reach = abs(math.sin(radians)) + abs(math.cos(radians))
    return (rows + columns) / (2.0 * reach) + 0.5


def mask_field(height: int, width: int, mask: dict) -> torch.Tensor:
    """Return a mask `H W` in 0..1 of `{"seed": int, "kind": "half"
    "field"
    "boxes"}`.

    With `"rest": True` it is 1 minus that mask.
    """
    if mask.get("rest"):
        return 1.0 - mask_field(height, width, {**mask, "rest": False})
    generator = stream(mask["seed"])
    if mask["kind"] == "half":
        angle, place, soft = torch.rand(3, generator=generator).tolist()
        ramp = plane(height, width, angle * 360.0)
        return torch.sigmoid((ramp - (0.3 + 0.4 * place)) / (0.02 + 0.1 * soft))
    if mask["kind"] == "boxes":
        return _boxes(height, width, generator)
    field = fractal_noise(height, width, generator, octaves=2, cells=2)
    step = ((field - 0.3) / 0.4).clamp(0.0, 1.0)
    return step * step * (3.0 - 2.0 * step)


def _boxes(height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Return `H W` with one to three boxes of 1, each a quarter to three quarters of the picture wide and
    high.
    """
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    mask = torch.zeros(height, width)
    for _ in range(1 + int(torch.rand((), generator=generator) * 3)):
        tall, wide, top, left = torch.rand(4, generator=generator).tolist()
        tall, wide = 0.25 + 0.5 * tall, 0.25 + 0.5 * wide
        top, left = top * (1.0 - tall), left * (1.0 - wide)
        mask[(rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)] = 1.0
    return mask


def splat(height: int, width: int, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Add points at fractional `x` and `y` (any equal shape) to a canvas `H W`, each shared among four
    pixels.
    """
    x, y, weight = x.reshape(-1), y.reshape(-1), weight.reshape(-1)
    inside = (x > -1.0) & (x < width) & (y > -1.0) & (y < height)
    x, y, weight = x[inside], y[inside], weight[inside]
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    # A border of one pixel takes what falls off the edge.
    stride = width + 2
    index = (top.long() + 1) * stride + left.long() + 1
    canvas = torch.zeros((height + 2) * stride)
    canvas.index_add_(0, index, weight * (1 - right_share) * (1 - bottom_share))
    canvas.index_add_(0, index + 1, weight * right_share * (1 - bottom_share))
    canvas.index_add_(0, index + stride, weight * (1 - right_share) * bottom_share)
    canvas.index_add_(0, index + stride + 1, weight * right_share * bottom_share)
    return canvas.view(height + 2, stride)[1:-1, 1:-1]
