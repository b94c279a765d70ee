"""Errors that begin with the name of their node. Code below the nodes does not know which node calls it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from comfy_api.latest import io

NAMED = (ValueError, RuntimeError, OSError)
"""Errors that are written for users. ComfyUI's interrupts are of other kinds and pass unchanged."""


@contextmanager
def named_errors(name: Callable[[], str]) -> Iterator[None]:
    """Put `name()` in front of the text of any error of `NAMED`, unless it is already there.

    The same error object is raised again. An error of the operating system passes unchanged, because it
    holds a number and a file name instead of one text.
    """
    try:
        yield
    except NAMED as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            prefix = f"{name()}: "
            if not error.args[0].startswith(prefix):
                error.args = (prefix + error.args[0],)
        raise


class RestorationNode(io.ComfyNode):
    """Base class of the pack's nodes: errors that `execute` raises begin with the node's display name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        execute = cls.__dict__.get("execute")
        # ComfyUI runs a clone of the class, which already has the wrapped method.
        if isinstance(execute, classmethod) and not hasattr(execute.__func__, "__wrapped__"):
            cls.execute = classmethod(_named(execute.__func__))


def _named(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    @functools.wraps(execute)
    def run(cls: type[RestorationNode], *args: Any, **inputs: Any) -> io.NodeOutput:
        with named_errors(lambda: cls.define_schema().display_name):
            return execute(cls, *args, **inputs)

    return run
