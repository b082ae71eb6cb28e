"""A table in a terminal: what it has room for, and that no number is folded."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from itwinai.hpo.display.tables import table

HEAD = ["trial", "state", "validation_accuracy", "optim_lr", "width", "reason"]
ROWS = [
    ["0 (default)", "completed", "0.2492", "0.0003", "8", "trained to the last epoch"],
    ["1", "stopped", "0.1118", "0.0001599", "32", "asha after epoch 3"],
]


def drawn(width: int) -> list[str]:
    console = Console(width=width, file=StringIO())
    console.print(table(HEAD, ROWS))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 70, 80, 120])
def test_no_value_is_folded_and_what_has_no_room_is_named(width: int) -> None:
    lines = drawn(width)
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    first, second = (next(line for line in lines if line.split()[0] == n) for n in ("0", "1"))
    missing = text.partition("no room for ")[2].partition(": ")[0].split(", ")
    for name, one, other in zip(HEAD[:-1], ROWS[0], ROWS[1], strict=False):
        assert (one in first and other in second) != (name in missing)


def test_names_give_way_before_values_do() -> None:
    assert drawn(120)[0].split() == HEAD
    narrow = drawn(58)
    assert narrow[0].split() == ["validation_"]
    assert narrow[1].split() == ["trial", "state", "accuracy", "optim_lr", "width"]


def test_a_long_text_is_folded_between_its_words() -> None:
    lines = drawn(80)
    at = next(i for i, line in enumerate(lines) if "(default)" in line)
    assert lines[at].endswith("  trained to the last")
    assert lines[at + 1].split() == ["epoch"]


def test_an_empty_column_is_left_out() -> None:
    console = Console(width=80, file=StringIO())
    console.print(table(["study", "problem"], [["digits", ""]]))
    assert isinstance(console.file, StringIO)
    assert "problem" not in console.file.getvalue()
