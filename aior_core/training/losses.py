"""Losses. Pictures are `B 3 H W` in -1..1 and are compared in 0..1; docs/method.md says what each loss is
for."""

from __future__ import annotations

import torch
from kornia.metrics import ssim as ssim_map
from torch import Tensor
from torch.nn import functional as F

from ..models.daem_level import Routing

PRESENT = 0.02
"""Severity above which a damage counts as present."""


def _unit(picture: Tensor) -> Tensor:
    """-1..1 -> 0..1, in fp32."""
    return (picture.float() + 1) / 2


def charbonnier(a: Tensor, b: Tensor) -> Tensor:
    """Smooth L1 with eps 1e-3, per sample `B`."""
    return ((a - b).square() + 1e-6).sqrt().flatten(1).mean(dim=1)


def fft_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the orthonormal spectra, per sample `B`."""
    difference = torch.fft.rfft2(a, norm="ortho") - torch.fft.rfft2(b, norm="ortho")
    return torch.view_as_real(difference).abs().flatten(1).mean(dim=1)


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference, per sample `B`."""
    return (a - b).square().flatten(1).mean(dim=1)


def log_mse(a: Tensor, b: Tensor, floor: float = 1e-4) -> Tensor:
    """10 log10(MSE + floor), per sample `B`. It balances damages whose errors are 20 dB apart."""
    return 10 * torch.log10(mse(a, b) + floor)


def decibels(prediction: Tensor, target: Tensor) -> Tensor:
    """`log_mse` of pictures in -1..1, per sample `B`: the negative of PSNR, -40 at best."""
    return log_mse(_unit(prediction), _unit(target))


def local(prediction: Tensor, target: Tensor) -> Tensor:
    """The loss of `polish`, per sample `B`, in dB: 10 log10(MSE + 3e-4) + 50 Charbonnier.

    It follows PSNR, but crops that are nearly right count for less.
    """
    a, b = _unit(prediction), _unit(target)
    return log_mse(a, b, 3e-4) + 50 * charbonnier(a, b)


def drifted(prediction: Tensor, before: Tensor, target: Tensor) -> Tensor:
    """How far a result has moved from the result `before`, per sample `B`, in dB: the PSNR that a change of
    this size costs if it is independent of the error."""
    prediction, before, target = prediction.float(), before.float(), target.float()
    change, error = mse(prediction, before) / 4, mse(before, target) / 4
    return 10 * torch.log10(1 + change / (error + 2e-6))


def restoration(prediction: Tensor, target: Tensor, *, ssim_weight: float = 0.02) -> Tensor:
    """Charbonnier + 0.005 log-MSE + 0.05 FFT-L1 + ssim_weight (1 - SSIM), averaged over the batch."""
    a, b = _unit(prediction), _unit(target)
    loss = charbonnier(a, b) + 0.005 * log_mse(a, b) + 0.05 * fft_l1(a, b)
    if ssim_weight:
        with torch.autocast(a.device.type, enabled=False):
            ssim = ssim_map(a.contiguous(), b.contiguous(), window_size=11)
            loss = loss + ssim_weight * (1 - ssim.flatten(1).mean(dim=1))
    return loss.mean()


def reconstruction(prediction: Tensor, target: Tensor) -> Tensor:
    """The autoencoder's loss: Charbonnier + 0.05 FFT-L1, averaged over the batch."""
    a, b = _unit(prediction), _unit(target)
    return (charbonnier(a, b) + 0.05 * fft_l1(a, b)).mean()


def kullback_leibler(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of the posterior from a standard normal, averaged over the numbers of the latent."""
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def latent_spread(latent: Tensor) -> Tensor:
    """How far the channels of a latent `B C h w` are from mean 0 and standard deviation 1, a scalar."""
    channels = latent.float().transpose(0, 1).flatten(1)
    return (channels.mean(dim=1).square() + (channels.std(dim=1) - 1).square()).mean()


def severity(
    presence: Tensor,
    severities: Tensor,
    maps: Tensor,
    true_severity: Tensor,
    true_maps: Tensor,
    known: Tensor | None = None,
) -> Tensor:
    """The degradation head's loss: presence by cross-entropy, severities by smooth L1, maps by cross-entropy.

    presence, severities `B K` and maps `B K h w` are logits; the true ones are in 0..1. Averaged over the
    batch; samples whose `known` (`B`) is 0 add nothing.
    """
    present = (true_severity > PRESENT).float()
    head = F.binary_cross_entropy_with_logits(presence.float(), present, reduction="none")
    overall = F.smooth_l1_loss(severities.float().sigmoid(), true_severity, beta=0.05, reduction="none")
    where = F.binary_cross_entropy_with_logits(maps.float(), true_maps.clamp(0, 1), reduction="none")
    each = head.mean(dim=1) + 2 * overall.mean(dim=1) + 1.5 * where.flatten(1).mean(dim=1)
    return (each if known is None else each * known).mean()


def shares(logits: Tensor, true_maps: Tensor) -> Tensor:
    """Cross-entropy of maps `B K h w` relative to their worst place; averaged over the damages that a picture
    has."""
    worst = true_maps.amax(dim=(2, 3), keepdim=True)
    present = (worst > PRESENT).float()
    relative = true_maps / worst.clamp_min(PRESENT)
    each = F.binary_cross_entropy_with_logits(logits.float(), relative, reduction="none")
    return (each.mean(dim=(2, 3), keepdim=True) * present).sum() / present.sum().clamp_min(1)


def worst(logits: Tensor, true_maps: Tensor) -> Tensor:
    """Cross-entropy of the severity at each damage's worst place, logits `B K` against maps `B K h w`."""
    return F.binary_cross_entropy_with_logits(logits.float(), true_maps.amax(dim=(2, 3)).clamp(0, 1))


def sobel_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical gradients."""
    d = prediction.float() - target.float()
    return d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()


def balance(routing: Routing, top_k: int) -> Tensor:
    """Load balance of one router over a batch: half the squared coefficient of variation of the importance,
    half that of the load (Shazeer et al. 2017, arXiv 1701.06538, section 4)."""
    experts = routing.logits.shape[1]
    importance = routing.logits.softmax(dim=1).sum(dim=0)
    threshold = routing.noisy.topk(top_k, dim=1).values[:, -1:]
    load = (1 - torch.special.ndtr((threshold - routing.logits) * experts)).mean(dim=0)
    return 0.5 * _squared_variation(importance) + 0.5 * _squared_variation(load)


def _squared_variation(x: Tensor) -> Tensor:
    return x.var() / (x.mean() + 1e-8).square()
