"""Training on a GPU, as far as a processor can tell: layers that run in another way give what they gave."""

from __future__ import annotations

import copy

import pytest
import torch
from aior_pack.aior_core.models.autoencoder import Trunk
from aior_pack.aior_core.models.daem_level import DAEMLevel
from aior_pack.aior_core.models.degradation_residual import DegradationResidual
from aior_pack.aior_core.models.layers import NAFBlock, initialise
from aior_pack.aior_core.models.tone_curve import curve_between
from aior_pack.aior_core.training import depthwise_kernels, gpu, kernels
from aior_pack.tests.tiny import TINY
from torch import nn
from torch.nn import functional as F


def gradients(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What `network` makes of `x`, and the gradients of its square's sum."""
    x = x.clone(memory_format=torch.channels_last).requires_grad_()
    y = network(x)
    y = y[-1] if isinstance(y, list) else y
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in network.parameters())]


@pytest.mark.parametrize(
    "make",
    [lambda: NAFBlock(8, kernel=5), lambda: NAFBlock(8, dilation=4), lambda: Trunk((12, 16), (1, 1), (1, 0))],
    ids=["wide", "dilated", "trunk"],
)
def test_what_runs_in_another_way_on_a_gpu_gives_the_same(make, monkeypatch):
    monkeypatch.setattr(gpu, "on_gpu", lambda x: True)
    monkeypatch.setattr(kernels, "triton", None)
    generator = torch.Generator().manual_seed(0)
    plain = initialise(make(), generator).to(memory_format=torch.channels_last)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    fast = gpu.fast_on_gpus(copy.deepcopy(plain))
    assert fast.state_dict().keys() == plain.state_dict().keys()
    channels = 3 if isinstance(plain, Trunk) else 8
    x = torch.randn(2, channels, 16, 24, generator=generator)
    for own, wanted in zip(gradients(fast, x), gradients(plain, x), strict=True):
        assert (own - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("kept", [1.0, 0.4], ids=["nothing", "something"])
def test_on_a_gpu_nothing_is_asked_of_it(kept, monkeypatch):
    """With every sample through every expert, and zeros added too, picture and gradients are the same."""
    monkeypatch.setattr(kernels, "triton", None)
    generator = torch.Generator().manual_seed(0)
    config = TINY.restorer.daem
    level, part = DAEMLevel(12, 8, 16, 1, config), DegradationResidual(8, 3)
    for network in (level, part):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
    nn.init.normal_(level.router.weight, std=3.0, generator=generator)
    h, skip, context = (
        torch.randn(size, generator=generator)
        for size in ((5, 12, 8, 8), (5, 8, 8, 8), (5, config.context_width))
    )
    steering = torch.ones(5, 3)
    steering[2, 1] = kept

    def results(on_gpu: bool) -> list[torch.Tensor]:
        monkeypatch.setattr(gpu, "on_gpu", lambda x: on_gpu)
        networks = [gpu.fast_on_gpus(copy.deepcopy(network)) for network in (level, part)]
        residual, routing = networks[0](h, skip, context)
        back = networks[1](skip, steering)
        (residual.square().sum() + (0 if back is None else back.square().sum())).backward()
        grads = [
            torch.zeros_like(p) if p.grad is None else p.grad
            for network in networks
            for p in network.parameters()
        ]
        return [
            residual.detach(),
            routing.gates,
            torch.zeros(5, 3, 8, 8) if back is None else back.detach(),
            *grads,
        ]

    wanted = results(False)
    assert (wanted[1] > 0).sum(dim=0).count_nonzero() > 1
    for own, other in zip(results(True), wanted, strict=True):
        assert (own - other).norm() <= 1e-4 * other.norm() + 1e-6


def test_on_a_processor_nothing_runs_in_another_way(monkeypatch):
    network = gpu.fast_on_gpus(initialise(NAFBlock(8), torch.Generator().manual_seed(0)))
    monkeypatch.setattr(gpu, "full_weight", None)
    assert network(torch.randn(1, 8, 8, 8)).shape == (1, 8, 8, 8)


@pytest.mark.parametrize(
    "channels, rows, dtype",
    [(16, 700, torch.float32), (48, 333, torch.float32), (3, 65, torch.float32), (32, 500, torch.bfloat16)],
)
def test_kernels_compute_what_pytorch_does(channels, rows, dtype):
    if kernels.triton is None or not (torch.cuda.is_available() or kernels.triton.knobs.runtime.interpret):
        pytest.skip("Triton's kernels need a GPU, or TRITON_INTERPRET=1 and Triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    weight, bias = torch.randn(2, channels, device=device).unbind()
    narrow, wide = (torch.randn(rows, n * channels, device=device).mul(2).add(1).to(dtype) for n in (1, 2))
    picture = narrow.reshape(1, rows, 1, channels).permute(0, 3, 1, 2)
    cases = (
        (
            lambda x, w, b: kernels.ShortNorm.apply(x, w, b, 1e-6),
            lambda x, w, b: F.layer_norm(x, (channels,), w, b, 1e-6),
            (narrow, weight, bias),
        ),
        (lambda x, b: kernels.AddBias.apply(x * 1, b), lambda x, b: x + b[:, None, None], (picture, bias)),
        (kernels.Gate.apply, lambda x: torch.mul(*x.chunk(2, dim=1)), (wide,)),
    )
    for ours, theirs, inputs in cases:
        results = []
        for function, kind in ((ours, lambda x: x), (theirs, torch.Tensor.float)):
            leaves = [
                kind(x.detach().clone(memory_format=torch.preserve_format)).requires_grad_() for x in inputs
            ]
            y = function(*leaves)
            y.float().square().sum().backward()
            results.append([y.detach(), *(leaf.grad for leaf in leaves)])
        for own, wanted in zip(*results, strict=True):
            assert (own.float() - wanted).norm() <= (
                0.02 if dtype == torch.bfloat16 else 1e-5
            ) * wanted.norm()


@pytest.mark.parametrize("channels, kernel, step, dtype", [
    (8, 3, 1, torch.float32), (40, 5, 1, torch.float32), (64, 7, 1, torch.float32), (6, 3, 4, torch.float32),
    (32, 3, 1, torch.bfloat16),
])  # fmt: skip
def test_own_depthwise_convolutions_are_those_of_pytorch(channels, kernel, step, dtype, monkeypatch):
    if kernels.triton is None or not (torch.cuda.is_available() or kernels.triton.knobs.runtime.interpret):
        pytest.skip("Triton's kernels need a GPU, or TRITON_INTERPRET=1 and Triton")
    # Small enough that a small picture has several programs of each kind, with a rest.
    for name, value in {"NUMBERS": 1024, "SUMS": 2048, "PROGRAMS": 24}.items():
        monkeypatch.setattr(depthwise_kernels, name, value)
    device, generator = "cuda" if torch.cuda.is_available() else "cpu", torch.Generator().manual_seed(0)
    x, weigh = (torch.randn(2, channels, 9, 11, generator=generator).to(device, dtype) for _ in range(2))
    weight, bias = (
        torch.randn(channels, 1, kernel, kernel, generator=generator).to(device),
        torch.randn(channels, generator=generator).to(device),
    )
    ways = (
        (depthwise_kernels.Depthwise.apply, lambda x: x),
        (
            lambda x, w, b, step: F.conv2d(
                x, w, b, padding=step * (kernel // 2), dilation=step, groups=channels
            ),
            torch.Tensor.float,
        ),
    )
    results = []
    for way, kind in ways:
        leaves = [
            kind(t.detach().clone()).requires_grad_()
            for t in (x.contiguous(memory_format=torch.channels_last), weight, bias)
        ]
        y = way(*leaves, step)
        (y.float() * weigh.float()).sum().backward()
        results.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for own, wanted in zip(*results, strict=True):
        assert (
            own.shape == wanted.shape
            and (own.float() - wanted).norm() <= (0.02 if dtype == torch.bfloat16 else 1e-5) * wanted.norm()
        )


def test_the_tone_curve_is_fitted_in_full_precision_also_in_training():
    now, wished = torch.rand(2, 4, 27, generator=torch.Generator().manual_seed(1)).sort(dim=2).values.unbind()
    wanted = curve_between(now, wished)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(curve_between(now, wished), wanted)
        assert (curve_between(now.bfloat16(), wished.bfloat16()) - wanted).abs().max() < 0.2


@pytest.mark.usefixtures("comfyui")
def test_the_device_settles_what_the_options_leave_open():
    from aior_pack.aior_core.training.__main__ import parse, settle

    def settled(device: str, *arguments: str, memory: float = 80.0) -> tuple[int, int]:
        options = parse(["detail", *arguments])
        settle(options, device, memory)
        return options.batch_scale, options.workers

    assert settled("cpu") == (1, 0)
    assert [settled("cuda", memory=memory)[0] for memory in (139.0, 80.0, 23.5, 7.8, 1.0)] == [
        16,
        16,
        10,
        3,
        1,
    ]
    assert settled("cuda", "--batch-scale", "3", "--workers", "0") == (3, 0)
