"""Nodes, locales/ and help pages agree in every language, and no text is missing.

`python3 -m tools.make_locales` writes English; people write the other languages.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.make_locales import OURS, english

ROOT = Path(__file__).resolve().parents[2]
LOCALES, PAGES = ROOT / "locales", ROOT / "web" / "docs"
FILES = ("main.json", "nodeDefs.json")
TRANSLATED = ("de", "es", "fr", "ja", "ko", "ru", "zh")
# Labels that a language takes over from English, or spells in the same way.
KEPT = {"cfg", "clip", "image", "latent", "prior", "psnr", "scheduler", "seed", "ssim", "vae"}
SCRIPTS = {"ja": "[\u3040-\u30ff]", "ko": "[\uac00-\ud7a3]", "ru": "[\u0400-\u04ff]", "zh": "[\u4e00-\u9fff]"}
"""Letters of the language's script: every sentence in that language has one, and no English sentence."""
SYNTAX = set("{}@|")
"""Characters that ComfyUI's front end interprets as commands in a text."""
NUMBER, ACRONYM = re.compile(r"\d+"), re.compile(r"\b[A-Z]{2,}\w*")
IDENTIFIER = re.compile(r"[\w%-]+[/_](?:[\w%./-]*\w)?|pip install [\w -]+\w")
CELL = re.compile(r"^\| *(.+?) *\|", re.MULTILINE)


def read(language: str, name: str) -> dict:
    return json.loads((LOCALES / language / name).read_text(encoding="utf-8"))


def texts(words: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path of keys, text) of every leaf."""
    for key, value in words.items():
        if isinstance(value, dict):
            yield from texts(value, (*path, key))
        else:
            yield (*path, key), value


def own_nodes(text: str, names: dict[str, str]) -> set[str]:
    """Ids of the nodes that `text` mentions. `names` maps ids to names.

    Where one name contains another, only the longer one counts.
    """
    found = set()
    for node_id, name in sorted(names.items(), key=lambda item: -len(item[1])):
        if name in text:
            found.add(node_id)
            text = text.replace(name, "")
    return found


def says(text: str, word: str) -> bool:
    """Whether `text` has `word` as a whole word: 4 is not in 64, nor lq in lq_official.

    Letters of other scripts than Latin may stand beside it.
    """
    beside = r"\d" if word.isdigit() else "[A-Za-z0-9_]"
    return re.search(rf"(?<!{beside}){re.escape(word)}(?!{beside})", text) is not None


def names_of(language: str) -> dict[str, str]:
    return {node_id: node["display_name"] for node_id, node in read(language, "nodeDefs.json").items()}


def pairs(language: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(path, English text, its translation) of nodeDefs.json."""
    translated = dict(texts(read(language, "nodeDefs.json")))
    for path, text in texts(read("en", "nodeDefs.json")):
        yield path, text, translated[path]


@pytest.fixture(scope="module")
def info(comfyui) -> dict[str, dict]:
    """The nodes as `/object_info` has them."""
    from aior_pack import comfy_entrypoint

    async def load():
        return await (await comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in asyncio.run(load())}


def test_english_says_what_the_nodes_say(info):
    written = english(info)
    assert {name: read("en", name) for name in FILES} == written, "run `python3 -m tools.make_locales`"
    assert len(written["nodeDefs.json"]) == len(info) and written["main.json"] == {
        "nodeCategories": {"restoration": "restoration"}
    }


def test_hidden_inputs_and_foreign_nodes_have_no_words():
    node = {
        "input": {
            "required": {"x": ("INT", {"tooltip": "t", "display_name": "X"}), "y": ("IMAGE",)},
            "hidden": {"prompt": ("PROMPT",)},
        }
    }
    node |= {
        "output_name": ["o"],
        "output_tooltips": ["u"],
        "display_name": "N",
        "description": "D",
        "category": "image/odd",
    }
    written = english({f"{OURS}N": node, "KSampler": node | {"category": "foreign"}})
    inputs = {"x": {"name": "X", "tooltip": "t"}, "y": {"name": "y", "tooltip": None}}
    words = {
        "display_name": "N",
        "description": "D",
        "inputs": inputs,
        "outputs": {"0": {"name": "o", "tooltip": "u"}},
    }
    assert written == {"main.json": {"nodeCategories": {"odd": "odd"}}, "nodeDefs.json": {f"{OURS}N": words}}


def test_the_languages_are_those_promised():
    assert {path.name for path in LOCALES.iterdir()} == {"en", *TRANSLATED}
    for language in ("en", *TRANSLATED):
        assert sorted(path.name for path in (LOCALES / language).iterdir()) == sorted(FILES), language


@pytest.mark.parametrize("language", TRANSLATED)
@pytest.mark.parametrize("name", FILES)
def test_every_text_is_there_and_no_other(language, name):
    wanted, found = (dict(texts(read(code, name))) for code in ("en", language))
    assert sorted(found) == sorted(wanted)
    assert [
        path for path, text in found.items() if not isinstance(text, str) or not text or text != text.strip()
    ] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated(language):
    same = {
        text.casefold() for _, text, translated in pairs(language) if translated.casefold() == text.casefold()
    }
    assert same <= KEPT
    sentences = [
        translated for path, _, translated in pairs(language) if path[-1] in ("description", "tooltip")
    ]
    assert [text for text in sentences if not re.search(SCRIPTS.get(language, "[a-z]"), text)] == []
    assert read(language, "main.json")["nodeCategories"]["restoration"] != "restoration"


@pytest.mark.parametrize("language", ("en", *TRANSLATED))
def test_no_text_holds_commands_of_the_front_end(language):
    assert [text for name in FILES for _, text in texts(read(language, name)) if SYNTAX & set(text)] == []


@pytest.mark.parametrize("language", ("ja", "zh"))
def test_latin_words_are_set_off_by_spaces(language):
    cjk, latin = "[\u3040-\u30ff\u4e00-\u9fff]", "[A-Za-z0-9]"
    touching = re.compile(f"{cjk}{latin}|{latin}{cjk}")
    assert [text for _, text in texts(read(language, "nodeDefs.json")) if touching.search(text)] == []


def test_french_punctuation_never_begins_a_line():
    """French puts a space before these marks, which must not break."""
    breaking = re.compile(r" [:;?!\u00bb]|\u00ab ")
    assert [text for _, text in texts(read("fr", "nodeDefs.json")) if breaking.search(text)] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_nodes_have_names_of_their_own(language):
    names = list(names_of(language).values())
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("language", TRANSLATED)
def test_numbers_paths_and_acronyms_are_kept(language):
    nodes = read("en", "nodeDefs.json")
    for path, text, translated in pairs(language):
        if path[-1] == "name":
            continue
        # Names of nodes and labels of inputs are translated. Other tests check those.
        for name in names_of("en").values():
            text = text.replace(name, "")
        for word in [*NUMBER.findall(text), *ACRONYM.findall(text), *IDENTIFIER.findall(text)]:
            assert word in nodes[path[0]]["inputs"] or says(translated, word), (
                f"{language} {path}: {word} of {text!r} is not in {translated!r}"
            )


@pytest.mark.parametrize("language", TRANSLATED)
def test_labels_are_called_by_their_translation(language):
    english_nodes, nodes = read("en", "nodeDefs.json"), read(language, "nodeDefs.json")
    for path, text, translated in pairs(language):
        for name in english_nodes[path[0]]["inputs"]:
            if "_" in name and re.search(rf"\b{name}\b", text) and path[-1] != "name":
                assert nodes[path[0]]["inputs"][name]["name"] in translated, f"{language} {path}: {name}"


@pytest.mark.parametrize("language", TRANSLATED)
def test_nodes_are_called_by_their_translation(language):
    before, after = names_of("en"), names_of(language)
    for path, text, translated in pairs(language):
        assert own_nodes(text, before) == own_nodes(translated, after), f"{language} {path}: {translated!r}"


@pytest.mark.parametrize("language", TRANSLATED)
def test_choices_are_called_as_the_browser_shows_them(language, info):
    words = read(language, "nodeDefs.json")
    for node_id, node in info.items():
        for section in ("required", "optional"):
            for name, (kind, *options) in node["input"].get(section, {}).items():
                if kind != "COMBO":
                    continue
                text = options[0]["tooltip"]
                for choice in options[0]["options"]:
                    if says(text, str(choice)):
                        assert says(words[node_id]["inputs"][name]["tooltip"], choice), (
                            f"{language} {node_id} {name}: {choice}"
                        )


def tables(page: str) -> tuple[list[str], list[str]]:
    """The names in a help page's tables of inputs and of outputs, in order."""
    found = {}
    for block in re.findall(r"(?:^\|.*\n?)+", page, re.MULTILINE):
        head, _, *cells = CELL.findall(block)
        found[{"\u8f93\u5165": "input", "\u8f93\u51fa": "output"}.get(head, head)] = [
            name for cell in cells for name in re.split(r", |\u3001", cell)
        ]
    return found.get("input", []), found.get("output", [])


def test_the_english_help_names_every_input_and_output(info):
    assert {path.stem for path in PAGES.glob("*.md")} == set(info)
    for node_id, node in read("en", "nodeDefs.json").items():
        inputs, outputs = tables((PAGES / f"{node_id}.md").read_text(encoding="utf-8"))
        assert sorted(inputs) == sorted(node["inputs"]), node_id
        assert outputs == [output["name"] for output in node.get("outputs", {}).values()], node_id


def test_the_chinese_help_names_every_input_and_output(info):
    def called(label: str, name: str) -> str:
        """The label that the browser shows, with the English name that workflows and tutorials use."""
        return label if label.casefold() == name.casefold() else f"{label}\uff08{name}\uff09"

    assert {path.parent.name for path in PAGES.glob("*/zh.md")} == set(info)
    before, after = read("en", "nodeDefs.json"), read("zh", "nodeDefs.json")
    for node_id, node in after.items():
        page = (PAGES / node_id / "zh.md").read_text(encoding="utf-8")
        inputs, outputs = tables(page)
        assert page.startswith(f"# {node['display_name']}\n"), node_id
        assert sorted(inputs) == sorted(
            called(words["name"], name) for name, words in node["inputs"].items()
        ), node_id
        known = before[node_id].get("outputs", {})
        assert outputs == [
            called(words["name"], known[slot]["name"]) for slot, words in node.get("outputs", {}).items()
        ], node_id


def test_the_chinese_help_speaks_of_the_same_nodes_and_choices():
    for path in PAGES.glob("*.md"):
        page, chinese = (
            path.read_text(encoding="utf-8"),
            (PAGES / path.stem / "zh.md").read_text(encoding="utf-8"),
        )
        assert own_nodes(page, names_of("en")) == own_nodes(chinese, names_of("zh")), path.stem
        assert set(re.findall(r"`([^`]+)`", page)) <= set(re.findall(r"`([^`]+)`", chinese)), path.stem


def test_the_published_pack_has_the_words():
    """Lines of .comfyignore begin with a slash: `docs/` would also leave out the help pages in web/docs/."""
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert all(line.startswith("/") for line in ignored)
    assert not {line.strip("/") for line in ignored} & {
        "locales",
        "web",
        "workflows",
        "subgraphs",
        "models",
        "nodes",
        "aior_core",
        "scripts",
    }
