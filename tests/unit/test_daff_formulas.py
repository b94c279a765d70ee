"""DAFF in official mode against its formulas, written out in plain torch, and its exact speed-ups."""

from __future__ import annotations

import math

import pytest
import torch
from aior_pack.aior_core.models.config import DAFFConfig
from aior_pack.aior_core.models.daff import DAFF
from aior_pack.tests.tiny import randomised
from torch import Tensor
from torch.nn import functional as F

CONFIG = DAFFConfig(
    mode="official",
    unet_width=32,
    condition_width=64,
    width=64,
    heads=4,
    mlp_ratio=4.0,
    double_blocks=1,
    single_blocks=1,
    patch=1,
    condition_norm="group",
)


class Formulas:
    """The forward pass as the public code runs it: every query, the dead ones too."""

    def __init__(self, state: dict[str, Tensor], width: int, heads: int):
        self.state, self.width, self.heads = state, width, heads

    def linear(self, name: str, x: Tensor) -> Tensor:
        return (
            x @ self.state[f"information_transformer_layers.{name}.weight"].T
            + self.state[f"information_transformer_layers.{name}.bias"]
        )

    def rms(self, name: str, x: Tensor) -> Tensor:
        return (
            x
            / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
            * self.state[f"information_transformer_layers.{name}.scale"]
        )

    @staticmethod
    def norm(x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()

    @staticmethod
    def gelu(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def split(self, x: Tensor, parts: int) -> list[Tensor]:
        """Tokens `N parts*C` in the order "K H D" -> `heads N d` each."""
        tokens, channels = x.shape
        size = channels // parts // self.heads
        return [x.reshape(tokens, parts, self.heads, size)[:, i].transpose(0, 1) for i in range(parts)]

    @staticmethod
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).exp()
        return (weights / weights.sum(-1, keepdim=True) @ v).transpose(0, 1).flatten(1)

    def vector(self, name: str, t: float) -> Tensor:
        angles = torch.tensor(
            [1000.0 * t * math.exp(-math.log(10000) * i / 128) for i in range(128)], dtype=torch.float64
        )
        # The angles reach a million; what fp32 makes of them is the published behaviour.
        frequencies = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128)
        angles32 = torch.tensor(1000.0 * t, dtype=torch.float32) * frequencies
        assert (angles32.double() - angles).abs().max() < 0.3
        waves = torch.cat([angles32.cos(), angles32.sin()])
        return self.linear(f"{name}.out_layer", F.silu(self.linear(f"{name}.in_layer", waves)))

    def tokens(self, x: Tensor, c: Tensor, t: float) -> Tensor:
        """Latent's and condition's tokens `N 32` of one picture -> `N width`."""
        vec, vec2 = F.silu(self.vector("time_in", t)), F.silu(self.vector("time_in2", t))
        img, txt = self.linear("latent_in", x), self.linear("cond_in", c)
        block = "double_blocks.0."
        i_mod, t_mod = (
            self.linear(f"{block}img_mod.lin", vec).chunk(6),
            self.linear(f"{block}txt_mod.lin", vec).chunk(6),
        )
        streams = []
        for name, tokens, mod in (("txt", txt, t_mod), ("img", img, i_mod)):
            q, k, v = self.split(
                self.linear(f"{block}{name}_attn.qkv", (1 + mod[1]) * self.norm(tokens) + mod[0]), 3
            )
            streams.append(
                (
                    self.rms(f"{block}{name}_attn.norm.query_norm", q),
                    self.rms(f"{block}{name}_attn.norm.key_norm", k),
                    v,
                )
            )
        q, k, v = (torch.cat(pair, dim=1) for pair in zip(*streams))
        txt_attn = self.attention(q, k, v)[: len(txt)]
        txt = txt + t_mod[2] * self.linear(f"{block}txt_attn.proj", txt_attn)
        hidden = self.gelu(self.linear(f"{block}txt_mlp.0", (1 + t_mod[4]) * self.norm(txt) + t_mod[3]))
        txt = txt + t_mod[5] * self.linear(f"{block}txt_mlp.2", hidden)
        f = torch.cat([txt, img], dim=1)
        shift, scale, gate = self.linear("single_blocks.0.modulation.lin", vec2).chunk(3)
        h = self.linear("single_blocks.0.linear1", (1 + scale) * self.norm(f) + shift)
        q, k, v = self.split(h[:, : 6 * self.width], 3)
        q, k = self.rms("single_blocks.0.norm.query_norm", q), self.rms("single_blocks.0.norm.key_norm", k)
        f = f + gate * self.linear(
            "single_blocks.0.linear2",
            torch.cat([self.attention(q, k, v), self.gelu(h[:, 6 * self.width :])], dim=1),
        )
        shift, scale = self.linear("final_layer.adaLN_modulation.1", vec2).chunk(2)
        return self.linear("final_layer.linear", (1 + scale) * self.norm(f) + shift)

    def residual(self, h: Tensor, c: Tensor, t: float) -> Tensor:
        rows = [self.tokens(x.flatten(1).T, y.flatten(1).T, t) for x, y in zip(h, c)]
        out = (
            torch.stack(rows) @ self.state["spatial_ch_projs.weight"].T + self.state["spatial_ch_projs.bias"]
        )
        return out.transpose(1, 2).reshape(h.shape)


@pytest.fixture(scope="module")
def daff():
    return randomised(DAFF(CONFIG), seed=5).requires_grad_(False)


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 32, 5, 7, generator=generator), torch.randn(2, 64, 5, 7, generator=generator)


@pytest.mark.parametrize("t", [951, 501, 1])
def test_official_mode_is_the_formulas(daff, inputs, t):
    h, feature = inputs
    condition = daff.embed(feature)
    expected = Formulas(daff.state_dict(), CONFIG.width, CONFIG.heads).residual(h, condition, float(t))
    made = daff(h, condition, torch.full((2,), float(t)))
    assert (made - expected).norm() < 1e-5 * expected.norm()


def test_the_condition_is_its_formula(daff, inputs):
    _, feature = inputs
    w = {
        k.removeprefix("condition_embedding."): v
        for k, v in daff.state_dict().items()
        if k.startswith("condition_embedding.")
    }
    groups = feature.reshape(2, 32, -1)
    normed = (groups - groups.mean(-1, keepdim=True)) / (
        groups.var(-1, unbiased=False, keepdim=True) + 1e-6
    ).sqrt()
    normed = (
        normed.reshape(feature.shape) * w["norm_in.weight"][:, None, None] + w["norm_in.bias"][:, None, None]
    )
    expected = F.conv2d(
        F.silu(F.conv2d(normed, w["conv_in.weight"], w["conv_in.bias"], padding=1)),
        w["conv_out.weight"],
        w["conv_out.bias"],
        padding=1,
    )
    assert torch.allclose(daff.embed(feature), expected, atol=1e-5)


def test_timesteps_are_whole(daff, inputs):
    h, feature = inputs
    condition = daff.embed(feature)
    made = [daff(h, condition, torch.full((2,), t)) for t in (951.0, 951.0004, 952.0)]
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2], atol=1e-3)


def test_queries_of_the_condition_alone_change_nothing(daff, inputs):
    """In official mode the latent's queries are not used, so they need not be computed."""
    h, feature = inputs
    condition, t = daff.embed(feature), torch.full((2,), 501.0)
    fast = daff(h, condition, t)
    block = daff.information_transformer_layers.double_blocks[0]
    seen = []
    block.img_mlp.register_forward_hook(lambda *_: seen.append(1))
    forward = type(block).forward
    block.forward = lambda *args, update_latent: forward(block, *args, update_latent=True)
    try:
        plain = daff(h, condition, t)
    finally:
        del block.forward
    assert seen and (fast - plain).abs().max() < 1e-5 * plain.abs().max()


def test_the_condition_made_once_is_the_condition_made_at_every_step(daff, inputs):
    h, feature = inputs
    kept = daff.embed(feature)
    for t in (951.0, 1.0):
        at = torch.full((2,), t)
        assert torch.equal(daff(h, kept, at), daff(h, daff.embed(feature), at))
