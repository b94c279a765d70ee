"""Triton kernels for layers that are slow in PyTorch on pictures with channels last: each pixel is a short
row, and there are millions of them.

PyTorch's LayerNorm gives every row a block of threads of its own; here a block takes many rows. Measured on
an H100 in bfloat16, one step of `detail` on 2 megapixels: with these norms alone 227 ms, of which adding
biases took 33, their gradients 20, and the gates of NAF blocks about 25. With kernels for those too it takes
166 to 184 ms and is bound by the CPU that launches kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
except ImportError:
    # PyTorch installs Triton where Triton can compile for a GPU. Elsewhere PyTorch's own kernels are used.
    triton = None

NUMBERS, PROGRAMS = 4096, 2112
"""Numbers that a block holds at a time, and the blocks that share the rows of a sum: sixteen for each
multiprocessor of the largest GPUs."""

if triton is not None:

    @triton.jit
    def _places(row, channels: tl.constexpr, width: tl.constexpr, rows):
        """The offsets of the channels of `row` in memory, and which of them exist."""
        channel = tl.arange(0, width)[None, :]
        return row[:, None].to(tl.int64) * channels + channel, (row[:, None] < rows) & (channel < channels)

    @triton.jit
    def _normed(x, there, channels: tl.constexpr, eps):
        """Normalised rows, and the factor that scaled each."""
        centred = tl.where(there, x - (tl.sum(x, axis=1) / channels)[:, None], 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / channels + eps)
        return centred * scale[:, None], scale

    @triton.jit
    def _norm_forward(
        x_at,
        weight_at,
        bias_at,
        y_at,
        rows,
        eps,
        channels: tl.constexpr,
        width: tl.constexpr,
        many: tl.constexpr,
    ):
        place, there = _places(tl.program_id(0) * many + tl.arange(0, many), channels, width, rows)
        normed, _ = _normed(tl.load(x_at + place, mask=there, other=0.0).to(tl.float32), there, channels, eps)
        channel = tl.arange(0, width)
        weight = tl.load(weight_at + channel, mask=channel < channels, other=0.0)
        bias = tl.load(bias_at + channel, mask=channel < channels, other=0.0)
        tl.store(
            y_at + place, (normed * weight[None, :] + bias[None, :]).to(y_at.dtype.element_ty), mask=there
        )

    @triton.jit
    def _norm_backward(
        x_at,
        weight_at,
        dy_at,
        dx_at,
        dweight_at,
        dbias_at,
        rows,
        eps,
        channels: tl.constexpr,
        width: tl.constexpr,
        many: tl.constexpr,
    ):
        channel = tl.arange(0, width)
        weight = tl.load(weight_at + channel, mask=channel < channels, other=0.0)
        dweight = tl.zeros([width], dtype=tl.float32)
        dbias = tl.zeros([width], dtype=tl.float32)
        for start in range(tl.program_id(0) * many, rows, tl.num_programs(0) * many):
            place, there = _places(start + tl.arange(0, many), channels, width, rows)
            normed, scale = _normed(
                tl.load(x_at + place, mask=there, other=0.0).to(tl.float32), there, channels, eps
            )
            dy = tl.load(dy_at + place, mask=there, other=0.0).to(tl.float32)
            dweight += tl.sum(dy * normed, axis=0)
            dbias += tl.sum(dy, axis=0)
            g = dy * weight[None, :]
            along = tl.sum(g * normed, axis=1) / channels
            dx = scale[:, None] * (g - (tl.sum(g, axis=1) / channels)[:, None] - normed * along[:, None])
            tl.store(dx_at + place, dx.to(dx_at.dtype.element_ty), mask=there)
        own = tl.program_id(0) * channels + channel
        tl.store(dweight_at + own, dweight, mask=channel < channels)
        tl.store(dbias_at + own, dbias, mask=channel < channels)

    @triton.jit
    def _bias_forward(x_at, bias_at, rows, channels: tl.constexpr, width: tl.constexpr, many: tl.constexpr):
        place, there = _places(tl.program_id(0) * many + tl.arange(0, many), channels, width, rows)
        channel = tl.arange(0, width)
        bias = tl.load(bias_at + channel, mask=channel < channels, other=0.0)
        x = tl.load(x_at + place, mask=there, other=0.0).to(tl.float32) + bias[None, :]
        tl.store(x_at + place, x.to(x_at.dtype.element_ty), mask=there)

    @triton.jit
    def _bias_backward(
        dy_at, dbias_at, rows, channels: tl.constexpr, width: tl.constexpr, many: tl.constexpr
    ):
        channel = tl.arange(0, width)
        dbias = tl.zeros([width], dtype=tl.float32)
        for start in range(tl.program_id(0) * many, rows, tl.num_programs(0) * many):
            place, there = _places(start + tl.arange(0, many), channels, width, rows)
            dbias += tl.sum(tl.load(dy_at + place, mask=there, other=0.0).to(tl.float32), axis=0)
        tl.store(dbias_at + tl.program_id(0) * channels + channel, dbias, mask=channel < channels)

    @triton.jit
    def _gate_forward(x_at, y_at, rows, channels: tl.constexpr, width: tl.constexpr, many: tl.constexpr):
        row = tl.program_id(0) * many + tl.arange(0, many)
        place, there = _places(row, channels, width, rows)
        left = place + row[:, None].to(tl.int64) * channels
        product = tl.load(x_at + left, mask=there, other=0.0).to(tl.float32) * tl.load(
            x_at + left + channels, mask=there, other=0.0
        ).to(tl.float32)
        tl.store(y_at + place, product.to(y_at.dtype.element_ty), mask=there)

    @triton.jit
    def _gate_backward(
        x_at, dy_at, dx_at, rows, channels: tl.constexpr, width: tl.constexpr, many: tl.constexpr
    ):
        row = tl.program_id(0) * many + tl.arange(0, many)
        place, there = _places(row, channels, width, rows)
        left = place + row[:, None].to(tl.int64) * channels
        dy = tl.load(dy_at + place, mask=there, other=0.0).to(tl.float32)
        dleft = dy * tl.load(x_at + left + channels, mask=there, other=0.0).to(tl.float32)
        dright = dy * tl.load(x_at + left, mask=there, other=0.0).to(tl.float32)
        tl.store(dx_at + left, dleft.to(dx_at.dtype.element_ty), mask=there)
        tl.store(dx_at + left + channels, dright.to(dx_at.dtype.element_ty), mask=there)


def _sizes(x: Tensor, dim: int = -1) -> tuple[int, tuple[int, int, int]]:
    """The number of rows, and what kernels are compiled for: channels, channels rounded up to a power of two,
    and rows at a time."""
    channels = x.shape[dim]
    width = triton.next_power_of_2(channels)
    return x.numel() // channels, (channels, width, max(1, NUMBERS // width))


class ShortNorm(torch.autograd.Function):
    """LayerNorm over the last dimension of `x`, `... C`: computed in fp32, returned in the dtype of `x`.
    `weight` and `bias` are `C`, fp32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        rows, sizes = _sizes(x)
        y = torch.empty_like(x)
        _norm_forward[(triton.cdiv(rows, sizes[-1]),)](x, weight, bias, y, rows, eps, *sizes)
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        rows, sizes = _sizes(x)
        programs = min(PROGRAMS, triton.cdiv(rows, sizes[-1]))
        dx = torch.empty_like(x)
        dweight, dbias = weight.new_empty(2, programs, sizes[0])
        _norm_backward[(programs,)](x, weight, dy.contiguous(), dx, dweight, dbias, rows, ctx.eps, *sizes)
        return dx, dweight.sum(dim=0), dbias.sum(dim=0), None


def bias_gradient(dy: Tensor) -> Tensor:
    """The gradient of a bias that was added to every row: `... C` -> `C`, fp32."""
    rows, sizes = _sizes(dy)
    programs = min(PROGRAMS, triton.cdiv(rows, sizes[-1]))
    dbias = torch.empty(programs, sizes[0], device=dy.device)
    _bias_backward[(programs,)](dy, dbias, rows, *sizes)
    return dbias.sum(dim=0)


class AddBias(torch.autograd.Function):
    """Adds `bias` (`C`, fp32) in place to `x` (`B C H W`, channels last in memory)."""

    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor) -> Tensor:
        rows, sizes = _sizes(x, 1)
        _bias_forward[(triton.cdiv(rows, sizes[-1]),)](x, bias, rows, *sizes)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor]:
        return dy, bias_gradient(dy.permute(0, 2, 3, 1).contiguous())


class Gate(torch.autograd.Function):
    """The first half of the last dimension times the second half: `... 2C` -> `... C`."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        rows, sizes = _sizes(y)
        _gate_forward[(triton.cdiv(rows, sizes[-1]),)](x, y, rows, *sizes)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        rows, sizes = _sizes(dy)
        dx = torch.empty_like(x)
        _gate_backward[(triton.cdiv(rows, sizes[-1]),)](x, dy.contiguous(), dx, rows, *sizes)
        return dx
