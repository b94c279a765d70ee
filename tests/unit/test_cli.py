"""The command line without a server: names and resuming, writing results, the set-up, choosing the host."""

import argparse
import base64
import hashlib
import importlib.util
import io
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image, PngImagePlugin

from scripts import commands, new_file, pictures, results, steps
from scripts.host import Host, choose_device, existing_comfyui
from scripts.host_setup import EXTRAS, damaged_packages, host_requirements
from scripts.websocket import WebSocket, WebSocketClosed

ROOT = Path(__file__).resolve().parents[2]


def png(value: int = 7, size: int = 8) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", '{"1": {}}')
    buffer = io.BytesIO()
    Image.fromarray(numpy.full((size, size, 3), value, numpy.uint8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def load_entry():
    spec = importlib.util.spec_from_file_location("aior_entry", ROOT / "aior.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_arguments():
    entry = load_entry()
    restore = entry.parse(
        [
            "restore",
            "a.png",
            "b",
            "-o",
            "out",
            "--steps",
            "8",
            "--seed",
            "3",
            "--fidelity",
            "0.5",
            "--tile",
            "512",
            "--device",
            "cpu",
            "--workflow",
            "w.json",
        ]
    )
    assert (restore.pictures, restore.out, restore.steps, restore.seed) == (["a.png", "b"], "out", 8, 3)
    assert (restore.fidelity, restore.tile, restore.device, restore.workflow) == (0.5, 512, "cpu", "w.json")
    assert entry.parse(["serve"]).port == 8188
    every = entry.parse(["test", "-k", "name", "-x", "--help"])
    assert (every.comfyui, every.rest) == (None, ["-k", "name", "-x", "--help"])
    chosen = entry.parse(["test", "tests/unit", "--comfyui", "0.16.3", "-q"])
    assert (chosen.comfyui, chosen.rest) == ("0.16.3", ["tests/unit", "-q"])
    with pytest.raises(SystemExit):
        entry.parse(["restore"])


def test_command_line_needs_nothing_installed():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import scripts.commands; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    roots = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert {name for name in roots if not name.startswith("_")} <= {"scripts", "aior_core"}


def test_pictures_are_found_once_and_keep_their_folders(tmp_path):
    for name in (
        "in/b.PNG",
        "in/a.jpg",
        "in/a_restored.png",
        "in/a_restored_2.png",
        "in/notes.txt",
        "in/.hidden.png",
        "in/.git/x.png",
        "in/deep/er/c.tiff",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    source = tmp_path / "in"
    found, remarks = pictures.find_pictures(
        [
            source,
            source / "a.jpg",
            tmp_path / "empty",
            source / "notes.txt",
            source / "a_restored.png",
            tmp_path / "gone.png",
        ],
        tmp_path / "out",
    )
    assert [picture.source.name for picture in found] == ["a.jpg", "b.PNG", "c.tiff"]
    assert [picture.target for picture in found] == [
        tmp_path / "out/a",
        tmp_path / "out/b",
        tmp_path / "out/deep/er/c",
    ]
    assert (
        len(remarks) == 5
        and "1 .txt (notes.txt)" in remarks[0]
        and "no pictures in this folder" in remarks[1]
        and "no such file" in remarks[4]
    )
    beside, _ = pictures.find_pictures([source / "a.jpg"], None)
    assert beside[0].target == source / "a"


def test_a_result_is_recognised_by_its_key_and_never_overwritten(tmp_path):
    options = {"steps": 4}
    key = results.request_key("a.png", b"picture", b"workflow", options)
    assert key != results.request_key("a.jpg", b"picture", b"workflow", options)
    assert key != results.request_key("a.png", b"picture2", b"workflow", options)
    assert key != results.request_key("a.png", b"picture", b"workflow", {"steps": 5})
    target = tmp_path / "out" / "a"
    path, done = results.choose_target(target, key, set())
    assert (path.name, done) == ("a_restored.png", False)
    new_file.write_new(path, results.with_key(png(), key))
    assert results.choose_target(target, key, set()) == (path, True)
    assert results.choose_target(target, key, {path})[0].name == "a_restored_2.png"
    other = results.request_key("a.jpg", b"picture", b"workflow", options)
    assert results.choose_target(target, other, set()) == (path.with_name("a_restored_2.png"), False)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        new_file.write_new(path, b"something else")
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["a_restored.png"]


def test_a_half_written_or_foreign_file_is_no_result(tmp_path):
    key = "ab" * 32
    whole = results.with_key(png(), key)
    path = tmp_path / "a_restored.png"
    for data in (b"", whole[:40], whole[:-3], png(), b"a person's notes"):
        path.write_bytes(data)
        assert results.read_key(path) is None
        assert results.choose_target(tmp_path / "a", key, set())[0].name == "a_restored_2.png"
    path.write_bytes(whole)
    assert results.read_key(path) == key


def test_the_key_leaves_the_picture_and_its_texts_as_they_are():
    keyed = Image.open(io.BytesIO(results.with_key(png(31), "cd" * 32)))
    keyed.load()
    assert keyed.text == {"prompt": '{"1": {}}', "aior_key": "cd" * 32}
    assert numpy.asarray(keyed).min() == numpy.asarray(keyed).max() == 31
    with pytest.raises(ValueError, match="not a complete PNG"):
        results.with_key(png()[:-1], "cd" * 32)


def test_a_cut_off_file_is_noticed():
    jpeg = io.BytesIO()
    Image.fromarray(numpy.zeros((64, 64, 3), numpy.uint8)).save(jpeg, "JPEG")
    for data in (png(), jpeg.getvalue()):
        assert not pictures.is_cut_off(data) and pictures.is_cut_off(data[: len(data) - 20])


def make_steps(folder: Path, log: list, *, broken: str = "", version: int = 1) -> list:
    def step(name):
        def run():
            log.append(name)
            if name == broken:
                raise steps.SetupError(f"{name} broke")
            (folder / name).write_text("made")

        return steps.Step(name, name, version, (folder / name).is_file, run)

    return [step(name) for name in "abc"]


def test_a_broken_set_up_is_repaired_by_the_next_call(tmp_path):
    state, log = tmp_path / "state.json", []
    with pytest.raises(steps.SetupError):
        steps.run_steps(make_steps(tmp_path, log, broken="b"), state, log.append)
    assert list(steps.read_state(state)) == ["a"]
    log.clear()
    assert steps.run_steps(make_steps(tmp_path, log), state, lambda line: None) == ["b", "c"]
    assert steps.run_steps(make_steps(tmp_path, log), state, lambda line: None) == [] and log == ["b", "c"]
    (tmp_path / "a").unlink()
    assert steps.run_steps(make_steps(tmp_path, log), state, lambda line: None) == ["a"]
    steps.forget(state, ["b"])
    assert steps.run_steps(make_steps(tmp_path, log), state, lambda line: None) == ["b"]
    assert steps.run_steps(make_steps(tmp_path, log, version=2), state, lambda line: None) == ["a", "b", "c"]
    state.write_text('{"a": ')
    assert steps.run_steps(make_steps(tmp_path, log), state, lambda line: None) == ["a", "b", "c"]


def test_a_step_whose_result_is_missing_is_an_error(tmp_path):
    silent = steps.Step("x", "x", 1, lambda: False, lambda: None)
    with pytest.raises(steps.SetupError, match="'x' ran, but its result is not there"):
        steps.run_steps([silent], tmp_path / "state.json", lambda line: None)
    assert steps.read_state(tmp_path / "state.json") == {}


def test_two_set_ups_at_once_take_turns(tmp_path):
    inside, most = [0], [0]

    def work():
        with steps.exclusive(tmp_path / "deep" / "lock", lambda line: None):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_requirements_leave_out_the_pinned_and_the_needless():
    text = (
        "torch\ntorchvision\ntorchsde\n\n#note\ncomfyui-workflow-templates==0.1\n"
        "comfyui-embedded-docs==2\nPillow # x\nav>=16\n"
    )
    assert host_requirements(text) == ["torchsde", "Pillow", "av>=16"]


def test_damaged_packages_are_found_by_their_records(tmp_path):
    for name in ("good-1.0", "bad_one-2.0+cpu"):
        (tmp_path / f"{name}.dist-info").mkdir()
        (tmp_path / f"{name}.dist-info" / "RECORD").write_text(
            f"{name}.py,sha256=x,3\n{name}.dist-info/RECORD,,\n"
        )
    (tmp_path / "good-1.0.py").write_text("abc")
    (tmp_path / "bad_one-2.0+cpu.py").write_text("ab")
    assert damaged_packages(tmp_path) == ["bad-one==2.0"]


def test_an_existing_comfyui_is_found_and_a_wrong_path_named(tmp_path):
    comfyui = tmp_path / "ComfyUI"
    pack = comfyui / "custom_nodes" / "any-name"
    pack.mkdir(parents=True)
    assert existing_comfyui(pack, {}) is None
    (comfyui / "comfy").mkdir()
    (comfyui / "main.py").touch()
    assert existing_comfyui(pack, {}) == comfyui
    assert existing_comfyui(tmp_path / "elsewhere", {"COMFYUI_PATH": str(comfyui)}) == comfyui
    with pytest.raises(steps.SetupError, match="COMFYUI_PATH"):
        existing_comfyui(pack, {"COMFYUI_PATH": str(tmp_path / "nothing")})


def test_the_device_is_explained(tmp_path):
    host = Host(Path(sys.executable), tmp_path, "aior")
    assert choose_device(host, "cpu")[0] == "cpu"
    if sys.platform == "linux":
        device, sentence = choose_device(host, "auto", has_gpu=lambda: False)
        assert device == "cpu" and ("CPU only" in sentence or "no GPU" in sentence)
        with pytest.raises(steps.SetupError, match="--device gpu"):
            choose_device(host, "gpu", has_gpu=lambda: False)


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    head = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return head + bytes([126]) + struct.pack(">H", len(payload)) + payload
    return head + bytes([127]) + struct.pack(">Q", len(payload)) + payload


@pytest.mark.slow
def test_websocket_reads_and_answers_what_the_protocol_allows():
    listener = socket.create_server(("127.0.0.1", 0))
    got = {}

    def serve():
        connection, _ = listener.accept()
        head = connection.recv(4096).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        accept = base64.b64encode(
            hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        ).decode()
        reply = (
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
            f"{accept}\r\n\r\n"
        )
        connection.sendall(reply.encode() + frame(1, "grüße".encode()))
        connection.sendall(
            frame(1, b"one ", False)
            + frame(9, b"are you there")
            + frame(0, b"two ", False)
            + frame(0, b"three")
        )
        got["pong"] = connection.recv(4096)
        connection.sendall(frame(2, bytes(300)))
        whole = frame(2, b"\1" * 70000)
        for wait, piece in ((0.3, whole[:5]), (0.8, whole[5:])):
            time.sleep(wait)
            connection.sendall(piece)
        got["text"] = connection.recv(4096)
        connection.sendall(frame(8, b""))
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = WebSocket("127.0.0.1", listener.getsockname()[1], "/ws?clientId=1")
    assert client.receive(5) == "grüße"
    assert client.receive(5) == "one two three"
    assert client.receive(5) == bytes(300)
    with pytest.raises(TimeoutError):
        client.receive(0.05)
    with pytest.raises(TimeoutError):
        client.receive(0.4)
    assert client.receive(5) == b"\1" * 70000
    client.send("hello")
    with pytest.raises(WebSocketClosed):
        client.receive(5)
    client.close()
    thread.join()
    listener.close()
    for name, first, text in (("pong", 0x8A, b"are you there"), ("text", 0x81, b"hello")):
        sent = got[name]
        assert sent[0] == first and sent[1] == 0x80 | len(text)
        assert bytes(byte ^ sent[2 + index % 4] for index, byte in enumerate(sent[6:])) == text


def test_the_checks_of_the_source_are_those_that_pyproject_pins():
    pinned = re.search(r"^dev = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    packages = [package for extra in ("test", "lint") for package in EXTRAS[extra]]
    assert re.findall(r'"(.*?)"', pinned.group(1)) == packages


def test_lint_runs_every_check_and_names_those_that_fail(tmp_path, monkeypatch, capsys):
    tool = "import sys; sys.exit(sys.argv[1:] in (['ruff', 'check', '.'], ['mypy']))"
    host = Host(Path(sys.executable), tmp_path, "aior")
    monkeypatch.setattr(commands, "set_up_host", lambda root, extras: host)
    real, ran = subprocess.run, []

    def run(command, cwd):
        ran.append((command[1:], cwd))
        return real([sys.executable, "-c", tool, *command[2:]])

    monkeypatch.setattr(commands.subprocess, "run", run)
    assert commands.run(tmp_path, argparse.Namespace(command="lint")) == 1
    assert ran == [(["-m", *check], tmp_path) for check in commands.CHECKS.values()]
    assert capsys.readouterr().out == "Failed: rules, types\n"
