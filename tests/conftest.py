"""Loads the pack as a host does, under a name of its own, and makes ComfyUI importable for the tests that need it.

`from aior_pack.aior_core... import ...` works in every test. Nothing of the pack's root goes on `sys.path`: its folder
`nodes` would hide the host's module of that name.
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


def _load_pack() -> None:
    if PACK in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


def _find_comfyui() -> Path | None:
    """ComfyUI's folder: COMFYUI_PATH, the one whose custom_nodes the pack lies in, or the one that the set-up made."""
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

    # The host looks for its device when comfy.model_management is imported.
    comfy.cli_args.args.cpu = os.environ.get("AIOR_TEST_DEVICE", "cpu") == "cpu"


# The networks of these tests are tiny: more threads only wait for each other, for minutes where the machine is busy.
torch.set_num_threads(1)
_load_pack()
_host_on_cpu()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full-size",
        action="store_true",
        help="SDXL in full size too: 7 GB on disk, 20 GB of memory, minutes",
    )
    parser.addoption(
        "--stress",
        action="store_true",
        help="robustness tests at their full counts, not a sample of them: an hour",
    )
    parser.addoption(
        "--browser",
        action="store_true",
        help="the front end in a headless Chromium too: every workflow dropped and run, ten minutes",
    )
    parser.addoption(
        "--screenshots",
        type=Path,
        default=ROOT / "runs" / "screenshots",
        help="folder for what --browser saw (default: runs/screenshots)",
    )
    parser.addoption(
        "--host-only",
        action="store_true",
        help="only tests that run ComfyUI or ask for the fixture `comfyui`, as on the older version",
    )


TIERS = {
    "unit": "numbers in seconds, without ComfyUI",
    "host": "in tests/unit, but with ComfyUI imported",
    "graph": "real graphs on a real server",
    "browser": "the real front end, with --browser only",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def tier_of(item: pytest.Item) -> str:
    """The name in `TIERS` of a test, by its folder and by whether it asks for ComfyUI."""
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    return "host" if folder == "unit" and "comfyui" in item.fixturenames else folder


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


@pytest.fixture(scope="session")
def stress(pytestconfig: pytest.Config) -> bool:
    """Whether robustness tests run at their full counts."""
    return pytestconfig.getoption("--stress")


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """ComfyUI's folder; skips a test where there is none."""
    folder = _find_comfyui()
    if folder is None:
        pytest.skip("needs ComfyUI: set COMFYUI_PATH, or run `python3 aior.py test`")
    return folder


@pytest.fixture
def host(comfyui):
    """Runs a test as nodes run, in inference mode."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture
def small_windows(comfyui, monkeypatch):
    """The denoiser's windows as small as asked for: tests have small pictures."""
    from aior_pack.aior_core.host import sampling

    monkeypatch.setattr(sampling, "LEAST_WINDOW", 0)


@pytest.fixture(scope="session")
def tiny_file(comfyui, tmp_path_factory):
    """The first shard of a small compact model with random weights."""
    from aior_pack.tests.tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def walk(tiny_file):
    """The functions of the host room and a loaded model."""
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
