"""The pack and ComfyUI in this process, and the walk of the nodes as one function.

The pack is loaded under a name of its own, with its root as package path, so that its folder `nodes` does not
hide ComfyUI's module of that name.
"""

from __future__ import annotations

import importlib
import os
import resource
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PACK = "aior_benchmarked"


def room(name: str) -> types.ModuleType:
    """Import a part of the pack, such as `aior_core.metrics`.

    Only `host` and parts that use it need ComfyUI.
    """
    if PACK not in sys.modules:
        package = types.ModuleType(PACK)
        package.__path__ = [str(ROOT)]
        sys.modules[PACK] = package
    return importlib.import_module(f"{PACK}.{name}")


def image(picture: torch.Tensor) -> torch.Tensor:
    """`B 3 H W`, -1..1 -> IMAGE `B H W 3`, 0..1.

    Unlike `from_unit`, it does not clamp: noise stays unclipped.
    """
    return ((picture + 1) / 2).movedim(1, -1).contiguous()


def timed(action: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Median seconds of `action` over `repeats` runs, and its last result. Waits until a GPU is done."""
    seconds, result = [], None
    for _ in range(repeats):
        started = time.perf_counter()
        result = action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def peak_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def find_comfyui() -> Path:
    """ComfyUI's folder: COMFYUI_PATH, the ComfyUI that holds this pack, or the one that aior.py sets up.

    Raises FileNotFoundError that says how to get one.
    """
    candidates = [Path(os.environ["COMFYUI_PATH"])] if os.environ.get("COMFYUI_PATH") else []
    candidates += [ROOT.parent.parent, ROOT / ".host" / "ComfyUI"]
    for folder in candidates:
        if (folder / "comfy" / "model_management.py").is_file():
            return folder
    looked = ", ".join(str(folder) for folder in candidates)
    raise FileNotFoundError(
        f"No ComfyUI in {looked}. Set COMFYUI_PATH to one, or let `python3 aior.py restore` set "
        f"one up in .host/."
    )


def start_comfy(device: str = "cpu") -> None:
    """Make `comfy` importable, on the CPU or, with `device` "auto", on the device that ComfyUI chooses.

    Call it before anything imports comfy.
    """
    sys.path.insert(0, str(find_comfyui()))
    from comfy.cli_args import args

    args.cpu = device == "cpu"
    import comfy.model_management  # noqa: F401  reads args once, here
    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False


@dataclass
class Restored:
    """The results for a picture: IMAGE `B H W C` and seconds by number of steps, and the estimate `[K]`."""

    images: dict[int, torch.Tensor]
    seconds: dict[int, float]
    severities: list[float]
    probabilities: list[float]


class Walk:
    """The functions behind the nodes, with one compact model: encode_prior, sample_daff, decode_daem."""

    def __init__(self, weights: str | None = None, device: str = "cpu", ensemble: int = 1):
        """`ensemble` is DAEM Decode's number of mirrored copies."""
        start_comfy(device)
        self.ensemble = ensemble
        self.compact_model = room("aior_core.host.compact_model")
        self.prior_encode = room("aior_core.host.prior_encode")
        self.daff_patch = room("aior_core.host.daff_patch")
        self.sampling = room("aior_core.host.sampling")
        self.daem_decode = room("aior_core.host.daem_decode")
        self.weights = str(weights or bundled())
        self.model, self.vae, self.restorer = self.compact_model.load_compact(self.weights)

    def encode(self, image):
        """IMAGE `B H W C` -> AIOR_PRIOR."""
        return self.prior_encode.encode_prior(self.restorer, self.vae, image)

    def sample(self, prior, steps: int, seed: int = 0) -> dict:
        """LATENT after `steps` steps; for 0, the damaged picture's own latent, which measures DAEM alone."""
        if steps == 0:
            return {"samples": prior.latent}
        return self.sampling.sample_daff(self.model, self.restorer, prior, seed=seed, steps=steps)

    def decode(self, latent: dict, prior):
        """LATENT -> IMAGE `B H W C` of the input's size."""
        return self.daem_decode.decode_daem(latent, self.vae, self.restorer, prior, ensemble=self.ensemble)

    def stock_sample(self, prior, steps: int, *, patched: bool):
        """Latent `B C h w` of ComfyUI's own sampler, with (`patched`) or without DAFF on the MODEL.

        Noise and conditioning are the same, so that the patch is the only difference.
        """
        import comfy.sample

        model, positive, negative = self.daff_patch.apply_daff(self.model, self.restorer, prior)
        latent = torch.zeros_like(prior.latent)
        noise = comfy.sample.prepare_noise(latent, 0)
        chosen = model if patched else self.model
        return comfy.sample.sample(
            chosen,
            noise,
            steps,
            1.0,
            "euler",
            "simple",
            positive,
            negative,
            latent,
            disable_pbar=True,
            seed=0,
        )

    def __call__(self, image, steps: tuple[int, ...], seed: int = 0) -> Restored:
        """Restore an IMAGE with each number of steps.

        The time to encode the prior counts for each of them.
        """
        started = time.perf_counter()
        prior = self.encode(image)
        encoding = time.perf_counter() - started
        images, seconds = {}, {}
        for count in steps:
            started = time.perf_counter()
            images[count] = self.decode(self.sample(prior, count, seed), prior)
            seconds[count] = encoding + time.perf_counter() - started
        return Restored(images, seconds, prior.severities[0].tolist(), prior.probabilities[0].tolist())


def bundled() -> Path:
    """The bundled compact weights. Raises FileNotFoundError if there are none."""
    found = sorted((ROOT / "models").glob("*.safetensors"))
    if not found:
        raise FileNotFoundError(f"No bundled weights in {ROOT / 'models'}; give a file with --weights.")
    return found[0]
