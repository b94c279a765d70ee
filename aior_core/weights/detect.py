"""What a state dict was built with: shapes decide, metadata fills in what shapes cannot show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..models.autoencoder import Autoencoder
from ..models.config import (
    AutoencoderConfig,
    CompactConfig,
    DAEMConfig,
    DAFFConfig,
    PriorConfig,
    RestorerConfig,
    UNetConfig,
)
from ..models.daem import DAEM
from ..models.daff import DAFF
from ..models.family import COMPACT, SDXL
from ..models.lq_encoder import PriorEncoder
from .consistency import WIDEST_EXPERT, require_consistent
from .metadata import MODES, read_calibration, read_family, read_kinds, read_settings, whole, wholes, word
from .shards import listed

PARTS = ("unet", "vae", "prior", "daff", "daem")


def describe(config: CompactConfig | RestorerConfig) -> dict[str, str]:
    """Metadata that says of a config what shapes cannot show; `save_weights` takes it, `config_from` reads it."""
    restorer = config.restorer if isinstance(config, CompactConfig) else config
    settings: dict[str, object] = {"daff.mode": restorer.daff.mode}
    if restorer.daem is not None:
        settings |= {
            "daem.dilations": restorer.daem.dilations,
            "daem.top_k": restorer.daem.top_k,
            "daem.pools": restorer.daem.pools,
        }
    if isinstance(config, CompactConfig):
        settings["unet.head_channels"] = config.unet.head_channels
    return {
        "format": "aior-1",
        "family": restorer.family.name,
        # Packs before the twelfth weights read the family under this name.
        "scale": restorer.family.name,
        "settings": json.dumps(settings),
        "kinds": json.dumps(restorer.kinds),
        "calibration": json.dumps(restorer.calibration.to_json_dict()),
    }


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


def config_from(
    state_dict: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> CompactConfig | RestorerConfig:
    """Flat state dict (and the file's metadata) -> the config it was built from.

    `CompactConfig` if there is a denoiser and an autoencoder, `RestorerConfig` otherwise. Every key of `vae.`, `prior.`,
    `daff.` and `daem.` is checked against the network; the denoiser's are the host's to check.
    Raises ValueError listing missing, unknown and misshapen keys, settings that are none, or parts that do not go together.
    """
    foreign = [key for key in state_dict if key.split(".", 1)[0] not in PARTS]
    if foreign:
        raise ValueError(
            f"These are not AIOR weights: {_listed('unknown', foreign)}. Expected keys that start with {', '.join(PARTS)}."
        )
    tensors = {name: part(state_dict, name) for name in PARTS}
    absent = [name for name in ("prior", "daff") if not tensors[name]]
    if absent or bool(tensors["unet"]) != bool(tensors["vae"]):
        present = [name for name in PARTS if tensors[name]]
        raise ValueError(
            f"Incomplete AIOR weights: parts {present or 'none'}. A restorer needs prior and daff; the compact model unet and vae too."
        )
    metadata = metadata or {}
    settings = read_settings(metadata)
    compact = bool(tensors["unet"])
    try:
        prior = _prior(tensors["prior"])
        restorer = RestorerConfig(
            family=read_family(
                metadata, COMPACT if compact or prior.kind == COMPACT.decoder_stages.value else SDXL
            ),
            prior=prior,
            daff=_daff(tensors["daff"], settings),
            daem=_daem(tensors["daem"], prior.degradations, settings) if tensors["daem"] else None,
            kinds=read_kinds(metadata, prior.degradations),
            calibration=read_calibration(metadata),
        )
        config = (
            CompactConfig(_autoencoder(tensors["vae"]), _unet(tensors["unet"], settings), restorer)
            if compact
            else restorer
        )
    except KeyError as error:
        raise ValueError(
            f"The weights lack {listed([error.args[0]])}, without which their size cannot be told."
        ) from error
    require_consistent(config)
    require_fit(tensors["prior"], on_meta(lambda: PriorEncoder(restorer.prior), "prior"), "prior")
    require_fit(tensors["daff"], on_meta(lambda: DAFF(restorer.daff), "daff"), "daff")
    if restorer.daem is not None:
        require_fit(
            tensors["daem"], on_meta(lambda: DAEM(restorer.daem, kinds=restorer.kinds), "daem"), "daem"
        )
    if compact:
        require_fit(tensors["vae"], on_meta(lambda: Autoencoder(config.autoencoder), "vae"), "vae")
    return config


def on_meta(build: Callable[[], nn.Module], name: str) -> nn.Module:
    """What `build` makes, without memory for its weights. Raises ValueError if its numbers, read from the weights `name.`, make no network."""
    try:
        with torch.device("meta"):
            return build()
    # Classes that count on numbers that go together fail in every way; what failed is said.
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"The shapes of the weights under '{name}.' make no network: {first[:200]}. The file is damaged; get it again."
        ) from error


def _listed(what: str, keys: Iterable[str]) -> str:
    keys = list(keys)
    return f"{what} {listed(keys)}" if keys else ""


def _count(tensors: dict[str, Tensor], prefix: str) -> int:
    """How many modules are numbered under `prefix`, from 0 without a gap: a number beyond one is a key that `require_fit` does not know."""
    numbers = {key[len(prefix) :].split(".", 1)[0] for key in tensors if key.startswith(prefix)}
    count = 0
    while str(count) in numbers:
        count += 1
    return count


def _shape(tensors: dict[str, Tensor], key: str, sides: int) -> tuple[int, ...]:
    """Shape of a tensor that must have so many sides. Raises KeyError if it is missing, ValueError if it has others."""
    shape = tuple(tensors[key].shape)
    if len(shape) != sides:
        raise ValueError(
            f"The weights' {listed([key])} has the shape {shape[:8]}; expected {sides} numbers. The file is damaged; get it again."
        )
    return shape


def _trunk_widths(tensors: dict[str, Tensor], prefix: str) -> tuple[int, ...]:
    downs = range(_count(tensors, f"{prefix}downs."))
    return (
        _shape(tensors, f"{prefix}stem.weight", 4)[0],
        *(_shape(tensors, f"{prefix}downs.{i}.weight", 4)[0] for i in downs),
    )


def _levels(tensors: dict[str, Tensor], prefix: str, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many NAF blocks and how many plain ones each level has."""
    every = [_count(tensors, f"{prefix}levels.{i}.") for i in range(count)]
    plain = [
        sum(f"{prefix}levels.{i}.{j}.conv1.weight" in tensors for j in range(blocks))
        for i, blocks in enumerate(every)
    ]
    return tuple(blocks - p for blocks, p in zip(every, plain)), tuple(plain)


def _autoencoder(tensors: dict[str, Tensor]) -> AutoencoderConfig:
    widths = _trunk_widths(tensors, "encoder.trunk.")
    decoder_blocks, decoder_plain = _levels(tensors, "decoder.", len(widths))
    return AutoencoderConfig(
        widths=widths,
        encoder_blocks=_levels(tensors, "encoder.trunk.", len(widths))[0],
        decoder_blocks=decoder_blocks,
        decoder_plain=decoder_plain,
        latent_channels=_shape(tensors, "encoder.head.weight", 4)[0] // 2,
    )


def _prior(tensors: dict[str, Tensor]) -> PriorConfig:
    if "trunk.conv_in.weight" in tensors:
        kind, levels = "kl", range(_count(tensors, "trunk.down."))
        widths = tuple(_shape(tensors, f"trunk.down.{i}.block.0.conv1.weight", 4)[0] for i in levels)
        blocks, plain = tuple(_count(tensors, f"trunk.down.{i}.block.") for i in levels), ()
        if not widths:
            raise KeyError("prior.trunk.down.0.block.0.conv1.weight")
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
        degradations=_shape(tensors, "head.local.weight", 4)[0],
        head_width=_shape(tensors, "head.conv1.weight", 4)[0],
        context_width=_shape(tensors, "tokens.names.weight", 2)[1],
        place_width=_shape(tensors, "head.places.enter.weight", 4)[0]
        if "head.places.enter.weight" in tensors
        else 0,
    )


def _daff(tensors: dict[str, Tensor], settings: dict[str, object]) -> DAFFConfig:
    aligner = _count(tensors, "aligner.blocks.")
    unet_width, condition_width = _shape(tensors, "condition_embedding.conv_out.weight", 4)[:2]
    if aligner:
        width = _shape(tensors, "aligner.blocks.0.value.weight", 2)[0]
        return DAFFConfig(
            mode="official", unet_width=unet_width, condition_width=condition_width, width=width,
            mlp_ratio=_shape(tensors, "aligner.blocks.0.c_fc.weight", 2)[0] / width,
            double_blocks=0, single_blocks=0, patch=1, condition_norm="group", aligner_blocks=aligner,
        )  # fmt: skip
    transformer = "information_transformer_layers."
    width, token = _shape(tensors, f"{transformer}latent_in.weight", 2)
    double, single = (_count(tensors, f"{transformer}{kind}_blocks.") for kind in ("double", "single"))
    if double:
        head, hidden = (
            f"{transformer}double_blocks.0.img_attn.norm.query_norm.scale",
            f"{transformer}double_blocks.0.img_mlp.0.weight",
        )
        size, ratio = _shape(tensors, head, 1)[0], _shape(tensors, hidden, 2)[0] / width
    else:
        head, hidden = (
            f"{transformer}single_blocks.0.norm.query_norm.scale",
            f"{transformer}single_blocks.0.linear2.weight",
        )
        size, ratio = _shape(tensors, head, 1)[0] / 2, _shape(tensors, hidden, 2)[1] / (2 * width) - 1
    if width % size:
        raise ValueError(
            f"DAFF's width {width} is no multiple of its heads' {size:g}. The file is damaged; get it again."
        )
    grouped = "condition_embedding.norm_in.weight" in tensors
    return DAFFConfig(
        # A file that says nothing comes from the authors' code, whose condition norm is a GroupNorm.
        mode=word(settings.get("daff.mode", "official" if grouped else "paper"), "daff.mode", MODES),
        unet_width=unet_width,
        condition_width=condition_width,
        width=width,
        heads=int(width // size),
        mlp_ratio=ratio,
        double_blocks=double,
        single_blocks=single,
        patch=round((token / unet_width) ** 0.5),
        condition_norm="group" if grouped else "channel",
    )


def _daem(tensors: dict[str, Tensor], degradations: int, settings: dict[str, object]) -> DAEMConfig:
    levels = range(_count(tensors, "levels."))
    joins = [_shape(tensors, f"levels.{i}.join.weight", 4)[:2] for i in levels]
    if not joins:
        raise KeyError("daem.levels.0.join.weight")
    decoder = tuple(_shape(tensors, f"levels.{i}.norm.norm.weight", 1)[0] for i in levels)
    heads = [_shape(tensors, f"levels.{i}.temperature", 3)[0] for i in levels]
    # A level narrower than one head has one head of its own width; the widest level shows the true size.
    widest = max(levels, key=lambda i: joins[i][0])
    experts = range(_count(tensors, "levels.0.experts."))
    kernels = tuple(_shape(tensors, f"levels.0.experts.{e}.depthwise.weight", 4)[-1] for e in experts)
    default = DAEMConfig()
    dilations = default.dilations if kernels == default.kernels else (1,) * len(kernels)
    pools = default.pools if len(joins) == len(default.pools) else (1,) * len(joins)
    return DAEMConfig(
        decoder_widths=decoder,
        skip_widths=tuple(joined - width for (_, joined), width in zip(joins, decoder)),
        widths=tuple(width for width, _ in joins),
        pools=wholes(settings, "daem.pools", pools, largest=2 ** len(joins)),
        prior_width=_shape(tensors, "context1.weight", 2)[1] // 2 - degradations,
        degradations=degradations,
        context_width=_shape(tensors, "context2.weight", 2)[0],
        kernels=kernels,
        dilations=wholes(settings, "daem.dilations", dilations, largest=WIDEST_EXPERT),
        top_k=whole(settings, "daem.top_k", default.top_k),
        head_channels=max(1, joins[widest][0] // heads[widest]),
        anchored="anchor.weight" in tensors,
        keeps="kept.parts.weight" in tensors,
        tone_width=_shape(tensors, "curve.judge.weight", 2)[0] if "curve.judge.weight" in tensors else 0,
    )


def _unet(tensors: dict[str, Tensor], settings: dict[str, object]) -> UNetConfig:
    model_channels, in_channels = _shape(tensors, "input_blocks.0.0.weight", 4)[:2]
    blocks = [f"input_blocks.{i}.0.out_layers.3.weight" for i in range(_count(tensors, "input_blocks."))]
    attention = min(
        (key for key in tensors if key.endswith("attn2.to_k.weight")), default="*.attn2.to_k.weight"
    )
    return UNetConfig(
        in_channels=in_channels,
        model_channels=model_channels,
        channel_mult=tuple(_shape(tensors, key, 4)[0] // model_channels for key in blocks if key in tensors),
        context_dim=_shape(tensors, attention, 2)[1],
        head_channels=whole(settings, "unet.head_channels", UNetConfig.head_channels),
    )
