"""The page about errors shows messages that the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADINGS = re.findall(r"^### (.*)$", (ROOT / "docs" / "errors.md").read_text(), re.M)
#: What stands for the parts of a message that are different each time.
OPEN = "..."


def messages() -> Iterator[str]:
    """All texts of the package, with dots for what is put into them."""
    for path in (ROOT / "src" / "itwinai").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(text_of(part) for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def text_of(part: ast.expr) -> str:
    """A part of a formatted string."""
    return str(part.value) if isinstance(part, ast.Constant) else OPEN


def is_in(heading: str, message: str) -> bool:
    """Whether a heading is the message or its first words, the dots standing for anything."""
    parts = [re.escape(part) for part in heading.strip("`").split(OPEN)]
    return re.match(".*".join(parts), message, re.S) is not None


MESSAGES = sorted(set(messages()))


def test_there_are_many_errors_and_each_is_told_once() -> None:
    assert len(HEADINGS) > 40
    assert len(set(HEADINGS)) == len(HEADINGS)
    assert all(re.fullmatch(r"`[^`]+`", heading) for heading in HEADINGS)


@pytest.mark.parametrize("heading", HEADINGS)
def test_an_error_of_the_page_is_one_of_the_code(heading: str) -> None:
    assert any(is_in(heading, message) for message in MESSAGES)


def test_what_the_code_does_not_say_is_found_out() -> None:
    assert not any(is_in("`study.mode is wanting`", message) for message in MESSAGES)
