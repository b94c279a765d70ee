"""Loads the pack under a name of its own, as ComfyUI does, and makes ComfyUI importable for the tests that
need it.

Tests import `aior_pack.aior_core...`, and the programs beside the pack as `scripts...` and `tools...`. The
checkout is not on `sys.path`, because its folder `nodes` would hide ComfyUI's module of that name.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PACK = "aior_pack"
COMFYUI_MODULES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes")


# `python -m pytest` puts the checkout on the path, where its folder `nodes` hides ComfyUI's module `nodes`.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]


def _load_package(name: str, folder: Path) -> None:
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _find_comfyui() -> Path | None:
    """ComfyUI's folder: COMFYUI_PATH, the one whose custom_nodes holds the pack, or the one of the set-up."""
    named = os.environ.get("COMFYUI_PATH")
    candidates = [Path(named)] if named else []
    candidates += [ROOT.parent.parent, ROOT / ".host" / "ComfyUI"]
    return next((path for path in candidates if (path / "comfy" / "cli_args.py").is_file()), None)


def _host_on_cpu() -> None:
    comfyui = _find_comfyui()
    if comfyui is None:
        return
    if str(comfyui) not in sys.path:
        sys.path.append(str(comfyui))
    import comfy.cli_args

    # ComfyUI chooses its device when comfy.model_management is imported.
    comfy.cli_args.args.cpu = os.environ.get("AIOR_TEST_DEVICE", "cpu") == "cpu"


# The networks of these tests are tiny. On a busy machine more threads would wait for each other for minutes.
torch.set_num_threads(1)
_load_package(PACK, ROOT)
for program in ("aior_core", "scripts", "tools"):
    _load_package(program, ROOT / program)
_host_on_cpu()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full-size",
        action="store_true",
        help="also test SDXL in full size: needs 7 GB on disk, 20 GB of memory, and minutes",
    )
    parser.addoption(
        "--stress",
        action="store_true",
        help="run robustness tests with their full counts and not with a sample: takes an hour",
    )
    parser.addoption(
        "--browser",
        action="store_true",
        help="also test the front end in a headless Chromium, with every workflow: takes ten minutes",
    )
    parser.addoption(
        "--screenshots",
        type=Path,
        default=ROOT / "runs" / "screenshots",
        help="folder for the screenshots of --browser (default: runs/screenshots)",
    )
    parser.addoption(
        "--host-only",
        action="store_true",
        help="run only tests that use ComfyUI, as on the oldest version",
    )


TIERS = {
    "unit": "quick tests that need neither ComfyUI nor a network: a minute in all",
    "slow": "tests in tests/unit that take a second or more each, such as training loops",
    "host": "the other tests in tests/unit that import ComfyUI",
    "graph": "real graphs on a real server",
    "browser": "the real front end in a Chromium; needs --browser",
}
"""Every test has exactly one of these markers."""


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def tier_of(item: pytest.Item) -> str:
    """The name in `TIERS` of a test: by its folder, its marker `slow`, and its use of `comfyui`."""
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    if folder != "unit":
        return folder
    if item.get_closest_marker("slow"):
        return "slow"
    return "host" if "comfyui" in item.fixturenames else "unit"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item))
    if config.getoption("--host-only"):
        graph = ROOT / "tests" / "graph"
        others = [
            item for item in items if graph not in item.path.parents and "comfyui" not in item.fixturenames
        ]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


@pytest.fixture(autouse=True)
def _without_comfyui(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides ComfyUI from the tests of the tier `unit`: importing it fails, as in a Python without it."""
    if tier_of(request.node) != "unit":
        return
    for name in ["comfy", *sys.modules]:
        if name.partition(".")[0] in COMFYUI_MODULES:
            monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="session")
def stress(pytestconfig: pytest.Config) -> bool:
    """Whether robustness tests run with their full counts."""
    return pytestconfig.getoption("--stress")


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """ComfyUI's folder. Skips the test where there is none."""
    folder = _find_comfyui()
    if folder is None:
        pytest.skip("needs ComfyUI: set COMFYUI_PATH, or run `python3 aior.py test`")
    return folder


@pytest.fixture
def host(comfyui):
    """Runs a test in inference mode, as nodes run."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture
def small_windows(comfyui, monkeypatch):
    """Allows windows of any size for the denoiser, because the pictures of tests are small."""
    from aior_pack.aior_core.host import sampling

    monkeypatch.setattr(sampling, "LEAST_WINDOW", 0)


@pytest.fixture(scope="session")
def tiny_file(comfyui, tmp_path_factory):
    """The first shard of a small compact model with random weights."""
    from aior_pack.tests.tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def walk(tiny_file):
    """A loaded model, and the functions of `host/` that use it."""
    import torch
    from aior_pack.aior_core.host.compact_model import load_compact
    from aior_pack.aior_core.host.daem_decode import decode_daem
    from aior_pack.aior_core.host.daff_patch import apply_daff
    from aior_pack.aior_core.host.prior_encode import encode_prior
    from aior_pack.aior_core.host.sampling import sample_daff

    with torch.inference_mode():
        model, vae, restorer = load_compact(tiny_file)

    def encode(image, **options):
        return encode_prior(restorer, vae, image, **options)

    def decode(latent, prior, **options):
        return decode_daem(latent, vae, options.pop("restorer", restorer), prior, **options)

    def sample(prior, **options):
        return sample_daff(model, restorer, prior, **options)

    def patch(prior, *conditionings, **options):
        return apply_daff(model, restorer, prior, *conditionings, **options)

    return SimpleNamespace(
        model=model, vae=vae, restorer=restorer, encode=encode, decode=decode, sample=sample, patch=patch
    )
