"""The registry of degradations: every file in this folder is one, and there is no other list of them.

To add one, put a file here that defines `DEGRADATION`. Its number is the next free one, because the number is
the row in labels and weights.
"""

from __future__ import annotations

import importlib
import pkgutil

from ..apart import APART
from ..degradation import MIXES, Degradation
from ..published.style import Style


def _found() -> tuple[Degradation, ...]:
    """Return every degradation, by number. Raises ValueError for names or numbers that do not fit."""
    modules = [
        importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)
    ]
    found = sorted((module.DEGRADATION for module in modules), key=lambda each: each.number)
    numbers, names = [each.number for each in found], [each.name for each in found]
    if numbers != list(range(len(found))) or len(set(names)) != len(names):
        raise ValueError(
            f"degradations: kinds {names} have the numbers {numbers}; expected one name each and 0, "
            "1, 2 ... without a gap"
        )
    return tuple(found)


DEGRADATIONS = _found()
KINDS = tuple(each.name for each in DEGRADATIONS)
"""The names, in the order of the rows in labels and weights."""
_BY_NAME = {each.name: each for each in DEGRADATIONS}


def of(kind: str) -> Degradation:
    """Return the degradation of that name. Raises ValueError for an unknown one."""
    if not isinstance(kind, str) or kind not in _BY_NAME:
        raise ValueError(f"degradations: unknown kind {str(kind)[:60]!r}; expected one of {', '.join(KINDS)}")
    return _BY_NAME[kind]


def look_of(kind: str, params: dict) -> Style | None:
    """Return the style that the parameters of a step name, or None for a kind's plain form.

    Raises ValueError when there is no style of that name.
    """
    if kind not in APART:
        return of(kind).style(params)
    name, known = params.get("style"), APART[kind]
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"degradations: there is no {kind} {str(name)[:60]!r}; expected one of {', '.join(known)}"
        )
    return known[name]


def shares(mix: str) -> dict[str, float]:
    """Return how often each kind occurs in one of `MIXES`, without kinds that do not occur in it."""
    if mix not in MIXES:
        raise ValueError(f"degradations: there is no mix {mix!r}; expected one of {', '.join(MIXES)}")
    return {each.name: each.shares[mix] for each in DEGRADATIONS if each.shares[mix] > 0.0}


def primary_from_severity(kind: str, severity: float) -> float | int:
    """Return the value of the kind's primary parameter at `severity` in 0..1.

    Raises ValueError outside of that range.
    """
    return of(kind).value(severity)


def severity_from_primary(kind: str, value: float) -> float:
    """Return the severity, clamped to 0..1, that `value` of the kind's primary parameter stands for."""
    return of(kind).severity(value)
