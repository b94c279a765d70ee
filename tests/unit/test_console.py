"""Limits of the command: odd output streams, options out of range, proxies, temporary folders."""

import argparse
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from aior_pack.tests import picture_files as files
from aior_pack.tests.unit.test_cli import load_entry

from scripts import server as server_room
from scripts.client import ComfyClient
from scripts.engine import Outcome, Workflow
from scripts.restore import Batch, run_here
from scripts.server import ServerError

ROOT = Path(__file__).resolve().parents[2]
PNG = files.encode(files.scene((8, 8)), "PNG")


def call(*arguments, cwd, stdout=subprocess.PIPE, **environment):
    command = [sys.executable, str(ROOT / "aior.py"), "restore", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8:strict", "latin-1"])
def test_any_name_can_be_said_in_any_encoding(tmp_path, encoding):
    names = ["日本.png", "z.png"] + ([os.fsdecode(b"caf\xe9.png")] if sys.platform == "linux" else [])
    for name in names:
        (tmp_path / name).touch()
    done = call(tmp_path, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 1 and "Traceback" not in done.stderr and f"{len(names)} failed" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_and_a_reader_that_went_away_are_no_tracebacks(tmp_path):
    (tmp_path / "a.png").touch()
    with open("/dev/full", "w") as full:
        assert call(tmp_path, cwd=tmp_path, stdout=full).stderr == ""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = call(tmp_path, cwd=tmp_path, stdout=pipe)
    assert done.stderr == "" and done.returncode == 141
    assert (
        subprocess.run(
            ["sh", "-c", f"'{sys.executable}' '{ROOT / 'aior.py'}' restore a.png >&-"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        ).stderr
        == ""
    )


@pytest.mark.parametrize(
    "option, value",
    [
        ("--fidelity", "7"),
        ("--fidelity", "nan"),
        ("--steps", "0"),
        ("--steps", "many"),
        ("--seed", "-1"),
        ("--tile", "-1"),
        ("--ensemble", "9"),
        ("--quality", "0"),
        ("--bits", "12"),
        ("--format", "gif"),
        ("--metadata", "some"),
    ],
)
def test_an_option_out_of_range_is_one_sentence_before_anything_starts(option, value, capsys):
    with pytest.raises(SystemExit) as caught:
        load_entry().parse(["restore", "a.png", option, value])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and option in said and value in said


def test_options_of_the_files_go_together_or_are_refused(capsys):
    parse = load_entry().parse
    for wrong in (
        ["--bits", "16", "--format", "jpg"],
        ["--quality", "50"],
        ["--quality", "50", "--format", "tiff"],
    ):
        with pytest.raises(SystemExit):
            parse(["restore", "a.png", *wrong])
    assert parse(["restore", "a.png", "--format", "png", "--metadata", "keep"]) == parse(["restore", "a.png"])
    chosen = parse(["restore", "a.png", "--format", "webp", "--quality", "70", "--metadata", "drop"])
    assert (chosen.format, chosen.quality, chosen.metadata, chosen.bits) == ("webp", 70, "drop", None)


def test_the_ranges_of_the_options_are_those_of_the_nodes(comfyui):
    from aior_pack.nodes.daem import DecodeDAEM
    from aior_pack.nodes.daff import DAFFSampler

    inputs = {entry.id: entry for node in (DAFFSampler, DecodeDAEM) for entry in node.define_schema().inputs}
    parse = load_entry().parse
    for name in ("steps", "seed", "fidelity", "tile", "ensemble"):
        for end, beyond in (
            (inputs[name].min, inputs[name].min - 1),
            (inputs[name].max, inputs[name].max + 1),
        ):
            assert getattr(parse(["restore", "a.png", f"--{name}={end}"]), name) == end
            with pytest.raises(SystemExit):
                parse(["restore", "a.png", f"--{name}={beyond}"])


def test_this_machine_s_own_server_is_not_asked_for_through_a_proxy(monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"ok": true}')

        def log_message(self, *_):
            return

    own = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=own.serve_forever, daemon=True).start()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    try:
        assert ComfyClient(own.server_port).json("/anything") == {"ok": True}
    finally:
        own.shutdown()


def test_without_room_for_temporary_files_the_command_says_so_at_once(tmp_path, monkeypatch):
    def nowhere(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    with monkeypatch.context() as patch:
        patch.setattr(server_room.tempfile, "mkdtemp", nowhere)
        with pytest.raises(ServerError, match="TMPDIR"):
            server_room.own_folder()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(server_room, "LEAST_FREE", 2**62)
    with pytest.raises(ServerError, match="MiB left"):
        server_room.own_folder()
    assert not list(tmp_path.iterdir())


def test_a_picture_whose_server_died_is_tried_once_more(tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    fates = iter(
        [
            ("died", "ComfyUI died with code -15."),
            ("done", ""),
            ("died", "ComfyUI died with code -9."),
            ("died", "ComfyUI died again."),
        ]
    )

    class Engine:
        def __init__(self, *_, **__):
            self.closed = False

        def attempt(self, *_):
            fate, text = next(fates)
            return Outcome(fate, (PNG,), text)

        def close(self):
            self.closed = True

    monkeypatch.setattr("scripts.restore.Engine", Engine)
    from scripts.pictures import find_pictures

    batch = Batch(find_pictures([tmp_path], tmp_path / "out")[0], Workflow(tmp_path / "w.json", b"{}", {}))
    run_here(tmp_path, batch, "cpu")
    assert (batch.done, batch.failed) == (1, 1) and os.listdir(tmp_path / "out") == ["a_restored.png"]
    assert capsys.readouterr().out.count("tried once more") == 2


def test_a_namespace_knows_every_option_of_the_engine():
    """An option of the engine that the command line lacks would be an AttributeError for the user."""
    from scripts.engine import OPTIONS

    parsed = load_entry().parse(["restore", "a.png"])
    assert isinstance(parsed, argparse.Namespace) and all(hasattr(parsed, name) for name in OPTIONS)
