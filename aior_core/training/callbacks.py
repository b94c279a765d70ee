"""What a training run inside ComfyUI reports to its user: progress, previews, the loss curve; and Cancel."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management as management
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ..degradations import apply_recipe, sample_recipe
from ..metrics import psnr
from ..picture import split_alpha, to_unit
from .data import centre_crop
from .loop import Progress
from .loss_curve import LossCurve
from .networks import Networks
from .own_pictures import OwnPictures
from .restoration import encode_prior, repair, sample
from .run_log import Logs

SIDE = 256
"""The largest side of the preview's picture, in pixels."""
PREVIEW = 512
"""The largest side at which ComfyUI shows the preview, in pixels."""
PARTS = 1000
"""Steps of the progress bar."""


@dataclass(frozen=True)
class Example:
    """The picture of the previews, `1 3 h w` in -1..1, at most 256 pixels a side. With its `clean` version
    the result is measured."""

    lq: Tensor
    clean: Tensor | None = None

    @classmethod
    def of(cls, damaged: Tensor | None, clean: Tensor | None) -> Example | None:
        """The example in two IMAGEs `B H W C` in 0..1; None without any. Raises ValueError for a clean
        picture alone, for unequal sizes, and for less than 16 pixels a side."""
        if damaged is None:
            if clean is not None:
                raise ValueError(
                    "the clean validation picture came without the damaged one. Connect both, or neither."
                )
            return None
        pictures = [
            to_unit(split_alpha(image[:1])[0]).clone() for image in (damaged, clean) if image is not None
        ]
        height, width = pictures[0].shape[2:]
        if pictures[-1].shape[2:] != (height, width):
            sizes = " and ".join(f"{p.shape[3]}x{p.shape[2]}" for p in pictures)
            raise ValueError(
                f"the two validation pictures are {sizes} pixels. Expected the same picture, damaged and "
                "clean, in one size."
            )
        if min(height, width) < 16:
            raise ValueError(f"the validation picture is {width}x{height} pixels; at least 16x16 are needed.")
        return cls(*(_middle(picture) for picture in pictures))

    @classmethod
    def from_pictures(cls, pictures: OwnPictures, kinds: Iterable[str], seed: int) -> Example:
        """The first picture of the folder: of a pair the damaged one, else damaged by one of `kinds`. It is
        not measured, because it is trained on."""
        if pictures.pairs is not None:
            return cls(centre_crop(pictures.pairs.lq.pictures[0], SIDE))
        recipe = sample_recipe(
            torch.Generator().manual_seed(seed), kinds=tuple(kinds), count_weights=(0.0, 1.0), spatial=0.0
        )
        return cls(apply_recipe(centre_crop(pictures.clean.pictures[0], SIDE), recipe))

    def name(self) -> str:
        """A hash of the pictures."""
        digest = hashlib.sha256()
        for picture in (self.lq, self.clean):
            digest.update(b"" if picture is None else picture.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]


def _middle(picture: Tensor) -> Tensor:
    height, width = (min(SIDE, n) // 8 * 8 for n in picture.shape[2:])
    top, left = (picture.shape[2] - height) // 2, (picture.shape[3] - width) // 2
    return picture[:, :, top : top + height, left : left + width]


class Callbacks:
    """The progress bar, previews and loss curve of one run.

    Cancel raises an error in whichever of ComfyUI's layers runs at that moment. In the middle of a step
    nothing can be saved. So `uninterrupted` and `validate` hold the error back, and `on_step`, which the loop
    calls between steps, raises it.
    """

    def __init__(self, path: Path, example: Example, budget: float):
        """path: of the loss curve. budget: seconds of training, those of earlier sessions included."""
        self.path, self.example, self.budget = path, example, budget
        self.curve, self.seconds, self.loss = LossCurve.load(path, example.name()), 0.0, 0.0
        self.bar = comfy.utils.ProgressBar(PARTS)
        self.cancelled: management.InterruptProcessingException | None = None

    def begin(self, networks: Networks, seconds: float) -> None:
        """Show the state before the first step, or after `seconds` of earlier sessions. A Cancel meanwhile is
        raised at once, as nothing has been learnt yet."""
        self.seconds = seconds
        self.curve.cut(seconds)
        if not seconds:
            self.validate(networks)
        self.raise_if_cancelled()

    def raise_if_cancelled(self) -> None:
        """Raise the error of a Cancel that was held back."""
        if self.cancelled:
            raise self.cancelled

    def uninterrupted(self, step: Callable[..., tuple[Tensor, Logs]]) -> Callable[..., tuple[Tensor, Logs]]:
        """A step that is repeated and finished when a Cancel interrupts it."""

        def whole_step(*args, **batch) -> tuple[Tensor, Logs]:
            try:
                loss, logs = step(*args, **batch)
            except management.InterruptProcessingException as error:
                # ComfyUI raises it once for each press of Cancel.
                self.cancelled = error
                return whole_step(*args, **batch)
            self.loss = loss.item()
            return loss, logs

        return whole_step

    def on_step(self, progress: Progress) -> bool:
        """Called after every step; returns True. Raises InterruptProcessingException after a Cancel."""
        self.seconds = progress.seconds
        self.curve.losses.append((round(progress.seconds, 2), self.loss))
        self.raise_if_cancelled()
        management.throw_exception_if_processing_interrupted()
        self.bar.update_absolute(self._part(), PARTS)
        return True

    def _part(self) -> int:
        return round(PARTS * min(1.0, self.seconds / max(self.budget, 1e-9)))

    def validate(self, networks: Networks) -> Logs:
        """Restore the example, show it beside the damaged one, and measure it: {"validation": dB}, or {}."""
        try:
            return self._validate(networks)
        except management.InterruptProcessingException as error:
            self.cancelled = error
            return {}

    @torch.no_grad()
    def _validate(self, networks: Networks) -> Logs:
        lq = self.example.lq.to(next(networks.vae.parameters()).device)
        encoded = encode_prior(networks, lq)
        latent = sample(networks, encoded, 1, torch.Generator().manual_seed(0))
        repaired = repair(networks, encoded, lq, latent)[0].float().clamp(-1, 1).cpu()
        self.bar.update_absolute(
            self._part(),
            PARTS,
            ("JPEG", _picture(torch.cat([self.example.lq.cpu(), repaired], dim=3)), PREVIEW),
        )
        numbers: Logs = {}
        if self.example.clean is not None:
            numbers["validation"] = psnr(repaired, self.example.clean.cpu()).mean().item()
            self.curve.decibels.append((round(self.seconds, 2), numbers["validation"]))
        after = f", {numbers['validation']:.2f} dB" if numbers else ""
        logging.info(
            f"Train AIOR Restorer: {self.minutes():.1f} of {self.budget / 60:g} minutes, "
            f"loss {self.curve.ends()[1]:.4f}{after}"
        )
        self.curve.save(self.path)
        return numbers

    def end(self) -> None:
        """Save the curve, however the run ended."""
        self.curve.save(self.path)

    def minutes(self) -> float:
        """Minutes of training, those of earlier sessions included."""
        return self.seconds / 60

    def decibels(self) -> str:
        """The PSNR of the validation picture: damaged, restored at first, and restored now, in words."""
        assert self.example.clean is not None
        came = psnr(self.example.lq.cpu(), self.example.clean.cpu()).mean().item()
        first, last = (self.curve.decibels[index][1] for index in (0, -1))
        return f"validation picture: {came:.2f} dB as it came, {first:.2f} repaired at first, {last:.2f} now"


def _picture(picture: Tensor) -> Image.Image:
    """`1 3 H W` in -1..1 -> a Pillow picture."""
    return Image.fromarray(picture[0].permute(1, 2, 0).add(1).mul(127.5).round().clamp(0, 255).byte().numpy())
