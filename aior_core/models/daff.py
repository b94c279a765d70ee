"""Degradation-Aware Feature Fusion (UniLDiff section 3.2; docs/method.md, section 3).

The LQ feature and the UNet's first feature of the noisy latent pass through a double-stream and a
single-stream transformer block, both modulated by the timestep. The result is a residual on that UNet
feature. Its projection starts at zero.

There are two modes. In `paper`, the single-stream block gets the latent stream as the double-stream block
updated it, and the time embedding is smooth in t. In `official`, as in the authors' public code, the updated
latent stream is dropped and the integer timestep is multiplied by 1000. Weights that were trained with that
code need it.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .config import DAFFConfig
from .layers import ChannelNorm, scaled_init, sinusoid

TIME_WIDTH = 256


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over tokens: q, k, v `B heads N d` -> `B N heads*d`."""
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm of tokens `B N C` without parameters (eps 1e-6), then scale and shift, `B 1 C` each."""
    return (1 + scale) * F.layer_norm(x, x.shape[-1:], eps=1e-6) + shift


class HeadNorm(nn.Module):
    """RMSNorm of the queries or keys of each head, in fp32, with a learned scale and eps 1e-6."""

    def __init__(self, width: int, *, device=None, dtype=None):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width, device=device, dtype=dtype))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        return (y * torch.rsqrt(y.square().mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype) * self.scale.to(x)


class QueryKeyNorm(nn.Module):
    """The norms of queries and of keys."""

    def __init__(self, width: int, *, device=None, dtype=None):
        super().__init__()
        self.query_norm = HeadNorm(width, device=device, dtype=dtype)
        self.key_norm = HeadNorm(width, device=device, dtype=dtype)


class Modulation(nn.Module):
    """Time vector `B C` -> `count` tensors `B 1 C` for `modulate` and gates."""

    def __init__(self, width: int, count: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.count = count
        self.lin = operations.Linear(width, count * width, device=device, dtype=dtype)

    def forward(self, vector: Tensor) -> tuple[Tensor, ...]:
        return self.lin(F.silu(vector))[:, None].chunk(self.count, dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the timestep `B 256` -> time vector `B width`."""

    def __init__(self, width: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.in_layer = operations.Linear(TIME_WIDTH, width, device=device, dtype=dtype)
        self.out_layer = operations.Linear(width, width, device=device, dtype=dtype)

    def forward(self, waves: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(waves)))


class StreamAttention(nn.Module):
    """The projections of one stream for the joint attention of two."""

    def __init__(self, width: int, heads: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.heads = heads
        self.qkv = operations.Linear(width, 3 * width, **at)
        self.norm = QueryKeyNorm(width // heads, **at)
        self.proj = operations.Linear(width, width, **at)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.norm.query_norm(q), self.norm.key_norm(k), v


class DoubleBlock(nn.Module):
    """Joint attention of the condition's tokens and the latent's, with separate weights (docs/method.md,
    section 3.3).

    Streams have the key names of published checkpoints: `img` is the latent, `txt` the condition.
    """

    img_mod: Modulation
    txt_mod: Modulation
    img_attn: StreamAttention
    txt_attn: StreamAttention
    img_mlp: nn.Sequential
    txt_mlp: nn.Sequential

    def __init__(self, width: int, heads: int, mlp_ratio: float, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        hidden = int(width * mlp_ratio)
        for stream in ("img", "txt"):
            self.add_module(f"{stream}_mod", Modulation(width, 6, **at))
            self.add_module(f"{stream}_attn", StreamAttention(width, heads, **at))
            self.add_module(
                f"{stream}_mlp",
                nn.Sequential(
                    operations.Linear(width, hidden, device=device, dtype=dtype),
                    nn.GELU(approximate="tanh"),
                    operations.Linear(hidden, width, device=device, dtype=dtype),
                ),
            )

    def forward(
        self, latent: Tensor, condition: Tensor, vector: Tensor, *, update_latent: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Tokens of latent and condition `B N C`, time vector `B C` -> both streams, `B N C` each.

        update_latent: False returns the latent's tokens as they are, and computes nothing for them.
        """
        img, txt = self.img_mod(vector), self.txt_mod(vector)
        q_i, k_i, v_i = self.img_attn(modulate(latent, img[0], img[1]))
        q_t, k_t, v_t = self.txt_attn(modulate(condition, txt[0], txt[1]))
        q = torch.cat([q_t, q_i], dim=2) if update_latent else q_t
        mixed = attend(q, torch.cat([k_t, k_i], dim=2), torch.cat([v_t, v_i], dim=2))
        split = condition.shape[1]
        condition = condition + txt[2] * self.txt_attn.proj(mixed[:, :split])
        condition = condition + txt[5] * self.txt_mlp(modulate(condition, txt[3], txt[4]))
        if update_latent:
            latent = latent + img[2] * self.img_attn.proj(mixed[:, split:])
            latent = latent + img[5] * self.img_mlp(modulate(latent, img[3], img[4]))
        return latent, condition


class SingleBlock(nn.Module):
    """Attention and MLP in parallel, over both streams side by side, width 2C (docs/method.md, section
    3.4).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        self.heads, self.width = heads, width
        hidden = int(width * mlp_ratio)
        self.linear1 = operations.Linear(width, 3 * width + hidden, **at)
        self.linear2 = operations.Linear(width + hidden, width, **at)
        self.norm = QueryKeyNorm(width // heads, **at)
        self.modulation = Modulation(width, 3, operations=operations, **at)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Tokens `B N 2C`, time vector `B 2C` -> tokens `B N 2C`."""
        shift, scale, gate = self.modulation(vector)
        h = self.linear1(modulate(x, shift, scale))
        qkv, mlp = h[..., : 3 * self.width], h[..., 3 * self.width :]
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        mixed = attend(self.norm.query_norm(q), self.norm.key_norm(k), v)
        return x + gate * self.linear2(torch.cat([mixed, F.gelu(mlp, approximate="tanh")], dim=-1))


class FinalLayer(nn.Module):
    """Projection 2C -> C with time modulation (docs/method.md, section 3.5)."""

    def __init__(self, width: int, out_width: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.linear = operations.Linear(width, out_width, device=device, dtype=dtype)
        self.adaLN_modulation = nn.Sequential(
            nn.SiLU(), operations.Linear(width, 2 * width, device=device, dtype=dtype)
        )

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(x, shift, scale))


class FusionTransformer(nn.Module):
    """DAFF's transformer on tokens. Its keys are those of published checkpoints."""

    def __init__(self, config: DAFFConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        token, width = config.unet_width * config.patch**2, config.width
        self.official = config.mode == "official"
        self.latent_in = operations.Linear(token, width, device=device, dtype=dtype)
        self.cond_in = operations.Linear(token, width, device=device, dtype=dtype)
        self.time_in = TimeEmbedding(width, **at)
        self.time_in2 = TimeEmbedding(2 * width, **at)
        self.double_blocks = nn.ModuleList(
            DoubleBlock(width, config.heads, config.mlp_ratio, **at) for _ in range(config.double_blocks)
        )
        self.single_blocks = nn.ModuleList(
            SingleBlock(2 * width, config.heads, config.mlp_ratio, **at) for _ in range(config.single_blocks)
        )
        self.final_layer = FinalLayer(2 * width, width, **at)

    def forward(self, latent: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """Tokens `B N token`, `B N token`, timestep `B` in 0..1000 -> `B N width`."""
        if self.official:
            waves = sinusoid(timestep.float().round(), TIME_WIDTH, time_factor=1000.0)
        else:
            waves = sinusoid(timestep, TIME_WIDTH)
        waves = waves.to(latent.dtype)
        vector, vector2 = self.time_in(waves), self.time_in2(waves)
        latent, condition = self.latent_in(latent), self.cond_in(condition)
        for block in self.double_blocks:
            updated, condition = block(latent, condition, vector, update_latent=not self.official)
            latent = latent if self.official else updated
        x = torch.cat([condition, latent], dim=-1)
        for block in self.single_blocks:
            x = block(x, vector2)
        return self.final_layer(x, vector2)


class AlignerBlock(nn.Module):
    """A block of FaithDiff's aligner: a value projection in place of attention (`weights.families.sdxl`), and
    a QuickGELU MLP.
    """

    def __init__(self, width: int, mlp_ratio: float, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        hidden = int(width * mlp_ratio)
        self.ln_1, self.ln_2 = operations.LayerNorm(width, **at), operations.LayerNorm(width, **at)
        self.value, self.out_proj = (
            operations.Linear(width, width, **at),
            operations.Linear(width, width, **at),
        )
        self.c_fc, self.c_proj = (
            operations.Linear(width, hidden, **at),
            operations.Linear(hidden, width, **at),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out_proj(self.value(self.ln_1(x)))
        h = self.c_fc(self.ln_2(x))
        return x + self.c_proj(h * torch.sigmoid(1.702 * h))


class Aligner(nn.Module):
    """FaithDiff's fusion: the channels of latent and condition side by side, without time (docs/method.md,
    section 8.3).
    """

    def __init__(self, config: DAFFConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        self.blocks = nn.ModuleList(
            AlignerBlock(config.width, config.mlp_ratio, **at) for _ in range(config.aligner_blocks)
        )

    def forward(self, latent: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """Tokens `B N token`, `B N token` -> `B N 2*token`."""
        x = torch.cat([latent, condition], dim=-1)
        for block in self.blocks:
            x = block(x)
        return x


class ConditionEmbedding(nn.Module):
    """LQ feature `B C h w` -> condition `B unet_width h w`."""

    def __init__(self, config: DAFFConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"device": device, "dtype": dtype}
        width = config.condition_width
        if config.condition_norm == "group":
            self.norm_in = operations.GroupNorm(32, width, eps=1e-6, **at)
        else:
            self.norm_in = ChannelNorm(width, operations=operations, **at)
        self.conv_in = operations.Conv2d(width, width, 3, padding=1, **at)
        self.conv_out = operations.Conv2d(width, config.unet_width, 3, padding=1, **at)

    def forward(self, feature: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.conv_in(self.norm_in(feature))))


class DAFF(nn.Module):
    """DAFF: call `embed` once per picture, and `forward` once per denoising step."""

    def __init__(self, config: DAFFConfig, *, operations=nn, device=None, dtype=None):
        super().__init__()
        at = {"operations": operations, "device": device, "dtype": dtype}
        self.config = config
        self.condition_embedding = ConditionEmbedding(config, **at)
        if config.aligner_blocks:
            self.aligner = Aligner(config, **at)
        else:
            self.information_transformer_layers = FusionTransformer(config, **at)
        self.spatial_ch_projs = scaled_init(
            0.0,
            operations.Linear(config.width, config.unet_width * config.patch**2, device=device, dtype=dtype),
        )

    def embed(self, feature: Tensor) -> Tensor:
        """LQ feature `B condition_width h w` -> condition `B unet_width h w`, the same for all timesteps."""
        return self.condition_embedding(feature)

    def forward(self, h: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """The residual for the UNet's first feature, `B unet_width h w`.

        h: that feature, `B unet_width h w`. condition: from `embed`, of the same size. timestep: `B` in
        0..1000. The official mode rounds it to an integer, as in training.
        """
        height, width, p = h.shape[2], h.shape[3], self.config.patch
        fusion: nn.Module = (
            self.aligner if self.config.aligner_blocks else self.information_transformer_layers
        )
        tokens = fusion(self._tokens(h), self._tokens(condition.to(h)), timestep)
        residual = rearrange(
            self.spatial_ch_projs(tokens), "b (h w) (c p q) -> b c (h p) (w q)", h=-(-height // p), p=p, q=p
        )
        return residual[:, :, :height, :width]

    def _tokens(self, x: Tensor) -> Tensor:
        p = self.config.patch
        x = F.pad(x, (0, -x.shape[3] % p, 0, -x.shape[2] % p), mode="replicate") if p > 1 else x
        return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)
