"""Files as disks, copies and editors leave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: Any) -> Damage:
    """What happens to a file, at one place of it."""
    kind = draw(st.sampled_from(["bit", "cut", "hole", "insert", "bytes"]))
    place, length = draw(st.floats(0, 1, exclude_max=True)), draw(st.sampled_from([1, 4, 64, 512]))
    bit, piece = draw(st.integers(0, 7)), draw(st.binary(min_size=1, max_size=8))

    def damaged(content: bytes) -> bytes:
        at = int(place * len(content))
        before, after = content[:at], content[at + length :]
        return {
            "bit": before + bytes(b ^ 1 << bit for b in content[at : at + 1]) + content[at + 1 :],
            "cut": before,
            "hole": before + bytes(min(length, len(content) - at)) + after,
            "insert": before + piece + content[at:],
            "bytes": before + piece + content[at + len(piece) :],
        }[kind]

    return damaged
