"""What a study's record tells of its methods: whether its winner is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.insight.confirmation import Confirmation, read_confirmation
    from itwinai.hpo.insight.confirming import LOOKS, Gain, looks, sequential_gain

__all__ = [
    "Confirmation",
    "Gain",
    "LOOKS",
    "looks",
    "read_confirmation",
    "sequential_gain",
]

__getattr__ = lazily(
    __name__,
    {
        "confirmation": "Confirmation read_confirmation",
        "confirming": "LOOKS Gain looks sequential_gain",
    },
)
