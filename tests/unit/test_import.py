"""Importing the pack opens no connection, writes nothing and takes little time."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOUND = 0.15
"""Seconds of processor time with modules already compiled; 0.03 measured."""
LATER = {"kornia", "triton", "matplotlib", "scipy", "av"}
"""Packages that are slow to import. Training, metrics and charts import them where they use them."""
RUNNING = """
import utils.extra_config  # as main.py does, before nodes puts comfy/ and its own utils first on the path
import comfy.cli_args
comfy.cli_args.args.cpu = True
import comfy_extras.nodes_custom_sampler, comfy_extras.nodes_train, folder_paths, nodes, server
from comfy_api.latest import ComfyExtension, io
"""
"""What a server imports before it comes to the packs."""
WATCH = """
import asyncio, gc, importlib.util, json, os, socket, sys, time

folder = sys.argv[1]
seen, before = [], set(sys.modules)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = {f"os.{name}" for name in "mkdir rename remove rmdir symlink link truncate chmod".split()}
CHANGES.add("shutil.rmtree")
PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}


def opens_to_write(mode, flags):
    return flags & WRITES if isinstance(flags, int) else set(mode or "") & set("wax+")


def watch(event, arguments):
    if event.startswith("socket.") or event in CHANGES | PROGRAMS:
        what = " ".join(map(str, arguments))
    elif event == "open" and opens_to_write(*arguments[1:]):
        what = str(arguments[0])
    else:
        return
    # Python keeps what it compiled beside the sources, if it may.
    if "__pycache__" not in what:
        seen.append(f"{event} {what}")


class Forbidden:
    def __init__(self, *arguments, **options):
        seen.append("socket.socket")
        raise PermissionError("no sockets while the pack is imported")


async def load():
    root = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location("a_pack", root, submodule_search_locations=[folder])
    module = importlib.util.module_from_spec(spec)
    sys.modules["a_pack"] = module
    spec.loader.exec_module(module)
    extension = await module.comfy_entrypoint()
    return [node.GET_SCHEMA().node_id for node in await extension.get_node_list()]


# The loop has a pair of sockets of its own: it comes before the watch.
loop, real = asyncio.new_event_loop(), socket.socket
sys.addaudithook(watch)
socket.socket, error = Forbidden, ""
# A pause of the collector is for all that ComfyUI has imported.
gc.disable()
started, worked = time.perf_counter(), time.process_time()
try:
    names = loop.run_until_complete(load())
except PermissionError as refused:
    names, error = [], str(refused)
seconds, work = time.perf_counter() - started, time.process_time() - worked
socket.socket, seen = real, list(seen)
new = sorted({name.split(".")[0] for name in set(sys.modules) - before} - {"a_pack"})
result = {"seconds": seconds, "work": work, "seen": seen, "nodes": names, "new": new, "error": error}
print("RESULT " + json.dumps(result))
"""

ENTRY = """
try:
    {}
except OSError:
    pass


async def comfy_entrypoint():
    class Nothing:
        async def get_node_list(self):
            return []

    return Nothing()
"""


def load(folder: Path, *, first: str = "", path: Path | None = None, compiled: Path | None = None) -> dict:
    """Import the pack in `folder` as ComfyUI does, in a new process that has run `first`.

    Returns what the import did. `compiled` is the folder of compiled modules.
    """
    environment = {
        **os.environ,
        **({"PYTHONPATH": str(path)} if path else {}),
        **({"PYTHONPYCACHEPREFIX": str(compiled)} if compiled else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", first + WATCH, str(folder)],
        capture_output=True,
        text=True,
        cwd=path,
        env=environment,
        timeout=600,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr
    return json.loads(lines[0].removeprefix("RESULT "))


def test_the_pack_imports_without_connections_and_files_in_little_time(comfyui, tmp_path):
    places = [str(ROOT / name) for name in ("__init__.py", "nodes", "aior_core")]
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", *places],
        check=True,
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)},
    )
    told = load(ROOT, first=RUNNING, path=comfyui, compiled=tmp_path)
    new = ", ".join(told["new"]) or "none"
    print(
        f"\nThe pack's own import: {told['seconds']:.2f} s, {told['work']:.2f} s of the processor; "
        f"packages that ComfyUI had not imported: {new}"
    )
    assert not told["error"] and len(told["nodes"]) > 10 and "AIOR_EncodePrior" in told["nodes"]
    assert [event for event in told["seen"] if str(tmp_path) not in event] == []
    assert told["work"] < BOUND and not LATER & set(told["new"])


@pytest.mark.parametrize(
    "room", ["picture", "report", "metrics", "degradations", "models", "pipeline", "weights", "host"]
)
def test_slow_packages_are_imported_where_they_are_used(room):
    """ComfyUI's own nodes may have imported these before the pack, which the test above then does not see."""
    for path in (ROOT / "aior_core" / room).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not LATER & {name.split(".")[0] for name in names}, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import socket; socket.create_connection(('127.0.0.1', 9), 1)", "socket."),
        ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')", "socket."),
        ("open('{0}/mark', 'w')", "open {0}/mark"),
        ("import os; os.close(os.open('{0}/mark', os.O_CREAT | os.O_WRONLY))", "open {0}/mark"),
        ("import pathlib; pathlib.Path('{0}/place').mkdir()", "os.mkdir {0}/place"),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', ''])", "subprocess.Popen"),
    ],
)
def test_a_pack_that_connects_or_writes_is_found_out(tmp_path, line, found):
    pack = tmp_path / "pack"
    pack.mkdir()
    text = ENTRY.format(line.format(tmp_path))
    (pack / "__init__.py").write_text(text, encoding="utf-8")
    told = load(pack)
    assert any(event.startswith(found.format(tmp_path)) for event in told["seen"]), told
