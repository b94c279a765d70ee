"""What a state dict was built with: shapes decide, metadata fills in what shapes cannot show."""

from __future__ import annotations

import json
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..architecture.autoencoder import Autoencoder
from ..architecture.config import (
    AutoencoderConfig,
    CompactConfig,
    DAEMConfig,
    DAFFConfig,
    PriorConfig,
    RestorerConfig,
    UNetConfig,
)
from ..architecture.daem import DAEM
from ..architecture.daff import DAFF
from ..architecture.lq_encoder import PriorEncoder
from .names import listed

PARTS = ("unet", "vae", "prior", "daff", "daem")


def describe(config: CompactConfig | RestorerConfig) -> dict[str, str]:
    """Metadata that says of a config what shapes cannot show; `save_weights` takes it, `config_from` reads it."""
    restorer = config.restorer if isinstance(config, CompactConfig) else config
    settings: dict[str, object] = {"daff.mode": restorer.daff.mode}
    if restorer.daem is not None:
        settings |= {"daem.dilations": restorer.daem.dilations, "daem.top_k": restorer.daem.top_k, "daem.pools": restorer.daem.pools}
    if isinstance(config, CompactConfig):
        settings["unet.head_channels"] = config.unet.head_channels
    return {"format": "aior-1", "scale": restorer.scale, "settings": json.dumps(settings)}


def part(state_dict: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors under the prefix `name.`, without it."""
    return {key[len(name) + 1 :]: value for key, value in state_dict.items() if key.startswith(f"{name}.")}


def require_fit(tensors: dict[str, Tensor], network: nn.Module, name: str) -> None:
    """Raise ValueError listing what is missing, unknown or misshapen, unless `tensors` are exactly `network`'s."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    problems = [
        _listed("missing", wanted.keys() - tensors.keys()),
        _listed("unknown", tensors.keys() - wanted.keys()),
        _listed(
            "wrong shape",
            (
                f"{key} {tuple(tensors[key].shape)} instead of {shape}"
                for key, shape in wanted.items()
                if key in tensors and tuple(tensors[key].shape) != shape
            ),
        ),
    ]
    if any(problems):
        raise ValueError(f"The weights under '{name}.' do not fit: {'; '.join(filter(None, problems))}.")


def config_from(state_dict: dict[str, Tensor], metadata: dict[str, str] | None = None) -> CompactConfig | RestorerConfig:
    """Flat state dict (and the file's metadata) -> the config it was built from.

    `CompactConfig` if there is a denoiser and an autoencoder, `RestorerConfig` otherwise. Every key of `vae.`, `prior.`,
    `daff.` and `daem.` is checked against the network; the denoiser's are the host's to check.
    Raises ValueError listing missing, unknown and misshapen keys.
    """
    foreign = [key for key in state_dict if key.split(".", 1)[0] not in PARTS]
    if foreign:
        raise ValueError(f"These are not AIOR weights: {_listed('unknown', foreign)}. Expected keys that start with {', '.join(PARTS)}.")
    tensors = {name: part(state_dict, name) for name in PARTS}
    absent = [name for name in ("prior", "daff") if not tensors[name]]
    if absent or bool(tensors["unet"]) != bool(tensors["vae"]):
        present = [name for name in PARTS if tensors[name]]
        raise ValueError(
            f"Incomplete AIOR weights: parts {present or 'none'}. A restorer needs prior and daff; the compact model unet and vae too."
        )
    metadata = metadata or {}
    settings = json.loads(metadata.get("settings", "{}"))
    compact = bool(tensors["unet"])
    try:
        prior = _prior(tensors["prior"])
        restorer = RestorerConfig(
            scale=metadata.get("scale", "compact" if compact or prior.kind == "naf" else "sdxl"),
            prior=prior,
            daff=_daff(tensors["daff"], settings),
            daem=_daem(tensors["daem"], prior.degradations, settings) if tensors["daem"] else None,
        )
        config = CompactConfig(_autoencoder(tensors["vae"]), _unet(tensors["unet"], settings), restorer) if compact else restorer
    except KeyError as error:
        raise ValueError(f"The weights lack {error.args[0]!r}, without which their size cannot be told.") from error
    with torch.device("meta"):
        require_fit(tensors["prior"], PriorEncoder(restorer.prior), "prior")
        require_fit(tensors["daff"], DAFF(restorer.daff), "daff")
        if restorer.daem is not None:
            require_fit(tensors["daem"], DAEM(restorer.daem), "daem")
        if compact:
            require_fit(tensors["vae"], Autoencoder(config.autoencoder), "vae")
    return config


def _listed(what: str, keys: Iterable[str]) -> str:
    keys = list(keys)
    return f"{what} {listed(keys)}" if keys else ""


def _count(tensors: dict[str, Tensor], prefix: str) -> int:
    """How many modules are numbered under `prefix`."""
    numbers = {key[len(prefix) :].split(".", 1)[0] for key in tensors if key.startswith(prefix)}
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def _trunk_widths(tensors: dict[str, Tensor], prefix: str) -> tuple[int, ...]:
    downs = range(_count(tensors, f"{prefix}downs."))
    return (len(tensors[f"{prefix}stem.weight"]), *(len(tensors[f"{prefix}downs.{i}.weight"]) for i in downs))


def _levels(tensors: dict[str, Tensor], prefix: str, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many NAF blocks and how many plain ones each level has."""
    every = [_count(tensors, f"{prefix}levels.{i}.") for i in range(count)]
    plain = [sum(f"{prefix}levels.{i}.{j}.conv1.weight" in tensors for j in range(blocks)) for i, blocks in enumerate(every)]
    return tuple(blocks - p for blocks, p in zip(every, plain)), tuple(plain)


def _autoencoder(tensors: dict[str, Tensor]) -> AutoencoderConfig:
    widths = _trunk_widths(tensors, "encoder.trunk.")
    decoder_blocks, decoder_plain = _levels(tensors, "decoder.", len(widths))
    return AutoencoderConfig(
        widths=widths,
        encoder_blocks=_levels(tensors, "encoder.trunk.", len(widths))[0],
        decoder_blocks=decoder_blocks,
        decoder_plain=decoder_plain,
        latent_channels=len(tensors["encoder.head.weight"]) // 2,
    )


def _prior(tensors: dict[str, Tensor]) -> PriorConfig:
    if "trunk.conv_in.weight" in tensors:
        kind, levels = "kl", range(_count(tensors, "trunk.down."))
        widths = tuple(len(tensors[f"trunk.down.{i}.block.0.conv1.weight"]) for i in levels)
        blocks, plain = tuple(_count(tensors, f"trunk.down.{i}.block.") for i in levels), ()
    else:
        kind, widths = "naf", _trunk_widths(tensors, "trunk.")
        blocks, plain = _levels(tensors, "trunk.", len(widths))
    if not any(key.startswith(("head.", "tokens.")) for key in tensors):
        return PriorConfig(kind=kind, widths=widths, blocks=blocks, plain=plain, head_width=0)
    return PriorConfig(
        kind=kind,
        widths=widths,
        blocks=blocks,
        plain=plain,
        degradations=len(tensors["head.local.weight"]),
        head_width=len(tensors["head.conv1.weight"]),
        context_width=tensors["tokens.names.weight"].shape[1],
    )


def _daff(tensors: dict[str, Tensor], settings: dict[str, object]) -> DAFFConfig:
    aligner = _count(tensors, "aligner.blocks.")
    if aligner:
        unet_width, condition_width = tensors["condition_embedding.conv_out.weight"].shape[:2]
        return DAFFConfig(
            mode="official", unet_width=unet_width, condition_width=condition_width, width=len(tensors["aligner.blocks.0.value.weight"]),
            mlp_ratio=len(tensors["aligner.blocks.0.c_fc.weight"]) / len(tensors["aligner.blocks.0.value.weight"]),
            double_blocks=0, single_blocks=0, patch=1, condition_norm="group", aligner_blocks=aligner,
        )  # fmt: skip
    transformer = "information_transformer_layers."
    width, token = tensors[f"{transformer}latent_in.weight"].shape
    unet_width, condition_width = tensors["condition_embedding.conv_out.weight"].shape[:2]
    double, single = (_count(tensors, f"{transformer}{kind}_blocks.") for kind in ("double", "single"))
    if double:
        head, hidden = f"{transformer}double_blocks.0.img_attn.norm.query_norm.scale", f"{transformer}double_blocks.0.img_mlp.0.weight"
        heads, ratio = width // len(tensors[head]), len(tensors[hidden]) / width
    else:
        head, hidden = f"{transformer}single_blocks.0.norm.query_norm.scale", f"{transformer}single_blocks.0.linear2.weight"
        heads, ratio = 2 * width // len(tensors[head]), tensors[hidden].shape[1] / (2 * width) - 1
    grouped = "condition_embedding.norm_in.weight" in tensors
    return DAFFConfig(
        # A file that says nothing comes from the authors' code, whose condition norm is a GroupNorm.
        mode=str(settings.get("daff.mode", "official" if grouped else "paper")),
        unet_width=unet_width,
        condition_width=condition_width,
        width=width,
        heads=heads,
        mlp_ratio=ratio,
        double_blocks=double,
        single_blocks=single,
        patch=round((token / unet_width) ** 0.5),
        condition_norm="group" if grouped else "channel",
    )


def _daem(tensors: dict[str, Tensor], degradations: int, settings: dict[str, object]) -> DAEMConfig:
    levels = range(_count(tensors, "levels."))
    joins = [tensors[f"levels.{i}.join.weight"] for i in levels]
    decoder = tuple(len(tensors[f"levels.{i}.norm.norm.weight"]) for i in levels)
    heads = [len(tensors[f"levels.{i}.temperature"]) for i in levels]
    # A level narrower than one head has one head of its own width; the widest level shows the true size.
    widest = max(levels, key=lambda i: len(joins[i]))
    experts = range(_count(tensors, "levels.0.experts."))
    kernels = tuple(tensors[f"levels.0.experts.{e}.depthwise.weight"].shape[-1] for e in experts)
    default = DAEMConfig()
    dilations = settings.get("daem.dilations", default.dilations if kernels == default.kernels else [1] * len(kernels))
    return DAEMConfig(
        decoder_widths=decoder,
        skip_widths=tuple(join.shape[1] - width for join, width in zip(joins, decoder)),
        widths=tuple(len(join) for join in joins),
        pools=tuple(settings.get("daem.pools", default.pools if len(joins) == len(default.pools) else [1] * len(joins))),
        prior_width=tensors["context1.weight"].shape[1] // 2 - degradations,
        degradations=degradations,
        context_width=len(tensors["context2.weight"]),
        kernels=kernels,
        dilations=tuple(dilations),
        top_k=int(settings.get("daem.top_k", min(default.top_k, len(kernels)))),
        head_channels=len(joins[widest]) // heads[widest],
        anchored="anchor.weight" in tensors,
    )


def _unet(tensors: dict[str, Tensor], settings: dict[str, object]) -> UNetConfig:
    model_channels, in_channels = tensors["input_blocks.0.0.weight"].shape[:2]
    blocks = (tensors.get(f"input_blocks.{i}.0.out_layers.3.weight") for i in range(_count(tensors, "input_blocks.")))
    context = next((value.shape[1] for key, value in sorted(tensors.items()) if key.endswith("attn2.to_k.weight")), None)
    if context is None:
        raise KeyError("unet.*.attn2.to_k.weight")
    return UNetConfig(
        in_channels=in_channels,
        model_channels=model_channels,
        channel_mult=tuple(len(weight) // model_channels for weight in blocks if weight is not None),
        context_dim=context,
        head_channels=int(settings.get("unet.head_channels", UNetConfig.head_channels)),
    )
