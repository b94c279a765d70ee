"""The field's own recipes of damage, as its papers make them: published sets come from them."""

from . import haze, low_light, rain, snow
from .style import Style

PUBLISHED = {**rain.STYLES, **low_light.STYLES, **haze.STYLES, **snow.STYLES}
"""Every style by its name."""


def of_kind(kind: str) -> dict[str, Style]:
    """The styles of one kind of damage, by their names."""
    return {name: style for name, style in PUBLISHED.items() if style.kind == kind}


__all__ = ["PUBLISHED", "Style", "of_kind"]
