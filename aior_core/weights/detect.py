"""The config of the networks that a state dict belongs to: from shapes, and from metadata where shapes do not
tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..models.autoencoder import Autoencoder
from ..models.config import CompactConfig, DAEMConfig, DAFFConfig, PriorConfig, RestorerConfig
from ..models.daem import DAEM
from ..models.daff import DAFF
from ..models.family import COMPACT, SDXL
from ..models.lq_encoder import PriorEncoder
from .consistency import WIDEST_EXPERT, require_consistent
from .families.compact import autoencoder_config, compact_problems, unet_config
from .metadata import MODES, read_calibration, read_family, read_kinds, read_settings, whole, wholes, word
from .shapes import block_counts, count_modules, shape_of, trunk_widths
from .shards import listed

PARTS = ("unet", "vae", "prior", "daff", "daem")


def describe(config: CompactConfig | RestorerConfig) -> dict[str, str]:
    """What shapes do not tell of a config, as metadata for `save_weights`; `config_from` reads it."""
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
    """The tensors whose keys start with `name.`, without that prefix."""
    return {key[len(name) + 1 :]: value for key, value in state_dict.items() if key.startswith(f"{name}.")}


def require_fit(tensors: dict[str, Tensor], network: nn.Module, name: str) -> None:
    """Raise ValueError unless `tensors` are exactly those of `network`. The message lists missing, unknown
    and misshapen ones.
    """
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
        raise ValueError(
            f"The weights under '{name}.' do not fit: {'; '.join(filter(None, problems))}. "
            "The file is damaged, or of another model; get it again."
        )


def config_from(
    state_dict: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> CompactConfig | RestorerConfig:
    """A flat state dict and its file's metadata -> the config of its networks.

    Returns a `CompactConfig` if there are a denoiser and an autoencoder, otherwise a `RestorerConfig`. Every
    key under `vae.`, `prior.`, `daff.` and `daem.` is checked against its network. ComfyUI builds the
    denoiser, so the host checks that one.
    Raises ValueError for missing, unknown and misshapen keys, wrong metadata, or parts that do not fit each
    other.
    """
    foreign = [key for key in state_dict if key.split(".", 1)[0] not in PARTS]
    if foreign:
        raise ValueError(
            f"These are not AIOR weights: {_listed('unknown', foreign)}. Expected keys that start with "
            f"{', '.join(PARTS)}. "
            "Choose another file, or another loader."
        )
    tensors = {name: part(state_dict, name) for name in PARTS}
    absent = [name for name in ("prior", "daff") if not tensors[name]]
    if absent or bool(tensors["unet"]) != bool(tensors["vae"]):
        present = [name for name in PARTS if tensors[name]]
        raise ValueError(
            f"Incomplete AIOR weights: parts {present or 'none'}. A restorer needs prior and daff, and the "
            "compact model needs "
            "unet and vae too. Get all files of the model."
        )
    metadata = metadata or {}
    settings = read_settings(metadata)
    compact: CompactConfig | None = None
    try:
        prior = _prior(tensors["prior"])
        is_compact = bool(tensors["unet"]) or prior.kind == COMPACT.decoder_stages.value
        restorer = RestorerConfig(
            family=read_family(metadata, COMPACT if is_compact else SDXL),
            prior=prior,
            daff=_daff(tensors["daff"], settings),
            daem=_daem(tensors["daem"], prior.degradations, settings) if tensors["daem"] else None,
            kinds=read_kinds(metadata, prior.degradations),
            calibration=read_calibration(metadata),
        )
        if tensors["unet"]:
            autoencoder, unet = autoencoder_config(tensors["vae"]), unet_config(tensors["unet"], settings)
            compact = CompactConfig(autoencoder, unet, restorer)
    except KeyError as error:
        raise ValueError(
            f"The weights lack {listed([error.args[0]])}, without which their size is unknown. "
            "The file is damaged or incomplete; get it again."
        ) from error
    require_consistent(restorer, compact_problems(compact) if compact else ())
    networks: dict[str, Callable[[], nn.Module]] = {
        "prior": lambda: PriorEncoder(restorer.prior),
        "daff": lambda: DAFF(restorer.daff),
    }
    if restorer.daem is not None:
        daem = restorer.daem
        networks["daem"] = lambda: DAEM(daem, kinds=restorer.kinds)
    if compact:
        networks["vae"] = lambda: Autoencoder(compact.autoencoder)
    for name, build in networks.items():
        require_fit(tensors[name], on_meta(build, name), name)
    return compact or restorer


def on_meta(build: Callable[[], nn.Module], name: str) -> nn.Module:
    """Call `build` without allocating memory for weights. Raises ValueError if the numbers read from `name.`
    make no network.
    """
    try:
        with torch.device("meta"):
            return build()
    # The constructors assume numbers that fit each other, so with others they can raise anything.
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"The shapes of the weights under '{name}.' make no network: {first[:200]}. The file is damaged; "
            "get it again."
        ) from error


def _listed(what: str, keys: Iterable[str]) -> str:
    keys = list(keys)
    return f"{what} {listed(keys)}" if keys else ""


def _prior(tensors: dict[str, Tensor]) -> PriorConfig:
    if "trunk.conv_in.weight" in tensors:
        kind, plain = "kl", tuple[int, ...]()
        levels = range(count_modules(tensors, "trunk.down."))
        widths = tuple(shape_of(tensors, f"trunk.down.{i}.block.0.conv1.weight", 4)[0] for i in levels)
        blocks = tuple(count_modules(tensors, f"trunk.down.{i}.block.") for i in levels)
        if not widths:
            raise KeyError("prior.trunk.down.0.block.0.conv1.weight")
    else:
        kind, widths = "naf", trunk_widths(tensors, "trunk.")
        blocks, plain = block_counts(tensors, "trunk.", len(widths))
    if not any(key.startswith(("head.", "tokens.")) for key in tensors):
        return PriorConfig(kind=kind, widths=widths, blocks=blocks, plain=plain, head_width=0)
    return PriorConfig(
        kind=kind,
        widths=widths,
        blocks=blocks,
        plain=plain,
        degradations=shape_of(tensors, "head.local.weight", 4)[0],
        head_width=shape_of(tensors, "head.conv1.weight", 4)[0],
        context_width=shape_of(tensors, "tokens.names.weight", 2)[1],
        place_width=shape_of(tensors, "head.places.enter.weight", 4)[0]
        if "head.places.enter.weight" in tensors
        else 0,
    )


def _daff(tensors: dict[str, Tensor], settings: dict[str, object]) -> DAFFConfig:
    aligner = count_modules(tensors, "aligner.blocks.")
    unet_width, condition_width = shape_of(tensors, "condition_embedding.conv_out.weight", 4)[:2]
    if aligner:
        width = shape_of(tensors, "aligner.blocks.0.value.weight", 2)[0]
        return DAFFConfig(
            mode="official", unet_width=unet_width, condition_width=condition_width, width=width,
            mlp_ratio=shape_of(tensors, "aligner.blocks.0.c_fc.weight", 2)[0] / width,
            double_blocks=0, single_blocks=0, patch=1, condition_norm="group", aligner_blocks=aligner,
        )  # fmt: skip
    transformer = "information_transformer_layers."
    width, token = shape_of(tensors, f"{transformer}latent_in.weight", 2)
    double, single = (count_modules(tensors, f"{transformer}{kind}_blocks.") for kind in ("double", "single"))
    if double:
        head, hidden = (
            f"{transformer}double_blocks.0.img_attn.norm.query_norm.scale",
            f"{transformer}double_blocks.0.img_mlp.0.weight",
        )
        size: float = shape_of(tensors, head, 1)[0]
        ratio = shape_of(tensors, hidden, 2)[0] / width
    else:
        head, hidden = (
            f"{transformer}single_blocks.0.norm.query_norm.scale",
            f"{transformer}single_blocks.0.linear2.weight",
        )
        size, ratio = shape_of(tensors, head, 1)[0] / 2, shape_of(tensors, hidden, 2)[1] / (2 * width) - 1
    if width % size:
        raise ValueError(
            f"DAFF's width {width} is no multiple of its heads' {size:g}. The file is damaged; get it again."
        )
    grouped = "condition_embedding.norm_in.weight" in tensors
    return DAFFConfig(
        # Files without metadata come from the authors' code, which has a GroupNorm there.
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
    levels = range(count_modules(tensors, "levels."))
    joins = [shape_of(tensors, f"levels.{i}.join.weight", 4)[:2] for i in levels]
    if not joins:
        raise KeyError("daem.levels.0.join.weight")
    decoder = tuple(shape_of(tensors, f"levels.{i}.norm.norm.weight", 1)[0] for i in levels)
    heads = [shape_of(tensors, f"levels.{i}.temperature", 3)[0] for i in levels]
    # A level narrower than a head has a single, narrower head. The widest level shows the size.
    widest = max(levels, key=lambda i: joins[i][0])
    experts = range(count_modules(tensors, "levels.0.experts."))
    kernels = tuple(shape_of(tensors, f"levels.0.experts.{e}.depthwise.weight", 4)[-1] for e in experts)
    default = DAEMConfig()
    dilations = default.dilations if kernels == default.kernels else (1,) * len(kernels)
    pools = default.pools if len(joins) == len(default.pools) else (1,) * len(joins)
    return DAEMConfig(
        decoder_widths=decoder,
        skip_widths=tuple(joined - width for (_, joined), width in zip(joins, decoder)),
        widths=tuple(width for width, _ in joins),
        pools=wholes(settings, "daem.pools", pools, largest=2 ** len(joins)),
        prior_width=shape_of(tensors, "context1.weight", 2)[1] // 2 - degradations,
        degradations=degradations,
        context_width=shape_of(tensors, "context2.weight", 2)[0],
        kernels=kernels,
        dilations=wholes(settings, "daem.dilations", dilations, largest=WIDEST_EXPERT),
        top_k=whole(settings, "daem.top_k", default.top_k),
        head_channels=max(1, joins[widest][0] // heads[widest]),
        anchored="anchor.weight" in tensors,
        keeps="kept.parts.weight" in tensors,
        tone_width=shape_of(tensors, "curve.judge.weight", 2)[0] if "curve.judge.weight" in tensors else 0,
    )
