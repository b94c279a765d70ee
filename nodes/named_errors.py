"""A node's name in its errors, put on once, at the node's edge. Nothing below the nodes knows its node."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
NAMED = (ValueError, RuntimeError, OSError)
"""Errors for people. The host's interrupts are none of these and pass unchanged. Other kinds are bugs."""


@contextmanager
def named(name: Callable[[], str]) -> Iterator[None]:
    """Put `name()` before the text of an error of `NAMED`, unless it is there. The error object is kept.

    An error of the system holds a number and a file's name instead of one text. It passes unchanged.
    """
    try:
        yield
    except NAMED as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            prefix = f"{name()}: "
            if not error.args[0].startswith(prefix):
                error.args = (prefix + error.args[0],)
        raise


def in_its_name(execute: Callable[P, T]) -> Callable[P, T]:
    """Decorate a node's `execute`, below `@classmethod`: its errors begin with the node's display name."""

    @functools.wraps(execute)
    def run(cls, *args, **inputs):
        with named(lambda: cls.define_schema().display_name):
            return execute(cls, *args, **inputs)

    return run
