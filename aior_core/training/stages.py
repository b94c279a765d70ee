"""The stages of training.md section 3, and `together`, `polish`, `keep` and `maps`: what each trains, on what, with which loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..degradations import shares
from ..metrics.perceptual import learned_distance
from ..models.daem_level import Routing
from ..pipeline.encode import Encoded
from . import distributed, experts, losses, polish
from .networks import Networks
from .restoration import (
    Batch,
    damage,
    encode_for_fusion,
    encode_prior,
    fused_velocity,
    repair,
    sample,
    start_latent,
)
from .schedules import Schedule, falling

Logs = dict[str, float | Tensor]
"""Numbers by name; "experts" is a histogram `levels E`, see `experts.shares`."""

Step = Callable[..., tuple[Tensor, Logs]]
"""`step(networks, clean, generator, **mix)` -> loss and what to log. `clean` are this process's rows of the batch; `mix` are keywords of
`restoration.damage` and exist where the stage restores. Where the stage has a `choose`, `choice` is what that drew before, if anything."""
Choose = Callable[[torch.Generator], str]
Crops = Callable[[float, int], tuple[int, int]]
KEPT_MIX = shares("keep")
ANCHOR = ("daem.anchor",)
"""On latents that are sampled it drifts: it lets go a little of all pictures' tones, which some lose altogether (validation: blur -0.8 dB, clean -0.8)."""
KEEPING = {"selective": 1.0, "weights": KEPT_MIX}


@dataclass(frozen=True)
class Stage:
    """`trains`: prefixes of the parameters; `crops(progress, step)` -> (side, count) of the whole batch; `restores`: learns from damaged pictures.

    `fixed`: prefixes of what among those stays all the same. `muon` False: AdamW alone. `ema_decay`: the stage's own, in place of the run's.
    `slow`: prefixes of what learns at a tenth of the rate.
    `mix`: keywords of `restoration.damage`, where the stage damages pictures in a way of its own. `choose` draws which of its ways a step goes,
    where there are several; all else that is random in it are numbers.
    """

    name: str
    trains: tuple[str, ...]
    learning_rate: float
    crops: Crops
    step: Step
    restores: bool = False
    schedule: Schedule = falling
    muon: bool = True
    ema_decay: float | None = None
    slow: tuple[str, ...] = ()
    mix: Mapping[str, Any] = field(default_factory=dict)
    choose: Choose | None = None
    fixed: tuple[str, ...] = ()


def _mixed_crops(progress: float, step: int) -> tuple[int, int]:
    """Small crops teach texture fast; haze and low light need large ones: a small flat one says nothing about them."""
    small, middle, large, whole = (64, 16), (128, 4), (192, 2), (256, 1)
    cycle = (
        (small, middle, small, small)
        if progress < 0.2
        else (middle, large, small, large)
        if progress < 0.6
        else (middle, large, whole, large)
    )
    return cycle[step % 4]


def _autoencoder(networks: Networks, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Logs]:
    # Every fourth, wherever the rows of a process begin.
    light = slice(0, len(clean) // 4 * 4, 4)
    pictures = clean.clone()
    if len(pictures[light]):
        # Within range: noise that is not clipped is a benchmark's, no picture's.
        pictures[light] = damage(clean[light], generator, selective=0).lq.clamp(-1, 1)
    mean, logvar = networks.vae.encoder(pictures)
    noise = distributed.normal(mean.shape, generator, mean.device).to(mean)
    decoded = networks.vae.decoder(mean + (0.5 * logvar).exp() * noise)
    fit = losses.reconstruction(decoded, pictures)
    kl = losses.kullback_leibler(mean, logvar)
    return fit + 1e-6 * kl, {"fit": fit.detach(), "kl": kl.detach()}


def _choose_start(generator: torch.Generator) -> str:
    """A quarter of the batches start from the LQ picture's latent, 60 % from none, 15 % from the wished one's with noise; a tenth learns to
    decode without the experts as well."""
    start, plain = torch.rand(2, generator=generator).tolist()
    return ("lq" if start < 0.25 else "none" if start < 0.85 else "noised") + (
        " and plain" if plain < 0.1 else ""
    )


def _plainly(networks: Networks, clean: Tensor) -> Tensor:
    """The same decoder must go on decoding without the experts: it is the pack's plain VAE."""
    with torch.no_grad():
        latent = networks.vae.encode(clean)
    return 0.3 * losses.reconstruction(networks.vae.decode(latent), clean)


def _balance(routings: list[Routing], top_k: int) -> Tensor:
    """Over the levels, the load balance of the whole batch; nothing to balance with one sample."""
    whole = [
        replace(r, logits=distributed.gather(r.logits), noisy=distributed.gather(r.noisy)) for r in routings
    ]
    return sum(losses.balance(r, top_k) if len(r.logits) > 1 else r.logits.new_zeros(()) for r in whole)


def repair_loss(
    repaired: Tensor, routings: list[Routing], encoded: Encoded, batch: Batch, top_k: int
) -> tuple[Tensor, Logs]:
    """What `detail` learns by: the picture, the degradation head, and the balance of the experts' load."""
    fit = losses.restoration(repaired, batch.target, ssim_weight=0)
    head = losses.severity(
        encoded.presence_logits,
        encoded.severity_logits,
        encoded.map_logits,
        batch.severities,
        batch.maps,
        batch.known,
    )
    balance = _balance(routings, top_k)
    logs = {
        "fit": fit.detach(),
        "head": head.detach(),
        "balance": balance.detach(),
        "experts": experts.shares(routings),
    }
    return fit + 0.08 * head + 5e-3 * balance, logs


def _detail(
    networks: Networks, clean: Tensor, generator: torch.Generator, *, choice: str | None = None, **mix
) -> tuple[Tensor, Logs]:
    batch = damage(clean, generator, **mix)
    start, *plain = (choice or _choose_start(generator)).split(" and ")
    encoded = encode_prior(networks, batch.lq)
    latent = start_latent(networks, batch, encoded, start, generator)
    repaired, routings = repair(networks, encoded, batch.lq, latent, batch.remove)
    loss, logs = repair_loss(repaired, routings, encoded, batch, networks.daem.config.top_k)
    return (loss + _plainly(networks, clean) if plain else loss), logs


def _choose_latent(generator: torch.Generator) -> str:
    """Of all batches, 8 % have the wished picture's latent, 5 % the damaged one's, 15 % none, 30 % one sampled in one step, 42 % in four."""
    roll = torch.rand((), generator=generator).item()
    return (
        "wished"
        if roll < 0.08
        else "lq"
        if roll < 0.13
        else "none"
        if roll < 0.28
        else "1"
        if roll < 0.58
        else "4"
    )


def _together(
    networks: Networks,
    clean: Tensor,
    generator: torch.Generator,
    *,
    perceptual: float = 0.0,
    choice: str | None = None,
    **mix,
) -> tuple[Tensor, Logs]:
    """`detail` on latents as they are sampled, and `fusion` on the LQ features as they become."""
    batch = damage(clean, generator, **mix)
    choice = choice or _choose_latent(generator)
    encoded = encode_prior(networks, batch.lq)
    fused, found = 0.0, {}
    if choice.isdigit():
        # Before it is sampled: autocast of PyTorch before 2.11 keeps weights that were cast without gradients, which would be used here too.
        with torch.no_grad():
            wished = networks.vae.encode(batch.target)
        feature = encoded.features[-1].detach().float()
        fused, found = fusion_loss(
            networks, wished, generator, feature=feature, severities=encoded.severities * batch.remove
        )
    latent = start_latent(networks, batch, encoded, choice, generator)
    repaired, routings = repair(networks, encoded, batch.lq, latent, batch.remove)
    loss, logs = repair_loss(repaired, routings, encoded, batch, networks.daem.config.top_k)
    loss = loss + (_plainly(networks, clean) if choice == "wished" else fused)
    return loss + _unlike(repaired, batch.target, choice, perceptual), logs | found


def _unlike(repaired: Tensor, target: Tensor, choice: str, perceptual: float) -> Tensor | float:
    """`perceptual` times ST-LPIPS, of pictures of four steps: one step stays the mean of all that is plausible, more may look better at a little of its fidelity."""
    return perceptual * learned_distance(repaired, target).mean() if perceptual and choice == "4" else 0.0


def _noised(latent: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Rectified flow: x = (1 - sigma) x0 + sigma noise; one sample in five at sigma 1, where one-step sampling starts."""
    noise = distributed.normal(latent.shape, generator, latent.device).to(latent)
    sigma = torch.sigmoid(distributed.normal((len(latent),), generator))
    sigma = torch.where(
        distributed.uniform((len(latent),), generator) < 0.2, torch.ones_like(sigma), sigma
    ).to(latent)
    x = (1 - sigma[:, None, None, None]) * latent + sigma[:, None, None, None] * noise
    return x, sigma, noise - latent


def _prior(networks: Networks, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Logs]:
    with torch.no_grad():
        latent = networks.vae.encode(clean)
    x, sigma, velocity = _noised(latent, generator)
    tokens = networks.prior.tokens.unknown(
        torch.zeros(len(clean), networks.prior.config.degradations).to(clean)
    )
    loss = (fused_velocity(networks, x, sigma, tokens, None).float() - velocity).square().mean()
    return loss, {"v": loss.detach()}


def _fusion(networks: Networks, clean: Tensor, generator: torch.Generator, **mix) -> tuple[Tensor, Logs]:
    latent, feature, severities = encode_for_fusion(networks, clean, generator, **mix)
    return fusion_loss(networks, latent, generator, feature=feature.float(), severities=severities)


def fusion_loss(
    networks: Networks, latent: Tensor, generator: torch.Generator, *, feature: Tensor, severities: Tensor
) -> tuple[Tensor, Logs]:
    """What `fusion` learns by: the wished picture's latent `B 16 h w` is to be found from noise, given the damaged one's coarsest LQ feature
    `B C h w` and the severities to be removed, `B K`."""
    dropped = (distributed.uniform((len(latent), 1, 1), generator) < 0.15).to(latent.device)
    tokens = torch.where(
        dropped, networks.prior.tokens.unknown(severities), networks.prior.tokens(severities)
    )
    condition = networks.daff.embed(feature)
    x, sigma, velocity = _noised(latent, generator)
    predicted = fused_velocity(networks, x, sigma, tokens, condition).float()
    fit = (predicted - velocity).square().mean()
    wide = sigma[:, None, None, None]
    clean_error = ((x - wide * predicted - latent).square() + 1e-6).sqrt()
    loss = fit + ((1 - wide) * clean_error).mean()
    return loss, {"v": fit.detach()}


def _joint(
    networks: Networks,
    clean: Tensor,
    generator: torch.Generator,
    *,
    perceptual: float = 0.0,
    choice: str | None = None,
    **mix,
) -> tuple[Tensor, Logs]:
    batch = damage(clean, generator, **mix)
    choice = choice or _choose_latent(generator)
    encoded = encode_prior(networks, batch.lq)
    latent = start_latent(networks, batch, encoded, choice, generator)
    repaired, routings = repair(networks, encoded, batch.lq, latent, batch.remove, noise=generator)
    fit = losses.restoration(repaired, batch.target)
    head = losses.severity(
        encoded.presence_logits,
        encoded.severity_logits,
        encoded.map_logits,
        batch.severities,
        batch.maps,
        batch.known,
    )
    logs = {"fit": fit.detach(), "head": head.detach(), "experts": experts.shares(routings)}
    loss = (
        fit
        + 0.02 * losses.sobel_l1(repaired, batch.target)
        + 0.08 * head
        + _unlike(repaired, batch.target, choice, perceptual)
    )
    return (loss + _plainly(networks, clean) if choice == "wished" else loss), logs


def _choose_sampled(generator: torch.Generator) -> str:
    return "sampled" if torch.rand((), generator=generator).item() < 0.5 else "lq"


def _keep(
    networks: Networks,
    clean: Tensor,
    generator: torch.Generator,
    *,
    made: Batch | None = None,
    choice: str | None = None,
) -> tuple[Tensor, Logs]:
    """Every sample keeps some of its damages; and some that it does not have, for which nothing may come back."""
    batch = damage(clean, generator, **KEEPING, made=made)
    absent = (batch.severities == 0).float() * (distributed.uniform(batch.remove.shape, generator) < 0.3).to(
        batch.remove
    )
    remove = batch.remove * (1 - absent)
    with torch.no_grad():
        encoded = encode_prior(networks, batch.lq)
        sampled = (choice or _choose_sampled(generator)) == "sampled"
        latent = sample(networks, encoded, 1, generator, remove) if sampled else networks.vae.encode(batch.lq)
    repaired, _ = repair(networks, encoded, batch.lq, latent, remove)
    fit = losses.restoration(repaired, batch.target)
    return fit, {"fit": fit.detach()}


def _maps(
    networks: Networks, features: Tensor, generator: torch.Generator, *, maps: Tensor
) -> tuple[Tensor, Logs]:
    """`features` and their true `maps` come from `maps.Memory`, the LQ encoder having been asked before."""
    shares, worst = networks.prior.head.places_of(features)
    where, how_bad = losses.shares(shares, maps), losses.worst(worst, maps)
    return where + how_bad, {"where": where.detach(), "worst": how_bad.detach()}


STAGES = {
    "autoencoder": Stage(
        "autoencoder", ("vae.encoder", "vae.decoder"), 1.5e-3, lambda progress, step: (64, 16), _autoencoder
    ),
    "detail": Stage(
        "detail",
        ("prior.trunk", "prior.head", "vae.decoder", "daem"),
        1.0e-3,
        _mixed_crops,
        _detail,
        restores=True,
        choose=_choose_start,
    ),
    "prior": Stage("prior", ("unet", "prior.tokens"), 1.0e-3, lambda progress, step: (128, 8), _prior),
    "together": Stage(
        "together",
        ("prior.trunk", "prior.head", "prior.tokens", "vae.decoder", "daem", "daff", "unet"),
        1.0e-3,
        _mixed_crops,
        _together,
        restores=True,
        choose=_choose_latent,
        fixed=ANCHOR,
    ),
    "fusion": Stage(
        "fusion",
        ("daff", "unet", "prior.tokens"),
        6.0e-4,
        lambda progress, step: (128, 8),
        _fusion,
        restores=True,
    ),
    "joint": Stage(
        "joint",
        ("prior.head", "vae.decoder", "daem"),
        3.0e-4,
        _mixed_crops,
        _joint,
        restores=True,
        choose=_choose_latent,
        fixed=ANCHOR,
    ),
    "polish": Stage(
        "polish",
        ("vae.decoder", "daem"),
        7.0e-5,
        lambda progress, step: (192, 2) if step % 4 == 3 else (128, 4),
        polish.step,
        muon=False,
        choose=polish.choose,
        fixed=(*ANCHOR, "daem.curve", "daem.kept"),
    ),
    "keep": Stage(
        "keep",
        ("daem.kept",),
        3.0e-3,
        lambda progress, step: (128, 8),
        _keep,
        muon=False,
        mix=KEEPING,
        choose=_choose_sampled,
    ),
    "maps": Stage("maps", ("prior.head.places",), 1.0e-3, lambda progress, step: (192, 16), _maps),
}
