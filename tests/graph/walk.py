"""Pieces of graphs that several graph tests put together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy

from scripts.client import PromptError

KSAMPLER = {"seed": 5, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
SAMPLER = {**KSAMPLER, "start_point": "noise", "fidelity": 0.0, "strength": 1.0, "tile": 0}

RAW = re.compile(
    r"'NoneType'|has no attribute|object is not|not supported between|unsupported operand|index "
    r"out of|out of range|size of tensor|mat1|"
    r"must match|got an unexpected|argument|Traceback|too many values|not enough "
    r"values|KeyError|unpack|'str' object|Einops|division by zero"
)
"""How Python and PyTorch say what a person should have been told in words."""


def psnr(a: numpy.ndarray, b: numpy.ndarray) -> float:
    """Of two pictures in 0..1, in dB."""
    return float(-10 * numpy.log10(((a - b) ** 2).mean()))


@dataclass(frozen=True)
class Walk:
    """The nodes every restoration starts with; each attribute is a link."""

    graph: Any
    image: list
    mask: list
    model: list
    vae: list
    restorer: list
    prior: list
    latent: list
    report: list

    def apply(self, **options):
        """Apply DAFF, strength 1 over the whole schedule unless said otherwise."""
        at = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **options}
        return self.graph.add(
            "AIOR_ApplyDAFF",
            model=at.pop("model", self.model),
            restorer=self.restorer,
            prior=self.prior,
            **at,
        )

    def ksampler(self, daff, latent: list, **options):
        """Stock KSampler on what Apply DAFF gave."""
        inputs = {**KSAMPLER, **options}
        return self.graph.add(
            "KSampler",
            model=daff.out(0),
            positive=daff.out(1),
            negative=daff.out(2),
            latent_image=latent,
            **inputs,
        )

    def sampler(self, **options):
        """The DAFF Sampler."""
        return self.graph.add(
            "AIOR_DAFFSampler",
            model=self.model,
            restorer=self.restorer,
            prior=self.prior,
            **{**SAMPLER, **options},
        )

    def decode(self, latent: list, **options):
        """DAEM Decode."""
        at = {"strength": 1.0, "tile": 0, "color_fix": "none", **options}
        return self.graph.add(
            "AIOR_DecodeDAEM", samples=latent, vae=self.vae, restorer=self.restorer, prior=self.prior, **at
        )

    def save(self, image: list):
        return self.graph.add("SaveImage", images=image, filename_prefix="walk")

    def keep(self, latent: list):
        return self.graph.add("SaveLatent", samples=latent, filename_prefix="walk")


def start(graph, name: str, file: str) -> Walk:
    """LoadImage, Load AIOR Compact, Encode Degradation Prior."""
    loaded = graph.add("LoadImage", image=name)
    return start_from(graph, loaded.out(0), loaded.out(1), file)


def start_from(graph, image: list, mask: list, file: str) -> Walk:
    """The same from any IMAGE."""
    compact = graph.add("AIOR_LoadCompact", file=file)
    prior = graph.add("AIOR_EncodePrior", restorer=compact.out(2), vae=compact.out(1), image=image, tile=0)
    return Walk(
        graph,
        image,
        mask,
        compact.out(0),
        compact.out(1),
        compact.out(2),
        prior.out(0),
        prior.out(1),
        prior.out(2),
    )


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> numpy.ndarray:
    """A smooth coloured scene with a little noise, `H W C` float 0..1, made without any file."""
    generator = numpy.random.default_rng(seed)
    rows, columns = numpy.mgrid[0:height, 0:width]
    waves = [numpy.sin(rows / a + columns / b + c) for a, b, c in generator.uniform(8, 40, (channels, 3))]
    picture = (
        0.5 + 0.35 * numpy.stack(waves, axis=-1) + 0.05 * generator.standard_normal((height, width, channels))
    )
    return numpy.clip(picture, 0, 1).astype(numpy.float32)


def said(comfy, prompt: dict) -> str:
    """The error of a prompt, "" if it runs. Fails when a node of the pack gives no readable message."""
    try:
        return "\n".join(comfy.run(prompt).refused)
    except PromptError as error:
        text = str(error)
        # What the host refuses before it runs is the host's to word.
        assert error.kind == "refused" or not RAW.search(text) and len(text) < 2000, text[:3000]
        return text
