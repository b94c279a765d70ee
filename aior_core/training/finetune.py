"""Fine-tuning a restorer inside ComfyUI on a user's own pictures: what the node Train AIOR Restorer does.

MODEL and VAE stay as they are, so the result is one restorer for the same two. Only copies are trained: the
inputs do not change.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ..degradations import KINDS
from ..host.compact_model import CompactModel
from ..host.compatibility import require_vae
from ..host.folders import input_folder, training_folder, unfinished_place
from ..host.restorer import Restorer, build_restorer, require_restorer
from ..host.restorer_file import write_restorer
from ..models.config import CompactConfig
from ..models.family import COMPACT
from ..models.unet import unet_config
from ..pipeline.validate import require_kind, require_numbers
from ..weights import as_saved
from . import checkpoint, loop, losses, own_pictures
from .callbacks import Callbacks, Example
from .networks import Networks, build
from .restoration import WEIGHTS, damage, encode_prior, repair, sample
from .stages import STAGES, Logs, Stage

NODE = "Train AIOR Restorer"
STAGE_NAMES = ("detail", "fusion")
FREE_ALL = 1e20
"""Bytes that ComfyUI is asked to free, as its own training node does, so that nothing else stays on the GPU.
"""


@dataclass(frozen=True)
class Settings:
    """minutes: in all, with earlier runs of the same settings. kinds: the degradations that are synthesised
    on clean pictures, unused for pairs."""

    stage: str = "detail"
    minutes: float = 10.0
    kinds: tuple[str, ...] = KINDS
    learning_rate: float = 1.0
    seed: int = 0


def train_restorer(
    model: ModelPatcher,
    vae: VAE,
    restorer: Restorer,
    folder: str,
    settings: Settings,
    *,
    damaged: Tensor | None = None,
    clean: Tensor | None = None,
) -> tuple[Restorer, Tensor, str]:
    """Fine-tune a compact restorer on the pictures in `folder`: the new Restorer, an IMAGE of the loss, and a
    summary.

    folder: absolute, or below ComfyUI's input folder; clean pictures, or pairs in `lq/` and `gt/`. damaged,
    clean: IMAGE `B H W C`, 0..1, of one size. The damaged one is repaired in the previews, and measured if
    there is a clean one.

    The run's checkpoint stays in ComfyUI's output folder. The same settings, weights and pictures resume from
    it, with more minutes or after a cancel, or return its result. On a cancel, the restorer so far is also
    written to where its loader finds it. The same seed draws the same crops and damages; how many fit into
    the minutes depends on the machine.

    Raises ValueError naming what is wrong with the inputs, the folder or the pictures; RuntimeError if the
    training diverges.
    """
    require_numbers(minutes=settings.minutes, learning_rate=settings.learning_rate)
    if settings.stage not in STAGE_NAMES:
        raise ValueError(
            f"{NODE}: there is no stage {str(settings.stage)[:60]!r}; expected {' or '.join(STAGE_NAMES)}."
        )
    _require_compact(model, vae, restorer)
    try:
        place = input_folder(folder)
        files = own_pictures.find(place)
        if files[0][1] is None and not settings.kinds:
            raise ValueError(
                f"{place} holds clean pictures, and all degradations are off. Switch on those that shall be "
                "learnt."
            )
        pictures = own_pictures.load(files, settings.seed)
        with torch.inference_mode(False):
            example = Example.of(damaged, clean) or Example.from_pictures(
                pictures, settings.kinds, settings.seed
            )
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error
    with torch.inference_mode(False), _trains():
        networks = _copy(model, vae, restorer)
        run = training_folder(f"{settings.stage}-{_key(networks, settings, files)}")
        callbacks = Callbacks(run / "curve.json", example, 60 * settings.minutes)
        _run(networks, settings, pictures, run, callbacks, restorer)
        trained = _result(networks, restorer, _note(restorer, settings, place, pictures, callbacks))
    measured = "" if not callbacks.curve.decibels else f"\n{callbacks.decibels()}"
    first, last = callbacks.curve.ends()
    summary = (
        f"{settings.stage}: {len(callbacks.curve.losses)} steps in {callbacks.minutes():.1f} minutes "
        f"on {pictures.describe()} of {place}\n"
        f"loss {first:.4f} at first, {last:.4f} at last{measured}\n"
        f"Kept in {run}: run again with more minutes to go on from here."
    )
    return trained, callbacks.curve.draw(settings.stage), summary


def pictures_fingerprint(folder: str) -> str:
    """A text that changes when the pictures in `folder` change; empty if there are none."""
    try:
        return own_pictures.fingerprint(own_pictures.find(input_folder(folder)))
    except ValueError:
        return ""


def _require_compact(model: ModelPatcher, vae: VAE, restorer: Restorer) -> None:
    require_restorer(restorer)
    require_kind("model", model, ModelPatcher, "the MODEL of Load AIOR Compact")
    if restorer.family != COMPACT or restorer.daem is None:
        what = "without DAEM" if restorer.family == COMPACT else f"of family {restorer.family.name}"
        raise ValueError(
            f"{NODE}: this restorer ({restorer.source}) is {what}; connect the one of Load AIOR Compact, or "
            "one trained from it."
        )
    require_vae(restorer, vae)
    if restorer.config.kinds != KINDS:
        raise ValueError(
            f"{NODE}: this restorer ({restorer.source}) knows {len(restorer.config.kinds)} kinds of damage, "
            f"the pack {len(KINDS)}. "
            "Train weights for all of them first: python -m aior_core.training --plan cpu-2h."
        )
    if not isinstance(model.model.model_config, CompactModel):
        kind = type(model.model).__name__
        raise ValueError(
            f"{NODE}: the restorer is of family compact, the MODEL is not ({kind}). Connect the MODEL of "
            "Load AIOR Compact."
        )


@contextmanager
def _trains() -> Iterator[None]:
    """Prepare ComfyUI for training, as its own training node does: free the GPU, set its flag for layers that
    differ in training, and release memory afterwards."""
    device = management.get_torch_device()
    if not management.is_device_cpu(device):
        management.free_memory(FREE_ALL, device)
    before, management.in_training = management.in_training, True
    try:
        yield
    finally:
        management.in_training = before
        management.soft_empty_cache()


def _device() -> str:
    """ComfyUI's device if the training loop supports it (CUDA and ROCm), else the CPU."""
    return "cuda" if management.get_torch_device().type == "cuda" else "cpu"


def _copy(model: ModelPatcher, vae: VAE, restorer: Restorer) -> Networks:
    """Networks in fp32 on the CPU with the weights of the inputs. They share no memory with them, and hold no
    inference tensor."""
    unet, autoencoder = model.model.diffusion_model, vae.first_stage_model
    config = CompactConfig(
        autoencoder.config, unet_config(model.model.model_config.unet_config), restorer.config
    )
    # torch.nn draws starting weights, which are not used, from the global generator.
    with torch.random.fork_rng(devices=[]):
        networks = build(config)
    sources = {"vae": autoencoder, "unet": unet, **restorer.networks()}
    networks.load_state_dict(
        {
            f"{n}.{k}": v.detach().to("cpu", copy=True)
            for n, part in sources.items()
            for k, v in part.state_dict().items()
        }
    )
    return networks


def _key(networks: Networks, settings: Settings, files: list) -> str:
    """The key by which a run is resumed: a hash of everything that decides what is learnt, except the
    minutes."""
    digest = hashlib.sha256(
        json.dumps({**asdict(settings), "minutes": None}).encode() + own_pictures.fingerprint(files).encode()
    )
    for name, tensor in sorted(networks.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _run(
    networks: Networks,
    settings: Settings,
    pictures: own_pictures.OwnPictures,
    run: Path,
    callbacks: Callbacks,
    restorer: Restorer,
) -> None:
    device = _device()
    options = loop.Options(
        out=run,
        minutes=settings.minutes,
        seed=settings.seed,
        device=device,
        batch_scale=4 if device == "cuda" else 1,
        validate_seconds=max(10.0, 60 * settings.minutes / 20),
        learning_rate_scale=settings.learning_rate,
        pair_share=1.0,
    )
    stage = _stage(settings, pictures.largest_crop)
    path = run / f"{stage.name}.safetensors"
    callbacks.begin(networks.to(device), checkpoint.state(path)["seconds"] if path.exists() else 0.0)
    try:
        loop.train(
            networks,
            stage,
            pictures.clean,
            options,
            validate=callbacks.validate,
            say=logging.debug,
            watch=callbacks.on_step,
            pairs=pictures.pairs,
            step=callbacks.uninterrupted(stage.step),
        )
    except management.InterruptProcessingException:
        _keep_unfinished(networks, path, callbacks, restorer, settings)
        raise
    finally:
        callbacks.end()
    callbacks.raise_if_cancelled()


def _keep_unfinished(
    networks: Networks, path: Path, callbacks: Callbacks, restorer: Restorer, settings: Settings
) -> None:
    """After a cancel, write a restorer that can be used now. The checkpoint from which the same settings
    resume is there already."""
    place = unfinished_place(path.parent.name)
    note = f"{settings.stage}, cancelled after {callbacks.minutes():.1f} of {settings.minutes:g} minutes"
    write_restorer(_result(networks, restorer, "; ".join(filter(None, (restorer.note, note)))), place)
    logging.info(
        f"{NODE}: cancelled. What was learnt is {place.name}.safetensors for Load AIOR Restorer; the same "
        "settings again go on."
    )


def _result(networks: Networks, restorer: Restorer, note: str) -> Restorer:
    """The trained weights in fp16, as a file stores them, as a Restorer. Raises ValueError if fp16 cannot
    hold them."""
    state = as_saved(networks.state_dict(), f"{NODE}: what was trained from {restorer.source}")
    return build_restorer(state, restorer.config, restorer.source, note)


def _note(
    restorer: Restorer,
    settings: Settings,
    folder: Path,
    pictures: own_pictures.OwnPictures,
    callbacks: Callbacks,
) -> str:
    kinds = "" if pictures.pairs else f" with {', '.join(settings.kinds)}"
    own = (
        f"{settings.stage}, {callbacks.minutes():.1f} minutes, {len(callbacks.curve.losses)} steps on "
        f"{pictures.describe()} of {folder.name}{kinds}, "
        f"learning rate x{settings.learning_rate:g}, seed {settings.seed}, from {restorer.source}"
    )
    return "; ".join(filter(None, (restorer.note, own)))


def _stage(settings: Settings, largest_crop: int) -> Stage:
    """The stage of the recipe, without what belongs to the user's MODEL and VAE."""
    weights = {kind: WEIGHTS[kind] for kind in settings.kinds}
    sizes = [(min(side, largest_crop), count) for side, count in ((128, 4), (192, 2))]

    def crops(progress: float, step: int) -> tuple[int, int]:
        return sizes[step % len(sizes)]

    if settings.stage == "fusion":
        return replace(
            STAGES["fusion"],
            trains=("daff",),
            learning_rate=3e-4,
            crops=crops,
            damage_options={"weights": weights},
        )
    return FineTuneDetail(
        "detail",
        trains=("prior.trunk", "prior.head", "daem"),
        learning_rate=6e-4,
        crops=crops,
        damages=True,
        damage_options={"weights": weights},
        pairs=True,
    )


@dataclass(frozen=True)
class FineTuneDetail(Stage):
    """The stage `detail` with a frozen decoder and a frozen sampler."""

    def step(
        self, networks: Networks, clean: Tensor, generator: torch.Generator, **batch
    ) -> tuple[Tensor, Logs]:
        return _detail(networks, clean, generator, **self.damage_options, **batch)


def _detail(networks: Networks, clean: Tensor, generator: torch.Generator, **mix) -> tuple[Tensor, Logs]:
    """Train LQ encoder and DAEM on the latents that they will meet: sampled in one or four steps, or the
    damaged picture's own.

    The decoder is frozen, so DAEM must see what the decoder gives for such latents while it learns. DAFF gets
    features that change during training.
    """
    batch = damage(clean, generator, **mix)
    # This comes first, with gradients: autocast caches the weights that it casts, and would use weights here
    # that it has cast without gradients.
    encoded = encode_prior(networks, batch.lq)
    roll = torch.rand((), generator=generator).item()
    with torch.no_grad():
        latent = (
            networks.vae.encode(batch.lq)
            if roll < 0.2
            else sample(networks, encoded, 1 if roll < 0.6 else 4, generator, batch.remove)
        )
    repaired, _ = repair(networks, encoded, batch.lq, latent, batch.remove)
    fit = losses.restoration(repaired, batch.target)
    head = losses.severity(
        encoded.presence_logits,
        encoded.severity_logits,
        encoded.map_logits,
        batch.severities,
        batch.maps,
        batch.known,
    )
    return fit + 0.02 * losses.sobel_l1(repaired, batch.target) + 0.02 * head, {
        "fit": fit.item(),
        "head": head.item(),
    }
