"""The field's own recipes of damage, as its papers make them: published sets, and what people expect, come
from them."""

from . import rain
from .style import Style

PUBLISHED = {**rain.STYLES}
"""Every style by its name."""

__all__ = ["PUBLISHED", "Style"]
