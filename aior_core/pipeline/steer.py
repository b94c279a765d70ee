"""Steering: which degradations to remove and which to keep.

In some of training's samples the target keeps a degradation, and its severity is 0 in what the denoiser's
tokens and DAEM receive. Steering does the same to a prior. The estimate itself, which reports and masks show,
does not change. Both networks receive one number per picture and degradation, so there is no steering by
place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..degradations import KINDS
from .prior import Prior, require_estimate
from .validate import require_numbers


def steer_prior(prior: Prior, weights: Mapping[str, float | Sequence[float]]) -> Prior:
    """A prior with steering: weight 1 removes a degradation, 0 keeps it.

    weights: by degradation of the prior or of `KINDS`, one number in 0..1 for all pictures or one per
    picture. Degradations that are not named are removed. Earlier steering of the prior is multiplied. If all
    weights are 1, the same prior is returned.

    Raises ValueError for an unknown degradation, a weight outside 0..1, another number of weights than
    pictures, or a prior without an estimate.
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
                f"the restorer that made this prior knows no {kind}, so {kind} cannot be left in. Set its "
                "weight to 1."
            )
    if prior.steering is not None:
        steering = steering * prior.steering
    return dataclasses.replace(prior, steering=steering)


def _row(kind: str, weight: float | Sequence[float], batch: int, kinds: tuple[str, ...]) -> list[float]:
    """One weight per picture, checked. kinds: the degradations of the prior, some of which the pack may not
    know."""
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
