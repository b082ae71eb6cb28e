"""Standard output whose loss ends no study: its reader has gone, or its disk is full."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO, cast

from rich.console import Console


def console() -> Console:
    """A console on standard output; what that does not take is left out."""
    return Console(file=cast(TextIO, _Unheard(sys.stdout)))


class _Unheard:
    """A stream that fails nobody.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lost(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lost(self, error: Exception) -> None:
        """Send what follows, of others too, nowhere if nobody will ever read it."""
        if isinstance(error, BrokenPipeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
