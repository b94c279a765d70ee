"""Depth-wise convolutions of pictures with channels last, on GPUs, in Triton.

A full convolution with zeros between the channels does C times the arithmetic for C channels: that was 70 %
of the arithmetic of a step of `detail`. Here a program computes a few rows of pixels in one block of
channels, tap by tap; neighbouring taps read from the nearest cache.

Measured on an H200, forward and backward of eleven shapes of `detail`, launched one by one: 16.0 ms as full
convolutions, 11.2 ms here; from 2.0 against 0.8 ms (7x7, 192 channels) to no difference (3x3, 64 channels).
The whole step became 3 % faster, as it waits for memory, not for arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels import bias_gradient, triton

BLOCK = 32
"""Channels at a time. The widths of all levels are multiples of it."""
NUMBERS, SUMS = 2048, 8192
"""Results that a program holds at a time, and partial sums of a weight's gradient."""
PROGRAMS = 2112
"""Programs that share the sums of a weight's gradient: sixteen for each multiprocessor of the largest
GPUs."""
CHANGING = ("pixels", "height", "width", "step")
"""Arguments whose values do not make Triton compile a kernel anew."""

if triton is not None:
    from triton import language as tl

    @triton.jit(do_not_specialize=CHANGING)
    def _forward(
        x_at, taps_at, bias_at, y_at, pixels, height, width, channels, step,
        kernel: tl.constexpr, block: tl.constexpr, many: tl.constexpr,
        flipped: tl.constexpr, biased: tl.constexpr,
    ):  # fmt: skip
        blocks = tl.cdiv(channels, block)
        first = tl.program_id(0) // blocks * many
        channel = tl.program_id(0) % blocks * block + tl.arange(0, block)
        there = channel < channels
        pixel = first + tl.arange(0, many)
        real, row, column = pixel < pixels, pixel // width % height, pixel % width
        own = first.to(tl.int64) * channels
        place = tl.arange(0, many)[:, None] * channels + channel[None, :]
        made = tl.zeros([many, block], dtype=tl.float32)
        # One row of taps after the other: all of them together do not fit into the registers.
        for upper in range(kernel):
            down = (upper - kernel // 2) * step
            level = real & (row + down >= 0) & (row + down < height)
            for left in tl.static_range(kernel):
                across, tap = (left - kernel // 2) * step, upper * kernel + left
                inside = level & (column + across >= 0) & (column + across < width)
                seen = tl.load(
                    x_at + own + (place + (down * width + across) * channels),
                    mask=inside[:, None] & there[None, :],
                    other=0.0,
                )
                weight = tl.load(
                    taps_at + (kernel * kernel - 1 - tap if flipped else tap) * channels + channel,
                    mask=there,
                    other=0.0,
                )
                made += seen.to(tl.float32) * weight[None, :]
        if biased:
            made += tl.load(bias_at + channel, mask=there, other=0.0)[None, :]
        tl.store(y_at + own + place, made.to(y_at.dtype.element_ty), mask=real[:, None] & there[None, :])

    @triton.jit(do_not_specialize=CHANGING)
    def _weight_backward(
        x_at, dy_at, sums_at, pixels, height, width, channels, step,
        kernel: tl.constexpr, taps: tl.constexpr, block: tl.constexpr, many: tl.constexpr,
    ):  # fmt: skip
        """Sum one row of taps in one block of channels over this program's pixels. taps: the kernel's side
        rounded up to a power of two."""
        channel, tap = tl.program_id(2) * block + tl.arange(0, block), tl.arange(0, taps)
        there = channel < channels
        down, across = (tl.program_id(1) - kernel // 2) * step, (tap - kernel // 2) * step
        place = tl.arange(0, many)[:, None] * channels + channel[None, :]
        shifted = place[None, :, :] + ((down * width + across) * channels)[:, None, None]
        sums = tl.zeros([taps, many, block], dtype=tl.float32)
        for first in range(tl.program_id(0) * many, pixels, tl.num_programs(0) * many):
            pixel = first + tl.arange(0, many)
            row, column = pixel // width % height + down, (pixel % width)[None, :] + across[:, None]
            level = (pixel < pixels) & (row >= 0) & (row < height)
            inside = level[None, :] & (column >= 0) & (column < width) & (tap < kernel)[:, None]
            own = tl.cast(first, tl.int64) * channels
            dy = tl.load(dy_at + own + place, mask=level[:, None] & there[None, :], other=0.0).to(tl.float32)
            seen = tl.load(
                x_at + own + shifted, mask=inside[:, :, None] & there[None, None, :], other=0.0
            ).to(tl.float32)
            sums += seen * dy[None, :, :]
        at = ((tl.program_id(0) * kernel + tl.program_id(1)) * kernel + tap)[:, None] * channels + channel[
            None, :
        ]
        tl.store(sums_at + at, tl.sum(sums, axis=1), mask=(tap < kernel)[:, None] & there[None, :])


def _convolved(x: Tensor, taps: Tensor, bias: Tensor | None, kernel: int, step: int, flipped: bool) -> Tensor:
    batch, height, width, channels = x.shape
    y, pixels, many = torch.empty_like(x), batch * height * width, NUMBERS // BLOCK
    programs = triton.cdiv(pixels, many) * triton.cdiv(channels, BLOCK)
    given = taps if bias is None else bias
    _forward[(programs,)](
        x,
        taps,
        given,
        y,
        pixels,
        height,
        width,
        channels,
        step,
        kernel,
        BLOCK,
        many,
        flipped,
        bias is not None,
    )
    return y


def _weight_gradient(x: Tensor, dy: Tensor, kernel: int, step: int) -> Tensor:
    """Input and output gradient, both `B H W C` -> the weight's gradient `k*k C`, fp32."""
    batch, height, width, channels = x.shape
    pixels, blocks, taps = (
        batch * height * width,
        triton.cdiv(channels, BLOCK),
        triton.next_power_of_2(kernel),
    )
    many = max(1, SUMS // BLOCK // taps)
    shares = max(1, min(triton.cdiv(pixels, many), PROGRAMS // (kernel * blocks)))
    sums = torch.empty(shares, kernel * kernel, channels, device=x.device)
    _weight_backward[(shares, kernel, blocks)](
        x, dy, sums, pixels, height, width, channels, step, kernel, taps, BLOCK, many
    )
    return sums.sum(dim=0)


class Depthwise(torch.autograd.Function):
    """A depth-wise convolution that keeps the size of `x`.

    x: `B C H W`, channels last in memory. weight: `C 1 k k`, k odd, and bias: `C`, both fp32. step: the
    dilation.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, step: int) -> Tensor:
        x = x.permute(0, 2, 3, 1).contiguous()
        taps = weight.flatten(1).T.contiguous()
        ctx.save_for_backward(x, taps)
        ctx.kernel, ctx.step = weight.shape[-1], step
        return _convolved(x, taps, bias, ctx.kernel, step, False).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, taps = ctx.saved_tensors
        channels_last = dy.permute(0, 2, 3, 1).contiguous()
        dx = _convolved(channels_last, taps, None, ctx.kernel, ctx.step, True).permute(0, 3, 1, 2)
        dweight = _weight_gradient(x, channels_last, ctx.kernel, ctx.step)
        return dx, dweight.T.reshape(-1, 1, ctx.kernel, ctx.kernel), bias_gradient(channels_last), None
