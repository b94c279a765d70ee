"""How layers of the networks run while they are trained on a GPU. On a CPU they run as PyTorch has them.

Depth-wise convolutions run in Triton kernels of our own. Without Triton they run as full convolutions with
zeros between the channels: hundreds of times the arithmetic, which tensor cores do in about the time that
reading the pictures takes. With PyTorch's and cuDNN's own kernels, seven steps of `detail` on two megapixels
were not done after 77 seconds (H100, PyTorch 2.11, bfloat16, channels last). As full convolutions one step
takes 0.17 seconds.
"""

from __future__ import annotations

import types
from collections.abc import Callable

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
"""Tensor cores take channels in multiples of eight. The three channels of a picture would take a path that is
ten times slower, so they are padded with zeros."""


def on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    if not on_gpu(x):
        return nn.LayerNorm.forward(norm, x)
    if kernels.triton is not None:
        return kernels.ShortNorm.apply(x, norm.weight, norm.bias, norm.eps)
    # Autocast would compute it in fp32, with three times as much memory to read and write.
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(
            x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps
        )


def _gated(block: NAFBlock, x: Tensor) -> Tensor:
    if not on_gpu(x) or kernels.triton is None:
        return NAFBlock.gated(block, x)
    return kernels.Gate.apply(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _mix(level: DAEMLevel, x: Tensor, gates: Tensor, gate: Tensor) -> Tensor:
    """Run every sample through every expert. To skip experts, the CPU would have to read the gates, and the
    GPU would have to wait for it."""
    if not on_gpu(x):
        return DAEMLevel.mix(level, x, gates, gate)
    return sum(
        share[:, None, None, None] * expert(x, gate)
        for share, expert in zip(gates.to(x).unbind(dim=1), level.experts, strict=True)
    )


def _kept(kept: DegradationResidual, h: Tensor, steering: Tensor) -> Tensor | None:
    """Compute the residual even where nothing is kept, where it is 0. The CPU need not read whether it is."""
    return kept.of(h, steering) if on_gpu(h) else DegradationResidual.forward(kept, h, steering)


def _depthwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    kind = x.device.type
    x = x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
    return Depthwise.apply(x, convolution.weight, convolution.bias, convolution.dilation[0])


def _convolution(default, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    if not on_gpu(x):
        return default(x)
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
    # Adding in place needs a tensor that is no view: a view would have to be copied.
    if kernels.triton is not None and not padded and y.is_contiguous(memory_format=torch.channels_last):
        return kernels.AddBias.apply(y, convolution.bias)
    return y + convolution.bias.to(y.dtype)[:, None, None]


def fast_on_gpus(network: nn.Module) -> nn.Module:
    """Make LayerNorms, convolutions, the gates of NAF blocks and the experts of DAEM in `network` fast on
    GPUs. Results stay the same up to rounding, and so does the state dict."""
    for module in network.modules():
        # Set as attributes, which win over the methods of the class.
        if isinstance(module, nn.LayerNorm):
            if len(module.normalized_shape) == 1 and module.weight is not None and module.bias is not None:
                _override(module, "forward", _norm)
        elif isinstance(module, nn.Conv2d):
            _override(module, "forward", types.MethodType(_convolution, module.forward))
        elif isinstance(module, NAFBlock):
            _override(module, "gated", _gated)
        elif isinstance(module, DAEMLevel):
            _override(module, "mix", _mix)
        elif isinstance(module, DegradationResidual):
            _override(module, "forward", _kept)
    return network


def _override(module: nn.Module, name: str, method: Callable) -> None:
    vars(module)[name] = types.MethodType(method, module)
