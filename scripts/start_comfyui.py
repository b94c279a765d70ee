"""Runs ComfyUI's main.py with fewer garbage collections: `python start_comfyui.py MAIN.PY [FLAGS...]`.

The start of ComfyUI makes millions of objects that stay. With Python's own thresholds the garbage collector
visits them again and again, which takes about a fifth of the start.
"""

import gc
import runpy
import sys
from pathlib import Path

# The thresholds of gc.set_threshold. Python's own first one is 700. ComfyUI collects everything after each
# prompt.
YOUNG, MIDDLE, OLD = 50_000, 50, 50


def main(argv: list[str]) -> None:
    """Run the script `argv[0]` with the other arguments, as `python SCRIPT ...` does."""
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    sys.argv = argv
    # `python main.py` puts main.py's folder first on the path. The Python of the portable ComfyUI puts no
    # script's folder there, so its first entry stays.
    own = Path(__file__).resolve().parent
    sys.path[:] = [
        str(Path(argv[0]).resolve().parent),
        *(entry for entry in sys.path if Path(entry).resolve() != own),
    ]
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
