"""Standard output that never ends the command: it says every name, and outlives whoever stops reading it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

PIPE_CLOSED = 141
"""The exit code of a program whose reader went away, as shells know it."""


class RobustOutput:
    """`stream`, but for writes that fail.

    Where the reader of a pipe has gone (`| head`), the command ends like other programs, without a traceback, and stops its
    server on the way out. Where the disk under a log is full, the log ends and the pictures go on.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as the stream does. Raises SystemExit where nobody reads any more."""
        with self._surviving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush as the stream does. Raises SystemExit where nobody reads any more."""
        with self._surviving():
            self._stream.flush()

    @contextlib.contextmanager
    def _surviving(self):
        try:
            yield
        except OSError as error:
            # What is still in the buffer goes nowhere; otherwise Python would complain of it at its end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                raise SystemExit(PIPE_CLOSED) from None


def robust_output() -> None:
    """Let standard output and error say names that their encoding does not have, by escapes, and survive failing writes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            continue  # closed by whoever started the command: print does nothing then
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if name == "stdout":
            sys.stdout = RobustOutput(stream)
