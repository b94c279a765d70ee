"""What is promised of Python's versions: no file needs a newer one than the oldest that pyproject.toml names.

A parser and a list of names stand in for an interpreter of that version, which few machines have.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OLDEST = tuple(
    int(part)
    for part in re.search(
        r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ).groups()
)
SKIPPED = {".host", ".git", "__pycache__", "runs"}
LATER = {
    (3, 11): {
        "tomllib", "wsgiref.types", "ExceptionGroup", "BaseExceptionGroup", "datetime.UTC", "typing.Self",
        "typing.assert_never", "typing.assert_type",
        "typing.reveal_type", "typing.LiteralString", "typing.Never", "typing.Required",
        "typing.NotRequired", "typing.Unpack", "typing.TypeVarTuple",
        "enum.StrEnum", "enum.ReprEnum", "enum.verify", "contextlib.chdir", "hashlib.file_digest",
        "asyncio.TaskGroup", "asyncio.timeout",
        "asyncio.Runner", "asyncio.Barrier", "logging.getLevelNamesMapping", "math.cbrt", "math.exp2",
        "operator.call", "re.NOFLAG",
        "inspect.getmembers_static", "sys.exception", "threading.setprofile_all_threads",
    },
    (3, 12): {
        "itertools.batched", "typing.override", "typing.TypeAliasType", "math.sumprod", "calendar.Month",
        "os.listdrives", "shutil.rmtree.onexc",
        "importlib.resources.as_file_dir", "sys.monitoring", "collections.abc.Buffer",
        "inspect.markcoroutinefunction",
    },
    (3, 13): {
        "copy.replace", "warnings.deprecated", "os.process_cpu_count", "typing.ReadOnly", "typing.TypeIs",
        "queue.ShutDown", "random.binomialvariate",
    },
}  # fmt: skip
"""Names of the standard library by the version that brought them."""
METHODS = {"add_note": (3, 11), "is_junction": (3, 12)}


def python_files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name not in SKIPPED:
            yield from python_files(entry)
        elif entry.suffix == ".py":
            yield entry


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute of names; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner else ""


def too_new(source: str, oldest: tuple[int, int]) -> list[str]:
    """What in `source` an interpreter of version `oldest` does not know, with its line."""
    try:
        tree = ast.parse(source, feature_version=oldest)
    except SyntaxError as error:
        return [f"{error.lineno}: {error.msg}"]
    names = {name for version, group in LATER.items() if version > oldest for name in group}
    methods = {name for name, version in METHODS.items() if version > oldest}
    found = []
    for node in ast.walk(tree):
        used = set()
        if isinstance(node, ast.Import):
            used = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            used = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Name):
            # A name of its own is a builtin; a module's name may be that of a variable.
            used = {node.id} & {"ExceptionGroup", "BaseExceptionGroup"}
        elif isinstance(node, ast.Attribute):
            used = {dotted(node)}
            if node.attr in methods:
                found.append(f"{node.lineno}: .{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and oldest < (3, 11):
            # The byte order has had a default since 3.11. It is the second argument of both.
            ordered = (
                len(node.args) > 1
                or any(isinstance(given, ast.Starred) for given in node.args)
                or any(keyword.arg in ("byteorder", None) for keyword in node.keywords)
            )
            if node.func.attr in ("from_bytes", "to_bytes") and not ordered:
                found.append(f"{node.lineno}: {node.func.attr} without byteorder")
        found += [f"{node.lineno}: {name}" for name in sorted(used & names)]
    return found


@pytest.mark.slow
def test_no_file_needs_a_newer_python_than_promised():
    checked = 0
    for path in python_files(ROOT):
        found = too_new(path.read_text(encoding="utf-8"), OLDEST)
        assert not found, (
            f"{path.relative_to(ROOT)}, which Python {OLDEST[0]}.{OLDEST[1]} is to run: {'; '.join(found)}"
        )
        checked += 1
    assert checked > 200


def test_the_documents_promise_the_same():
    oldest = f"{OLDEST[0]}.{OLDEST[1]}"
    assert f"Python {oldest} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'target-version = "py{OLDEST[0]}{OLDEST[1]}"' in (ROOT / "pyproject.toml").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("source", [
    "int.from_bytes(data)", "n.to_bytes(4)", "int.from_bytes(data, signed=True)", "import tomllib",
    "from tomllib import load",
    "from datetime import UTC", "import datetime\ndatetime.UTC", "from enum import StrEnum",
    "raise ExceptionGroup('x', [])",
    "error.add_note('x')", "import itertools\nitertools.batched(x, 2)",
    "try:\n    pass\nexcept* ValueError:\n    pass", "def f[T](x: T): pass",
    "type X = int",
])  # fmt: skip
def test_what_is_too_new_is_found(source):
    assert too_new(source, (3, 10))


@pytest.mark.parametrize("source", [
    "int.from_bytes(data, 'big')", "int.from_bytes(data, byteorder='big')", "n.to_bytes(4, 'little')",
    "match x:\n    case 1: pass",
    "zip(a, b, strict=True)", "def f(x: int | None): pass", "int.from_bytes(*both)", "int.from_bytes(**both)",
])  # fmt: skip
def test_what_is_old_enough_is_left_alone(source):
    assert not too_new(source, (3, 10))
