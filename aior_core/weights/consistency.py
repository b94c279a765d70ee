"""Checks that the parts of one file fit each other: each part can be complete by itself and belong to another
model."""

from __future__ import annotations

from collections.abc import Sequence

from ..models.config import DAEMConfig, RestorerConfig

WIDEST_EXPERT = 63
"""Pixels that an expert's kernel may span, dilation included: wider ones would pad every level by more than a
picture."""


def require_consistent(restorer: RestorerConfig, problems: Sequence[str] = ()) -> None:
    """Raise ValueError with the numbers that do not fit, in the restorer or among `problems` of the model
    around it.
    """
    found = [*restorer_problems(restorer), *problems]
    if found:
        raise ValueError(
            f"The parts of these weights do not go together: {'; '.join(found)}. Files of two models were "
            "mixed, or one is "
            "damaged. Get all files of one model again."
        )


def restorer_problems(restorer: RestorerConfig) -> list[str]:
    """What does not fit between LQ encoder, DAFF and DAEM, in words; empty if everything does."""
    prior, daff, levels = restorer.prior, restorer.daff, restorer.family.levels
    problems = differences(("levels of the LQ encoder", len(prior.widths)), ("expected", levels))
    problems += differences(
        ("channels of the LQ encoder", prior.widths[-1]), ("of DAFF's condition", daff.condition_width)
    )
    return problems if restorer.daem is None else problems + _daem_problems(restorer.daem, restorer, levels)


def _daem_problems(daem: DAEMConfig, restorer: RestorerConfig, levels: int) -> list[str]:
    prior = restorer.prior
    problems = differences(("levels of DAEM", len(daem.widths)), ("expected", levels))
    problems += differences(
        ("channels of the LQ encoder", prior.widths), ("of DAEM's skips", daem.skip_widths)
    )
    problems += differences(
        ("channels of the LQ encoder", prior.widths[-1]), ("of DAEM's context", daem.prior_width)
    )
    if daem.top_k > len(daem.kernels):
        problems.append(f"DAEM chooses {daem.top_k} of {len(daem.kernels)} experts")
    problems += [
        f"DAEM has an expert of kernel {kernel} and dilation {dilation}"
        for kernel, dilation in zip(daem.kernels, daem.dilations)
        if kernel % 2 == 0 or 1 + dilation * (kernel - 1) > WIDEST_EXPERT
    ]
    heads = [max(1, width // daem.head_channels) for width in daem.widths]
    problems += [
        f"DAEM has {width} channels for {count} heads"
        for width, count in zip(daem.widths, heads)
        if width % count
    ]
    # The pooling of a level must divide its sides in the smallest tile, which is one latent pixel.
    problems += [
        f"DAEM pools level {level} by {pool}"
        for level, pool in enumerate(daem.pools)
        if 2 ** (len(daem.pools) - 1 - level) % pool
    ]
    return problems


def differences(one: tuple[str, object], other: tuple[str, object]) -> list[str]:
    """Two values with their names -> a sentence with both if they differ, else nothing."""
    return [] if one[1] == other[1] else [f"{one[0]} {one[1]}, {other[0]} {other[1]}"]
