"""Files to networks and back: safe loading, configuration from shapes, saving in shards."""

from .detect import config_from, describe, part, require_fit
from .load import load_weights
from .save import save_weights

__all__ = ["config_from", "describe", "load_weights", "part", "require_fit", "save_weights"]
