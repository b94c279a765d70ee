"""How layers of the networks run while they are trained on a GPU; on a processor all stays as it is.

Depth-wise convolutions run by kernels of their own, or, without Triton, as full ones with zeros between the channels: up to hundreds of times the
arithmetic, which tensor cores do in about the time that the pictures take to be read. With everything as PyTorch and cuDNN have it, seven steps of
`detail` on two megapixels had not come to their end after 77 seconds (H100, PyTorch 2.11, bfloat16, channels last; which kernel is to blame was not
looked for). As full ones one takes 0.17 seconds.
"""

from __future__ import annotations

import types

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.daem_level import DAEMLevel
from ..models.degradation_residual import DegradationResidual
from ..models.layers import NAFBlock
from . import kernels
from .depthwise import full_weight, is_depthwise
from .depthwise_kernels import Depthwise

EIGHT = 8
"""Tensor cores take channels by eight; a picture's three go another way, ten times slower, unless zeros are put beside them."""


def on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    if not on_gpu(x):
        return nn.LayerNorm.forward(norm, x)
    if kernels.triton is not None:
        return kernels.ShortNorm.apply(x, norm.weight, norm.bias, norm.eps)
    # Autocast would make fp32 of it, three times as much to read and write.
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(
            x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps
        )


def _gated(block: NAFBlock, x: Tensor) -> Tensor:
    if not on_gpu(x) or kernels.triton is None:
        return NAFBlock.gated(block, x)
    return kernels.Gate.apply(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _mix(level: DAEMLevel, x: Tensor, gates: Tensor, gate: Tensor) -> Tensor:
    """Every sample through every expert: which of them count would have to be asked of the GPU, which then waits for its processor."""
    if not on_gpu(x):
        return DAEMLevel.mix(level, x, gates, gate)
    return sum(
        share[:, None, None, None] * expert(x, gate)
        for share, expert in zip(gates.to(x).unbind(dim=1), level.experts, strict=True)
    )


def _kept(kept: DegradationResidual, h: Tensor, steering: Tensor) -> Tensor | None:
    """As if something were to be kept, which need not be asked: what is not comes to nothing."""
    return kept.of(h, steering) if on_gpu(h) else DegradationResidual.forward(kept, h, steering)


def _depthwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    kind = x.device.type
    x = x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
    return Depthwise.apply(x, convolution.weight, convolution.bias, convolution.dilation[0])


def _convolution(otherwise, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    if not on_gpu(x):
        return otherwise(x)
    weight, groups = convolution.weight, convolution.groups
    if is_depthwise(convolution):
        if kernels.triton is not None:
            return _depthwise(convolution, x)
        weight, groups = full_weight(weight), 1
    out, missing_in, missing_out = len(weight), -weight.shape[1] % EIGHT, -len(weight) % EIGHT
    padded = groups == 1 and (missing_in or missing_out)
    if padded:
        x = F.pad(x, (0, 0, 0, 0, 0, missing_in))
        weight = F.pad(weight, (0, 0, 0, 0, 0, missing_in, 0, missing_out))
    y = F.conv2d(x, weight, None, convolution.stride, convolution.padding, convolution.dilation, groups)
    y = y[:, :out] if padded else y
    if convolution.bias is None:
        return y
    # What is added in place may not be a view: that would cost a copy.
    if kernels.triton is not None and not padded and y.is_contiguous(memory_format=torch.channels_last):
        return kernels.AddBias.apply(y, convolution.bias)
    return y + convolution.bias.to(y.dtype)[:, None, None]


def fast_on_gpus(network: nn.Module) -> nn.Module:
    """Make LayerNorms, convolutions, NAF blocks' gates and DAEM's choices in `network` fast on GPUs. Results and state dict stay the same, up to rounding."""
    for module in network.modules():
        if (
            isinstance(module, nn.LayerNorm)
            and len(module.normalized_shape) == 1
            and module.weight is not None
            and module.bias is not None
        ):
            module.forward = types.MethodType(_norm, module)
        elif isinstance(module, nn.Conv2d):
            module.forward = types.MethodType(types.MethodType(_convolution, module.forward), module)
        elif isinstance(module, NAFBlock):
            module.gated = types.MethodType(_gated, module)
        elif isinstance(module, DAEMLevel):
            module.mix = types.MethodType(_mix, module)
        elif isinstance(module, DegradationResidual):
            module.forward = types.MethodType(_kept, module)
    return network
