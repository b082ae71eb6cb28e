"""The property of all these tests: what is given is taken, or refused by an error of itwinai."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import TypeVar

from hypothesis import settings

from itwinai.errors import ItwinaiError, notes_of, with_notes

Result = TypeVar("Result")

#: For what costs as much as a hundred others: it composes, imports and builds, or reads a study.
FEWER = settings(max_examples=settings().max_examples // 2)

#: Of a message, and of a line of it.
LINES, CHARACTERS = 12, 2000
#: Of processor time, which other programs of the machine do not lengthen.
SECONDS = 2.0


def taken(action: Callable[[], Result]) -> Result | None:
    """What an action returns, or None if it refused in a few lines; soon in both cases."""
    with soon():
        try:
            return action()
        except ItwinaiError as error:
            check_message(with_notes(str(error), notes_of(error)))
            return None


@contextmanager
def soon() -> Iterator[None]:
    """Whatever is done in this block does not take long."""
    begin = process_time()
    yield
    assert process_time() - begin < SECONDS


def check_message(text: str) -> None:
    """A message says something, and fits on a screen."""
    lines = text.split("\n")
    assert text.strip()
    assert len(lines) <= LINES, text
    assert max(map(len, lines)) <= CHARACTERS, text
