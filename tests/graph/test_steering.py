"""Steer Degradations through `/prompt` on a live server, with a small random model."""

from __future__ import annotations

import dataclasses

import numpy
import torch
from aior_pack.tests.graph.walk import photograph, start

KINDS = ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg")


def test_ones_change_nothing_and_what_is_kept_reaches_sampler_decoder_and_report(comfy, graph, weights):
    plain = start(graph, comfy.upload_array(photograph(72, 96)), weights)

    def steered(walk, **weights):
        prior = graph.add(
            "AIOR_SteerPrior", prior=walk.prior, **{kind: weights.get(kind, 1.0) for kind in KINDS}
        )
        return dataclasses.replace(walk, prior=prior.out(0))

    walks = (
        plain,
        steered(plain),
        steered(steered(plain, rain=0.0), noise=0.5),
        steered(plain, noise=0.5, rain=0.0),
    )
    sampled = [walk.sampler().out(0) for walk in walks]
    kept = [walk.keep(latent) for walk, latent in zip(walks, sampled)]
    # One latent for all: what differs comes from the decoder.
    saved = [walk.save(walk.decode(sampled[0]).out(0)) for walk in walks]
    report = graph.add("AIOR_PriorReport", prior=walks[3].prior)
    result = comfy.run(graph.prompt)
    latents = [comfy.latents(result, node)[0] for node in kept]
    pictures = [comfy.pictures(result, node)[0] for node in saved]
    assert torch.equal(latents[0], latents[1]) and numpy.array_equal(pictures[0], pictures[1])
    assert torch.equal(latents[2], latents[3]) and numpy.array_equal(pictures[2], pictures[3])
    assert abs(latents[0] - latents[3]).max() > 1e-3 and not numpy.array_equal(pictures[0], pictures[3])
    assert "To be left in: noise (50%), rain." in "\n".join(
        str(item) for item in result.items("text", report.id)
    )
