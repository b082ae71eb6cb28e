"""What each line of a record carries for whoever reads it again: its number and a check sum.

Optuna passes over keys that it does not know, so that the file stays its journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from zlib import crc32

_SUM, _END = ',"sum":"', '"}'
_SUM_BYTES, _END_BYTES, _DIGITS = _SUM.encode(), _END.encode(), 8


def sealed(entry: Mapping[str, Any], number: int) -> str:
    """Write an entry as the line of this number, from 1."""
    text = json.dumps({**entry, "line": number}, separators=(",", ":"))[:-1]
    return f"{text}{_SUM}{crc32(text.encode()):0{_DIGITS}x}{_END}"


def is_sound(line: bytes) -> bool | None:
    """Whether a line is as it was written; None if it carries no sum, as in older records."""
    text, seal, rest = line.rpartition(_SUM_BYTES)
    if not seal:
        return None
    return rest == f"{crc32(text):0{_DIGITS}x}{_END}".encode()
