"""Degradation-Aware Feature Fusion (UniLDiff section 3.2; shapes and names as in unildiff.md section 2).

The LQ feature and the noisy latent's first UNet feature meet in a double-stream and a single-stream transformer block,
both modulated by the timestep; the result is a zero-initialised residual on that UNet feature.

Two modes. `paper`: the latent stream that the double block updates goes on into the single block, and the time embedding
is smooth in t. `official`: the authors' public code, which drops the updated latent stream and multiplies the integer
timestep by 1000; weights trained that way need it.
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
    """Softmax attention over tokens, `B heads N d` each -> `B N heads*d`."""
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Parameter-free LayerNorm (eps 1e-6) of tokens `B N C`, then scale and shift `B 1 C`."""
    return (1 + scale) * F.layer_norm(x, x.shape[-1:], eps=1e-6) + shift


class HeadNorm(nn.Module):
    """RMSNorm of queries or keys per head, in fp32, learned scale, eps 1e-6."""

    def __init__(self, width: int, *, device=None, dtype=None):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width, device=device, dtype=dtype))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        return (y * torch.rsqrt(y.square().mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype) * self.scale.to(x)


class QueryKeyNorm(nn.Module):
    def __init__(self, width: int, *, device=None, dtype=None):
        super().__init__()
        self.query_norm = HeadNorm(width, device=device, dtype=dtype)
        self.key_norm = HeadNorm(width, device=device, dtype=dtype)


class Modulation(nn.Module):
    """Time vector `B C` -> `count` tensors `B 1 C`."""

    def __init__(self, width: int, count: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.count = count
        self.lin = operations.Linear(width, count * width, device=device, dtype=dtype)

    def forward(self, vector: Tensor) -> tuple[Tensor, ...]:
        return self.lin(F.silu(vector))[:, None].chunk(self.count, dim=-1)


class TimeEmbedding(nn.Module):
    def __init__(self, width: int, *, operations=nn, device=None, dtype=None):
        super().__init__()
        self.in_layer = operations.Linear(TIME_WIDTH, width, device=device, dtype=dtype)
        self.out_layer = operations.Linear(width, width, device=device, dtype=dtype)

    def forward(self, waves: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(waves)))


class StreamAttention(nn.Module):
    """The attention weights of one stream; the attention itself is joint."""

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
    """Joint attention of the LQ condition's tokens (first) and the latent's, weights apart (unildiff.md 2.3)."""

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
        """Tokens `B N C`, `B N C`, time vector `B C` -> the two streams. Without `update_latent` only the condition's is made."""
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
    """Parallel attention and MLP over the channel-concatenated streams, width 2C (unildiff.md 2.4)."""

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
        shift, scale, gate = self.modulation(vector)
        h = self.linear1(modulate(x, shift, scale))
        qkv, mlp = h[..., : 3 * self.width], h[..., 3 * self.width :]
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        mixed = attend(self.norm.query_norm(q), self.norm.key_norm(k), v)
        return x + gate * self.linear2(torch.cat([mixed, F.gelu(mlp, approximate="tanh")], dim=-1))


class FinalLayer(nn.Module):
    """Time-modulated projection 2C -> C (unildiff.md 2.5)."""

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
    """The tokens' part of DAFF; its state-dict names are those of published checkpoints."""

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
    """One of FaithDiff's: value projection in attention's place (see `weights.families.sdxl`), then an MLP with QuickGELU."""

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
    """FaithDiff's fusion (unildiff.md 4.3): each pixel's latent and condition side by side, latent first. It knows no time."""

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
    """LQ feature `B C h w` -> `B unet_width h w`; the last convolution starts at zero in the official recipe."""

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
    """The whole of DAFF: `embed` once per picture, `forward` once per denoising step."""

    def __init__(self, config: DAFFConfig = DAFFConfig(), *, operations=nn, device=None, dtype=None):
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
        """LQ feature `B condition_width h w` -> condition `B unet_width h w`. It does not depend on time: make it once."""
        return self.condition_embedding(feature)

    def forward(self, h: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """The residual for the UNet's first feature.

        h: `B unet_width h w`; condition: what `embed` gave, same size; timestep: `B`, 0..1000 (official mode: rounded to
        the integer the weights were trained with). Returns `B unet_width h w`.
        """
        height, width, p = h.shape[2], h.shape[3], self.config.patch
        fusion = self.aligner if self.config.aligner_blocks else self.information_transformer_layers
        tokens = fusion(self._tokens(h), self._tokens(condition.to(h)), timestep)
        residual = rearrange(
            self.spatial_ch_projs(tokens), "b (h w) (c p q) -> b c (h p) (w q)", h=-(-height // p), p=p, q=p
        )
        return residual[:, :, :height, :width]

    def _tokens(self, x: Tensor) -> Tensor:
        p = self.config.patch
        x = F.pad(x, (0, -x.shape[3] % p, 0, -x.shape[2] % p), mode="replicate") if p > 1 else x
        return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)
