"""Damage as the papers of the field make it. The published sets come from these recipes."""

from . import chains, clean, haze, low_light, mixtures, plain, rain, snow
from .style import Style

_FILES = (plain, rain, snow, haze, low_light, chains, mixtures, clean)
PUBLISHED = {name: style for file in _FILES for name, style in file.STYLES.items()}
"""Every style by its name."""


def of_kind(kind: str) -> dict[str, Style]:
    """Return the looks of one kind of damage by their names, without the plain form, which the kind has
    itself.
    """
    plain_names = set(plain.STYLES)
    return {
        name: style for name, style in PUBLISHED.items() if style.kind == kind and name not in plain_names
    }


__all__ = ["PUBLISHED", "Style", "of_kind"]
