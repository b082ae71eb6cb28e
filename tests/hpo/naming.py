"""Names of tests that are the same in every process."""

from __future__ import annotations

import re
from typing import Any


def named(value: Any) -> str:
    """A parameter's text, without an object's address."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
