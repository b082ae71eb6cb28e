"""What a rule claims of the object that it tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class BrokenClaimError(Exception):
    """A claim does not hold, for the reason in the message; the rule's name is not known here."""


def must(holds: bool, reason: str) -> None:
    """Claim that something holds."""
    if not holds:
        raise BrokenClaimError(reason)


def must_equal(found: Any, expected: Any, what: str) -> None:
    """Claim that something is as expected."""
    must(found == expected, f"{what}: {found!r}, expected {expected!r}")


def must_raise(kind: type[Exception], use: Callable[[], Any], what: str) -> None:
    """Claim that a use is refused."""
    try:
        use()
    except kind:
        return
    raise BrokenClaimError(f"{what} raised no {kind.__name__}")
