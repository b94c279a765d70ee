"""Runs ComfyUI's main.py with Python's garbage collector held back: `python start_comfyui.py MAIN.PY [FLAGS...]`.

Starting ComfyUI makes millions of objects that stay. With Python's own thresholds the collector walks them over and over
and takes about a fifth of the start.
"""

import gc
import runpy
import sys
from pathlib import Path

# Objects made before a collection looks at them. Python's own is 700; ComfyUI itself collects everything after a prompt.
YOUNG, MIDDLE, OLD = 50_000, 50, 50


def main(argv: list[str]) -> None:
    """Run the script `argv[0]` with the other arguments, as `python SCRIPT ...` does."""
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    sys.argv = argv
    # As `python main.py` has it. The portable ComfyUI's Python does not put a script's folder first: its first entry stays.
    own = Path(__file__).resolve().parent
    sys.path[:] = [
        str(Path(argv[0]).resolve().parent),
        *(entry for entry in sys.path if Path(entry).resolve() != own),
    ]
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
