"""The DAFF Sampler in windows at SDXL's scale, beside what people put around it."""

from __future__ import annotations

import numpy
from aior_pack.tests.graph.test_sdxl_walk import SCHEDULE, distance, restorer_file, sampled, start
from aior_pack.tests.graph.walk import photograph

__all__ = ["restorer_file"]


def test_windows_go_with_controlnets_areas_masks_and_samplers(comfy, graph, restorer_file):
    """In windows of 128 pixels on 128x200, LoRA, ControlNet and the others still change the result."""
    walk = start(comfy, graph, restorer_file, photograph(128, 200))
    add = graph.add
    net = add("AIORTest_LoadNarrowControlNet", seed=7).out(0)
    hinted = add("ControlNetApplyAdvanced", positive=walk.positive, negative=walk.negative, control_net=net,
    image=walk.image, strength=1.0,
                 start_percent=0.0, end_percent=1.0)  # fmt: skip
    left = add(
        "ConditioningSetArea", conditioning=walk.positive, width=96, height=128, x=0, y=0, strength=1.0
    )
    right = add(
        "ConditioningSetArea",
        conditioning=add("AIORTest_NarrowPrompt", seed=9).out(0),
        width=104,
        height=128,
        x=96,
        y=0,
        strength=1.0,
    )
    both = add("ConditioningCombine", conditioning_1=left.out(0), conditioning_2=right.out(0))
    mask = numpy.zeros((128, 200, 3), numpy.float32)
    mask[:, 96:] = 1
    masked = add(
        "SetLatentNoiseMask",
        samples=walk.latent,
        mask=add("LoadImageMask", image=comfy.upload_array(mask), channel="red").out(0),
    )
    words = {
        "positive": walk.positive,
        "negative": walk.negative,
        "latent": walk.latent,
        **SCHEDULE,
        "steps": 1,
    }
    ways = [
        {},
        {"positive": hinted.out(0), "negative": hinted.out(1)},
        {"positive": both.out(0)},
        {"latent": masked.out(0)},
        {"sampler_name": "uni_pc"},
    ]
    tiled = sampled(comfy, walk, *(walk.sampler(**{**words, **way}, tile=128) for way in ways))
    assert all(latent.shape == (1, 4, 16, 25) for latent in tiled)
    assert all(distance(tiled[0], other) > 1e-3 for other in tiled[1:-1])
    # Where nothing is to be repaired, the latent stays, in windows too.
    (whole,) = sampled(comfy, walk, walk.sampler(**{**words, **ways[3]}, tile=8192))
    assert distance(tiled[3][..., :11], whole[..., :11]) < 1e-4 < distance(tiled[3], whole)
