"""Pictures as tensors and as files: layout, size, colour, masks, tiles, reading and writing.

The room imports no other room.
"""

from .color import adain_color, match_color, wavelet_color
from .distance import distance_of
from .geometry import (
    Geometry,
    crop_back,
    from_unit,
    join_alpha,
    pad_to_multiple,
    require_pixels,
    split_alpha,
    to_unit,
    unit_of,
)
from .mask import feathered

__all__ = [
    "Geometry",
    "adain_color",
    "crop_back",
    "distance_of",
    "feathered",
    "from_unit",
    "join_alpha",
    "match_color",
    "pad_to_multiple",
    "require_pixels",
    "split_alpha",
    "to_unit",
    "unit_of",
    "wavelet_color",
]
