"""Depth-wise convolutions whose weight gradients are fast and correct on CPUs.

PyTorch 2.13's CPU kernels are fast for weight gradients of undilated 3x3 depth-wise convolutions only. Those
of 5x5 and 7x7 kernels are 50 times slower, and the bfloat16 gradient of a dilated kernel is garbage (values
of 1e27 were seen). Both cases are reduced to the 3x3 case here.
"""

from __future__ import annotations

import types

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class _LargeKernel(torch.autograd.Function):
    """An undilated depth-wise convolution whose weight gradient is assembled from 3x3 blocks of shifted
    inputs."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=x.shape[1])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        channels, kernel = x.shape[1], weight.shape[-1]
        padding, (height, width) = kernel // 2, x.shape[2:]
        grad = grad.contiguous(memory_format=torch.channels_last)
        same = [1, 1], [padding, padding], [1, 1], False, [0, 0], channels
        grad_x = torch.ops.aten.convolution_backward(grad, x, weight, [0], *same, [True, False, False])[0]
        blocks = -(-kernel // 3)
        spare = 3 * blocks - kernel
        padded = F.pad(x, (padding, padding + spare, padding, padding + spare)).contiguous(
            memory_format=torch.channels_last
        )
        grad_weight = weight.new_empty(channels, 1, 3 * blocks, 3 * blocks)
        for top in range(0, kernel, 3):
            for left in range(0, kernel, 3):
                seen = padded[:, :, top : top + height + 2, left : left + width + 2].contiguous(
                    memory_format=torch.channels_last
                )
                three = weight.new_empty(channels, 1, 3, 3)
                valid = [1, 1], [0, 0], [1, 1], False, [0, 0], channels
                block = torch.ops.aten.convolution_backward(
                    grad, seen, three, [0], *valid, [False, True, False]
                )[1]
                grad_weight[:, :, top : top + 3, left : left + 3] = block
        return grad_x, grad_weight[:, :, :kernel, :kernel], grad.sum(dim=(0, 2, 3))


def _forward(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    assert convolution.bias is not None
    weight, bias = convolution.weight.to(x.dtype), convolution.bias.to(x.dtype)
    step = convolution.dilation[0]
    if step == 1 and weight.shape[-1] == 3:
        return nn.Conv2d.forward(convolution, x)
    if step == 1:
        return _LargeKernel.apply(x, weight, bias)
    # A dilated kernel never mixes the step x step sub-grids of pixels. As separate pictures they need no
    # dilation.
    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % step, 0, -height % step))
    x = rearrange(x, "b c (h p) (w q) -> (b p q) c h w", p=step, q=step).contiguous(
        memory_format=torch.channels_last
    )
    x = F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])
    x = rearrange(x, "(b p q) c h w -> b c (h p) (w q)", p=step, q=step)
    return x[:, :, :height, :width].contiguous(memory_format=torch.channels_last)


def full_weight(weight: Tensor) -> Tensor:
    """Depth-wise weights `C 1 k k` as the weights of a full convolution, `C C k k`, with zeros between
    different channels; channels last in memory."""
    return (
        torch.diag_embed(weight[:, 0].permute(1, 2, 0))
        .permute(2, 3, 0, 1)
        .contiguous(memory_format=torch.channels_last)
    )


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether every channel is convolved separately, with a kernel larger than 1x1."""
    return convolution.groups == convolution.in_channels > 1 and convolution.kernel_size[0] > 1


def fast_gradients(network: nn.Module) -> nn.Module:
    """Make every depth-wise convolution in `network` train fast on CPUs. Results and state dict stay the
    same.

    Raises ValueError for a dilated kernel that is not 3x3.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and is_depthwise(module):
            if module.dilation[0] > 1 and module.kernel_size[0] != 3:
                raise ValueError(
                    f"fast_gradients: a dilated kernel of {module.kernel_size[0]} is not covered; expected 3"
                )
            # Set as an attribute, which wins over the method of the class.
            vars(module)["forward"] = types.MethodType(_forward, module)
    return network
