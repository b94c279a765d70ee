"""Quantisation tables as cameras have them: those of the standard, and tables of other shapes from a
generator.

Six of ten cameras use tables that no quality of the IJG's library gives: steeper or flatter towards high
frequencies, symmetric, with chroma that is as fine as luma or much coarser. The generator bends the tables of
the standard by four numbers.
"""

import math

from ..draw import Draw
from ..jpeg import CHROMA, LUMA, scaled_table
from .chance import normal

# Share of odd tables among those that are not of the standard.
_ODD = 0.1


def standard_tables(quality: int) -> dict:
    """Return the luma and chroma steps of the IJG's library at `quality` (1..100).

    Raises ValueError outside of that range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"camera: JPEG quality is {quality}; expected a number in 1..100")
    return {"luma": list(scaled_table(LUMA, quality)), "chroma": list(scaled_table(CHROMA, quality))}


def draw_tables(draw: Draw, quality: float | None = None, standard: float = 0.35) -> dict:
    """Draw `{"luma": 64 steps, "chroma": 64 steps}` of about `quality`.

    quality: 1..100, or None for that of cameras, mostly 80 to 99. standard: the probability of the IJG's own
    tables.
    """
    if quality is None:
        quality = 100.0 - math.exp(normal(draw, 1.95, 0.75, 2.5))
    quality = min(100.0, max(1.0, quality))
    if draw.uniform() < standard:
        return standard_tables(round(quality))
    scale = 50.0 / quality if quality < 50.0 else 2.0 - quality / 50.0
    # Exponent of the standard's shape (1 is the standard, 0 is flat), share of a smooth symmetric ramp, and
    # exponent of that ramp.
    steep, ramp, bend = max(0.3, normal(draw, 1.0, 0.22, 2.5)), draw.uniform(), draw.uniform(0.6, 2.2)
    ramp = ramp if draw.uniform() < 0.4 else 0.0
    if draw.uniform() < _ODD:
        # Falling towards high frequencies, or many times as steep as the standard.
        steep, ramp = draw.choice((draw.uniform(-0.6, 0.1), draw.uniform(1.8, 4.5))), 0.0
    coarse = math.exp(normal(draw, 0.0, 0.35, 2.5))
    rough = abs(normal(draw, 0.0, 0.12))
    luma = _shape(draw, LUMA, scale, steep, ramp, bend, rough)
    return {"luma": luma, "chroma": _shape(draw, CHROMA, scale * coarse, steep, ramp, bend, rough)}


def nearest_quality(luma: list) -> float:
    """Return the IJG quality (1..100, may be fractional) that is equivalent to `luma` (64 steps, raster
    order).

    The steps of that quality have the same geometric mean.
    """
    wanted = sum(math.log(step) for step in luma) / 64.0
    low, high = 1.0, 100.0
    for _ in range(20):
        middle = (low + high) / 2.0
        scale = 50.0 / middle if middle < 50.0 else 2.0 - middle / 50.0
        mean = sum(math.log(min(255.0, max(1.0, step * scale))) for step in LUMA) / 64.0
        low, high = (middle, high) if mean > wanted else (low, middle)
    return round((low + high) / 2.0, 3)


def _shape(
    draw: Draw, base: tuple, scale: float, steep: float, ramp: float, bend: float, rough: float
) -> list:
    middle = math.exp(sum(math.log(step) for step in base) / 64.0)
    steps = []
    for index, step in enumerate(base):
        row, column = divmod(index, 8)
        smooth = middle * (0.25 + 1.1 * (math.hypot(row, column) / 7.0) ** bend)
        bent = middle * (step / middle) ** steep
        value = scale * bent ** (1.0 - ramp) * smooth**ramp
        if rough > 0.01:
            value *= math.exp(normal(draw, 0.0, rough))
        steps.append(min(255, max(1, round(value))))
    return steps
