"""The start of ComfyUI's main.py: as by Python itself, with fewer garbage collections."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "scripts" / "start_comfyui.py"
MAIN = (
    "import beside, gc, json, sys; print(json.dumps([__name__, sys.argv, sys.path, "
    "gc.get_threshold()[0], beside.__file__]))"
)


def printed(*command: object) -> list:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("flags", [(), ("-I",)], ids=["plain", "isolated, as in the portable ComfyUI"])
def test_main_runs_as_by_python_itself_and_no_entry_of_the_path_is_lost(tmp_path, flags):
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "beside.py").touch()
    entries = printed(
        *flags, "-c", "import json, sys; print(json.dumps([entry for entry in sys.path if entry]))"
    )

    name, argv, path, young, beside = printed(*flags, LAUNCHER, tmp_path / "main.py", "--port", "1")

    assert (name, argv) == ("__main__", [str(tmp_path / "main.py"), "--port", "1"])
    assert Path(path[0]) == Path(beside).parent == tmp_path.resolve()
    assert path[1:] == entries
    assert young > 10_000
