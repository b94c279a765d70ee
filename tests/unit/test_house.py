"""Who may import whom, and how files look: the house rules of ARCHITECTURE.md, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "aior_core"
HOST_MODULES = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "comfy_execution",
    "comfy_config",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
    "execution",
}
ALLOWED = {
    "models": {"models"},
    "picture": {"picture"},
    "degradations": {"degradations"},
    "metrics": {"metrics"},
    "report": {"report", "picture", "degradations", "metrics", "pipeline", "models"},
    "pipeline": {"pipeline", "models", "picture", "degradations"},
    "weights": {"weights", "models"},
    "host": {"host", "pipeline", "weights", "models", "picture", "degradations", "report"},
    "training": {
        "training",
        "pipeline",
        "host",
        "weights",
        "degradations",
        "metrics",
        "models",
        "picture",
        "report",
    },
}
WITHOUT_COMFY = set(ALLOWED) - {"host", "training"}
EVERYWHERE = {"atomic"}
"""Modules of `aior_core` that all rooms may import: they need the standard library only."""
SHARED = {"sockets", "named_errors"}
"""Modules of `nodes/` that the nodes share."""
SKIPPED = {".host", ".git", "__pycache__"}


def python_files(folder: Path):
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name not in SKIPPED:
            yield from python_files(entry)
        elif entry.suffix == ".py":
            yield entry


def imports(path: Path):
    """Of every import: absolute module or None, path in the repository of a relative one or None, line."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module, None, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield None, (*base, *name.split(".")), node.lineno


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_only_whom_they_may(room):
    for path in python_files(CORE / room):
        for absolute, relative, line in imports(path):
            where = f"{path.relative_to(ROOT)}:{line}"
            if relative is not None:
                assert relative[0] == "aior_core", f"{where} imports {relative}"
                allowed = ALLOWED[room] | EVERYWHERE
                assert len(relative) < 2 or relative[1] in allowed, f"{where} imports {relative}"
            elif room in WITHOUT_COMFY:
                assert absolute.split(".")[0] not in HOST_MODULES, f"{where} imports {absolute}"


def test_every_room_has_a_rule():
    rooms = {path.name for path in CORE.iterdir() if path.is_dir() and path.name not in SKIPPED}
    assert rooms <= set(ALLOWED)


HOST_LINES = 2000
"""The host room holds only what needs ComfyUI; all else belongs in `pipeline/`."""


def test_the_host_room_holds_only_what_needs_comfyui():
    files = {path.stem: path for path in python_files(CORE / "host")}
    needs = {
        name: {absolute.split(".")[0] for absolute, _, _ in imports(path) if absolute}
        for name, path in files.items()
    }
    neighbours = {
        name: {
            relative[2]
            for _, relative, _ in imports(path)
            if relative and relative[1:2] == ("host",) and relative[2:]
        }
        for name, path in files.items()
    }
    direct = {name for name in files if needs[name] & HOST_MODULES}
    for name in set(files) - direct - {"__init__"}:
        assert neighbours[name] & direct, f"host/{name}.py needs no ComfyUI: it belongs in pipeline/"
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files.values())
    assert lines < HOST_LINES, f"host/ has {lines} lines; move what needs no ComfyUI to pipeline/"


PROGRAMS = {
    "scripts": {"scripts"},
    "tools": {"tools", "scripts", "aior_core"},
    "benchmarks": {"benchmarks"},
}
"""Folders beside the pack, and which of them each may import. Benchmarks import the pack by `_host.room`."""
SHARED_WITH_SCRIPTS = {"aior_core.atomic"}
"""Modules of the pack that scripts import. Like scripts, they need the standard library only."""
STARTS_COMFYUI = {"_host.py", "sdxl_cache.py"}
"""Benchmarks that import ComfyUI's modules, inside functions, after they have set its device."""
OURS = {"aior_core", "nodes", "aior", "aior_pack", *PROGRAMS}


@pytest.mark.parametrize("folder", sorted(PROGRAMS))
def test_programs_import_only_what_they_may(folder):
    for path in python_files(ROOT / folder):
        for absolute, relative, line in imports(path):
            root = relative[0] if relative is not None else absolute.split(".")[0]
            allowed = root in PROGRAMS[folder] or root not in OURS or absolute in SHARED_WITH_SCRIPTS
            assert allowed, f"{path.relative_to(ROOT)}:{line} imports {absolute or relative}"


def test_scripts_and_what_they_share_need_the_standard_library_only():
    shared = [ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in SHARED_WITH_SCRIPTS]
    shared.append(CORE / "picture" / "suffixes.py")
    for path in [ROOT / "aior.py", *python_files(ROOT / "scripts"), *shared]:
        for absolute, _, line in imports(path):
            root = (absolute or "scripts").split(".")[0]
            known = root in sys.stdlib_module_names or root == "scripts" or absolute in SHARED_WITH_SCRIPTS
            assert known, f"{path.relative_to(ROOT)}:{line} imports {absolute}"


def test_only_what_starts_comfyui_imports_it_outside_of_the_pack():
    for folder in sorted(PROGRAMS):
        for path in python_files(ROOT / folder):
            for absolute, _, line in imports(path):
                host = absolute is not None and absolute.split(".")[0] in HOST_MODULES
                assert not host or path.name in STARTS_COMFYUI, f"{path.name}:{line} imports {absolute}"


def test_nothing_of_ours_is_imported_by_an_absolute_name():
    for path in [*python_files(CORE), *python_files(ROOT / "nodes"), ROOT / "__init__.py"]:
        for absolute, _, line in imports(path):
            assert absolute is None or absolute.split(".")[0] not in {
                "aior_core",
                "nodes",
                "aior",
                "aior_pack",
            }, f"{path}:{line}"


def test_nodes_import_only_the_core_and_the_node_api():
    for path in python_files(ROOT / "nodes"):
        for absolute, relative, line in imports(path):
            where = f"{path.name}:{line}"
            if relative is not None:
                assert relative[0] == "aior_core" or path.name == "__init__.py" or relative[-1] in SHARED, (
                    f"{where} imports {relative}: nodes know no other node"
                )
            elif path.stem not in SHARED:
                assert absolute in {"comfy_api.latest", "__future__"}, f"{where} imports {absolute}"


def test_nodes_hold_no_tensor_maths():
    for path in python_files(ROOT / "nodes"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "execute":
                length = node.end_lineno - node.body[0].lineno + 1
                assert length <= 20, f"{path.name}: execute has {length} lines; the work belongs in aior_core"


def test_the_root_is_an_entry_and_nothing_else():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    functions = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    ]
    names = [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert functions == ["comfy_entrypoint"] and set(names) <= {"WEB_DIRECTORY", "__all__"}


def rooms_named(path: Path):
    """(dotted name, line) of every part of the pack that a benchmark imports by name.

    These are calls such as `room("aior_core.metrics")`, or `room(f"aior_core.{name}")` in a generator over a
    literal tuple of names.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "room":
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value, node.lineno
        elif isinstance(node, ast.GeneratorExp) and ast.unparse(node.elt).startswith("room(f"):
            loop = node.generators[0]
            if isinstance(loop.iter, ast.Tuple):
                before, _ = node.elt.args[0].values
                for name in ast.literal_eval(loop.iter):
                    yield before.value + name, node.lineno


def test_benchmarks_import_modules_that_exist():
    found = [(path, *named) for path in python_files(ROOT / "benchmarks") for named in rooms_named(path)]
    assert len(found) > 50
    for path, name, line in found:
        place = ROOT.joinpath(*name.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), (
            f"{path.name}:{line} imports {name}"
        )
