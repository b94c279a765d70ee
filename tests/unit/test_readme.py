"""The documents against the repository: links, paths, printed commands, numbers and lengths."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# All but the help pages in web/docs, whose paths begin there: test_help_pages.py.
DOCUMENTS = [
    path
    for place in ("", "docs", "docs/lab", "models", "tests/pictures", "tests/clean")
    for path in sorted((ROOT / place).glob("*.md"))
]
WIDTH = 110
LENGTHS = {"README.md": 130, "models/README.md": 150, "ARCHITECTURE.md": 115}
# ARCHITECTURE.md speaks of the rooms by their names alone.
PLACES = ("", "aior_core")
SUFFIXES = ("py", "md", "json", "jpg", "png", "toml", "yml")
MADE_OR_YOURS = (
    ".host/",
    "runs/",
    "ComfyUI/",
    "custom_nodes/",
    "input",
    "output",
    "restorers/",
    "models/NAME",
    "NAME_",
    "STAGE",
    "FOLDER/",
)
"""How paths begin that are made at run time, a reader's own, or placeholders."""
SKIPPED = {".host", ".git", "__pycache__", "runs", "output", "restored"}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def fences(text: str) -> list[str]:
    """The lines of all blocks between three back-ticks."""
    return [
        line
        for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.S | re.M)
        for line in block.splitlines()
        if line.strip()
    ]


def quoted(text: str) -> list[str]:
    """What stands between single back-ticks, blocks left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def links(text: str) -> list[str]:
    """The relative targets of links and pictures, without their anchors."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def anchors(text: str) -> set[str]:
    """What can stand behind a # in a link to this document: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lost(text: str, document: Path) -> list[str]:
    """Links with a # that lead to no heading of the document that they name, or of this one."""
    found = [
        target.partition("#")
        for target in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", text)
        if not re.match(r"[a-z]+:", target)
    ]
    return [
        f"{path}#{part}"
        for path, _, part in found
        if part not in anchors(text_of(document.parent / path) if path else text)
    ]


def paths(text: str) -> list[str]:
    """Quoted words that look like paths of the repository: with a slash, or with a suffix of ours."""
    found = [word for word in quoted(text) if re.fullmatch(r"[\w.*-][\w./*-]*", word)]
    return [
        word
        for word in found
        if ("/" in word or word.rsplit(".", 1)[-1] in SUFFIXES) and not word.startswith(MADE_OR_YOURS)
    ]


def commands(text: str, start: str) -> list[list[str]]:
    """The arguments of every printed command that begins with `start`, in blocks and in the running text."""
    lines = [line.strip() for line in [*fences(text), *quoted(text)]]
    found = [re.search(rf"(?:^|\s){re.escape(start)}(?:\s+(.*))?$", line) for line in lines]
    return [shlex.split(re.sub(r"\s+\(.*\)$|\s{2,}#.*$", "", match[1] or "")) for match in found if match]


def files_called(name: str) -> list[Path]:
    def walk(folder: Path):
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name not in SKIPPED:
                yield from walk(entry)
            elif entry.name == name:
                yield entry

    return list(walk(ROOT))


def is_there(path: str, document: Path) -> bool:
    if any(
        list(base.glob(path.rstrip("/"))) for base in (*(ROOT / place for place in PLACES), document.parent)
    ):
        return True
    return "/" not in path and bool(files_called(path))


@pytest.fixture(scope="module")
def entry():
    """`aior.py` as a module."""
    spec = importlib.util.spec_from_file_location("aior_entry", ROOT / "aior.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    broken = [target for target in links(text_of(document)) if not (document.parent / target).exists()]
    assert not broken
    assert not lost(text_of(document), document)


def test_a_heading_that_is_not_there_is_found():
    text = (
        "# Two commands\n[here](#two-commands) [not](#three) "
        "[there](README.md#two-commands) [nowhere](README.md#nowhere)\n"
    )
    assert lost(text, ROOT / "README.md") == ["#three", "README.md#nowhere"]


# CREDITS.md names the files of others.
@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "CREDITS.md"],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_paths_exist(document):
    absent = [path for path in paths(text_of(document)) if not is_there(path, document)]
    assert not absent


def test_a_path_that_is_not_there_is_found():
    text = (
        "see `aior_core/nowhere.py`, `nowhere.json`, [this](nowhere/else.md#part) and `runs/first`\n"
        "```\npython benchmarks/nowhere.py\n```\n"
    )
    assert [path for path in paths(text) if not is_there(path, ROOT / "README.md")] == [
        "aior_core/nowhere.py",
        "nowhere.json",
    ]
    assert links(text) == ["nowhere/else.md"] and commands(text, "python benchmarks/nowhere.py") == [[]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_of_aior_are_commands(entry, document):
    for arguments in commands(text_of(document), "python3 aior.py"):
        # In the running text the command's name alone stands for it.
        whole = arguments if arguments != ["restore"] else ["restore", "PHOTO"]
        chosen = entry.parse(whole)
        known = {"--full-size", "--stress", "--host-only", "--browser"}
        options = {word for word in getattr(chosen, "rest", []) if word.startswith("--")}
        assert options <= known, f"{arguments}: tests/conftest.py has no {options - known}"
        for path in (word for word in getattr(chosen, "rest", []) if word.startswith("tests/")):
            assert (ROOT / path).exists(), path


def test_the_readme_and_ci_call_the_same_tests():
    printed = [line.strip() for line in fences(text_of(ROOT / "README.md"))]
    called = text_of(ROOT / ".ci" / "run").splitlines()
    assert "python3 aior.py test" in printed and "python3 aior.py test" in called


def test_the_readme_prints_the_commands_of_users():
    used = {arguments[0] for arguments in commands(text_of(ROOT / "README.md"), "python3 aior.py")}
    assert used == {"restore", "serve", "test"}


def test_all_options_of_restore_are_documented(entry):
    text = text_of(ROOT / "docs" / "command.md")
    listed = set(re.findall(r"^\| `(--[a-z]+)", text, re.M))
    offered = {name.replace("_", "-") for name in vars(entry.parse(["restore", "PHOTO"]))} - {
        "command",
        "pictures",
        "out",
    }
    assert listed == {f"--{name}" for name in offered}
    values = {
        "--device": ["cpu"],
        "--ray": ["auto"],
        "--workers": ["2", "--ray"],
        "--format": ["webp"],
        "--bits": ["16"],
        "--quality": ["80", "--format", "jpg"],
        "--metadata": ["drop"],
    }
    for option in listed:
        entry.parse(["restore", "PHOTO", option, *values.get(option, ["1"])])


# A table's row is one line, and so are a command, an equation and a drawing.
@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.parent.name not in ("pictures", "clean")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_prose_keeps_to_the_width(document):
    text = re.sub(r"^```.*?^```", "", text_of(document), flags=re.S | re.M)
    wide = [line for line in text.splitlines() if len(line) > WIDTH and not line.startswith(("|", "![", "<"))]
    assert not wide


@pytest.mark.parametrize(("document", "most"), LENGTHS.items())
def test_documents_for_a_first_reading_stay_short(document, most):
    assert len(text_of(ROOT / document).splitlines()) <= most


@pytest.mark.parametrize("document", ["README.md", "models/README.md"])
def test_marked_tables_are_closed_and_named_once(document):
    marks = re.findall(r"<!-- (table: ([\w -]+)|end) -->", text_of(ROOT / document))
    assert [mark.split(":")[0] for mark, _ in marks] == ["table", "end"] * (len(marks) // 2)
    names = [name for _, name in marks if name]
    assert len(set(names)) == len(names)


def test_numbers_of_the_readme_and_the_card_stand_in_a_log_with_their_commands():
    kept = "".join(text_of(path) for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "docs" / "published.md"])
    for name in ("README.md", "models/README.md"):
        text = re.sub(r"<!-- table: .*?<!-- end -->", "", text_of(ROOT / name), flags=re.S)
        sections = text.split("\n## ")
        evaluated = "".join(s for s in sections if s.startswith(("Quality", "Speed", "Evaluation")))
        numbers = re.findall(r"(?<![\w.])\d+\.\d\d+(?!\w)", evaluated)
        assert len(numbers) > 8, name
        assert not [number for number in numbers if number not in kept], name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_scripts_benchmarks_and_their_options_exist(document):
    text = text_of(document)
    for line in [*fences(text), *quoted(text)]:
        for path in re.findall(r"(?<![\w/])((?:benchmarks|scripts)/\w+\.py)", line):
            assert (ROOT / path).is_file(), path
            source = text_of(ROOT / path) + "".join(
                text_of(helper) for helper in (ROOT / "benchmarks").glob("_*.py")
            )
            for option in re.findall(r"(?<=\s)--[a-z-]+", line.split(path, 1)[1]):
                assert f'"{option}"' in source, f"{path} has no {option}"
        for module in re.findall(r"-m ((?:aior_core|scripts)(?:\.\w+)*)", line):
            place = ROOT / module.replace(".", "/")
            assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_of_training_parse(document):
    from aior_pack.aior_core.training.__main__ import parse

    for arguments in commands(text_of(document), "python -m aior_core.training"):
        if arguments:
            parse(arguments)


def test_the_readmes_nodes_are_the_packs(host):
    from aior_pack import comfy_entrypoint

    async def names():
        return [node.GET_SCHEMA().display_name for node in await (await comfy_entrypoint()).get_node_list()]

    section = text_of(ROOT / "README.md").split("\n## Nodes\n")[1].split("\n## ")[0]
    listed = [row for row in re.findall(r"^\| ([^|`]+?) \|", section, re.M) if row not in ("node", "---")]
    assert sorted(listed) == sorted(asyncio.run(names()))


def test_the_readmes_workflows_are_the_packs():
    names = set(re.findall(r"`(?:workflows/)?(\w+)\.json`", text_of(ROOT / "README.md")))
    assert names == {path.stem for path in (ROOT / "workflows").glob("*.json")}


def test_the_readme_names_the_blueprints():
    text = text_of(ROOT / "README.md")
    names = [path.stem for path in (ROOT / "subgraphs").glob("*.json")]
    assert names and all(f"**{name}**" in text for name in names)


def test_every_workflow_with_a_picture_shows_it_in_the_readme():
    shown = set(re.findall(r"\(workflows/(\w+)\.jpg\)", text_of(ROOT / "README.md")))
    assert shown == {path.stem for path in (ROOT / "workflows").glob("*.jpg")}


def wrongly_cited(text: str) -> list[tuple[str, str]]:
    """Documents and sections that `text` cites as `docs/method.md 3.2` or `docs/method.md, section 7`, and
    that are not there."""
    cited = r"(?<![\w/])((?:docs|models|web/docs)/[\w/.-]+\.md)(?:,? section)?(?: (\d+(?:\.\d+)?))?"
    wrong = []
    for document, section in re.findall(cited, re.sub(r"[`()]", "", text)):
        place = ROOT / document
        heading = rf"^#+ {re.escape(section)} " if section else "^"
        if not place.is_file() or not re.search(heading, text_of(place), re.M):
            wrong.append((document, section))
    return wrong


@pytest.mark.parametrize("folder", ["aior_core", "nodes", "scripts", "tools", "benchmarks", "tests"])
def test_documents_that_the_code_cites_are_in_the_repository(folder):
    here = Path(__file__).name
    found = {
        path: wrongly_cited(text_of(path)) for path in (ROOT / folder).rglob("*.py") if path.name != here
    }
    assert not {path.name: wrong for path, wrong in found.items() if wrong}


def test_a_section_that_is_not_there_is_found():
    text = "see docs/method.md 3.2, `docs/method.md`, section 7, docs/method.md 77.1 and docs/nowhere.md"
    assert wrongly_cited(text) == [("docs/method.md", "77.1"), ("docs/nowhere.md", "")]
