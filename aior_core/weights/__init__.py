"""Files to networks and back: safe loading, configuration from shapes, saving in shards."""

from .detect import config_from, describe, on_meta, part, require_fit
from .families.sdxl import Published, is_published, split_published
from .load import load_checkpoint, load_weights
from .save import as_saved, save_weights
from .tensor_checks import require_finite

__all__ = [
    "Published",
    "as_saved",
    "config_from",
    "describe",
    "is_published",
    "load_checkpoint",
    "load_weights",
    "on_meta",
    "part",
    "require_finite",
    "require_fit",
    "save_weights",
    "split_published",
]
