"""The errors itwinai raises, and how their messages are put.

Every message says what was wrong, where, and what to do. Nothing in the library ends the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from unicodedata import category

from itwinai.confidential import masked


class ItwinaiError(Exception):
    """Base of every error that itwinai raises on purpose."""


class ConfigurationError(ItwinaiError, ValueError):
    """A configuration cannot work; raised before anything has started."""


class MissingPackageError(ItwinaiError, ImportError):
    """An optional package is needed; the message holds the command that installs it."""


class CheckpointError(ItwinaiError):
    """A checkpoint is missing, incomplete or damaged."""


class NotANumberError(ItwinaiError):
    """A training's loss is not a number any more."""


def add_note(error: BaseException, note: str) -> None:
    """Say more of an error, as ``error.add_note`` does, which Python 3.10 has not."""
    error.__dict__["__notes__"] = [*notes_of(error), note]


def notes_of(error: BaseException) -> list[str]:
    """What was said of an error, besides its message."""
    return list(getattr(error, "__notes__", []))


def with_notes(message: str, notes: Iterable[str]) -> str:
    """A message and what else there is to say, each on lines of its own."""
    return "\n".join([message, *(f"  {note}" for note in notes)])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``known``, or an empty string."""
    closest = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{closest[0]}'?" if closest else ""


def visible(text: str) -> str:
    """A text without what steers a terminal: control characters are written as in Python.

    Lines and tabs stay.
    """
    steers = "".join(c for c in set(text) if c not in "\n\t" and category(c) in ("Cc", "Cf"))
    return text.translate({ord(c): repr(c)[1:-1] for c in steers})


def text_of(error: BaseException) -> str:
    """An error's message as it can be written anywhere; whoever wrote the error may have erred.

    It holds no user and password of an address.
    """
    try:
        return visible(masked(str(error)).encode("utf-8", "backslashreplace").decode())
    except Exception as broken:  # noqa: BLE001 - its __str__ may raise anything
        return f"(its text cannot be made: {type(broken).__name__})"


def one_line(text: str, longest: int = 200) -> str:
    """Cut a message down to what fits a line, and steers no terminal."""
    text = visible(" ".join(text.split()))
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
