"""The field's own recipes of damage, as its papers make them: published sets come from them."""

from . import haze, low_light, rain, snow
from .style import Style

PUBLISHED = {**rain.STYLES, **low_light.STYLES, **haze.STYLES, **snow.STYLES}
"""Every style by its name."""

__all__ = ["PUBLISHED", "Style"]
