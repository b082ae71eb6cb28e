"""What each line of a record carries for whoever reads it again: its number and a check sum.

Optuna passes over keys that it does not know, so that the file stays its journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from zlib import crc32

_SUM, _DIGITS, _END = ',"sum":"', 8, '"}'
_SUM_BYTES = _SUM.encode()
_SEAL = -(len(_SUM) + _DIGITS + len(_END))
_CODE = slice(-_DIGITS - len(_END), -len(_END))
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def sealed(entry: Mapping[str, Any], number: int) -> str:
    """Write an entry as the line of this number, from 1."""
    text = _ENCODER.encode({**entry, "line": number})[:-1]
    return f"{text}{_SUM}{crc32(text.encode()):0{_DIGITS}x}{_END}"


def is_sound(line: bytes) -> bool | None:
    """Whether a line is as it was written; None if it carries no sum, as in older records."""
    if line[_SEAL : _CODE.start] != _SUM_BYTES:
        return False if _SUM_BYTES in line else None
    return line[_CODE] == b"%08x" % crc32(line[:_SEAL]) and line.endswith(b'"}')
