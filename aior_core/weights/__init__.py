"""Files to networks and back: safe loading, configuration from shapes, saving in shards."""

from .detect import config_from, describe, part, require_fit
from .load import load_checkpoint, load_weights
from .save import save_weights
from .unildiff import Published, is_published, split_published

__all__ = [
    "Published",
    "config_from",
    "describe",
    "is_published",
    "load_checkpoint",
    "load_weights",
    "part",
    "require_fit",
    "save_weights",
    "split_published",
]
