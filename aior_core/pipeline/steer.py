"""Steering: which damages to remove and which to leave in.

In training some damages stay in the target now and then, and the estimated severities that the denoiser's tokens and DAEM
are told of are then 0 for those. Steering does the same to a prior. The estimate itself, which reports and masks are made
of, stays as it is. Both networks are told one number for the whole picture, so there is no steering by place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..degradations import KINDS
from .prior import Prior, require_estimate
from .validate import require_numbers


def steer_prior(prior: Prior, weights: Mapping[str, float | Sequence[float]]) -> Prior:
    """A prior whose damages are to be removed as much as `weights` says: 1 removes a kind, 0 leaves it in.

    weights: by kind of the prior or of `KINDS`, one number in 0..1 for all pictures or one per picture; kinds not named are removed. What
    the prior was steered by before is multiplied. Weight 1 everywhere gives the same prior back.
    Raises ValueError for an unknown kind, a weight outside 0..1, another number of weights than pictures, or a prior without an estimate.
    """
    require_estimate(prior)
    batch = len(prior.severities)
    rows = {kind: _row(kind, weight, batch, prior.kinds) for kind, weight in weights.items()}
    if all(weight == 1 for row in rows.values() for weight in row):
        return prior
    steering = prior.severities.new_ones(prior.severities.shape)
    for kind, row in rows.items():
        if kind in prior.kinds:
            steering[:, prior.kinds.index(kind)] = steering.new_tensor(row)
        elif any(weight < 1 for weight in row):
            raise ValueError(
                f"the restorer that made this prior knows no {kind}, so {kind} cannot be left in. Set its weight to 1."
            )
    if prior.steering is not None:
        steering = steering * prior.steering
    return dataclasses.replace(prior, steering=steering)


def _row(kind: str, weight: float | Sequence[float], batch: int, kinds: tuple[str, ...]) -> list[float]:
    """One weight per picture, checked. kinds: those of the prior, of which the pack need not know all."""
    known = tuple(dict.fromkeys((*KINDS, *kinds)))
    if kind not in known:
        raise ValueError(f"unknown degradation {kind!r}; expected one of {', '.join(known)}.")
    row = list(weight) if isinstance(weight, Sequence) and not isinstance(weight, str) else [weight] * batch
    for value in row:
        require_numbers(**{kind: value})
    if len(row) != batch:
        raise ValueError(
            f"{len(row)} weights of {kind} for {batch} pictures; give one number, or one per picture."
        )
    if wrong := [value for value in row if not 0.0 <= value <= 1.0]:
        raise ValueError(f"the weight of {kind} is {wrong[0]}; expected 0 (leave it in) to 1 (remove it).")
    return row
