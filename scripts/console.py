"""Standard output that can write any name, and that survives the end of its reader and a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

PIPE_CLOSED = 141
"""The exit code that shells expect of a program whose reader went away."""


class RobustOutput:
    """Like `stream`, except for writes that fail.

    When the reader of a pipe has gone (`| head`), the command ends without a traceback, as other programs do,
    and stops its server. When the disk under a log is full, the log ends, and the command goes on with the
    pictures.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as the stream does. Raises SystemExit when nobody reads any more."""
        with self._surviving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush as the stream does. Raises SystemExit when nobody reads any more."""
        with self._surviving():
            self._stream.flush()

    @contextlib.contextmanager
    def _surviving(self):
        try:
            yield
        except OSError as error:
            # Discards what is still in the buffer. Otherwise Python reports an error when it exits.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                raise SystemExit(PIPE_CLOSED) from None


def robust_output() -> None:
    """Let standard output and error write any name, if need be with escapes, and survive failing writes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            continue  # closed by whoever started the command: print does nothing then
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if name == "stdout":
            sys.stdout = RobustOutput(stream)
