"""The table of faults is complete, names tests that exist, and stands in the documentation."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from table import ATTACKS, FAULTS, PAGE, ROOT, Fault, updated


@cache
def defined_in(file: Path) -> set[str]:
    """Names of what a file defines."""
    return {node.name for node in ast.parse(file.read_text()).body if hasattr(node, "name")}


@pytest.mark.parametrize("row", [*FAULTS, *ATTACKS], ids=lambda row: row.id)
def test_every_fault_has_tests_that_exist(row: Fault) -> None:
    assert row.tests
    for name in row.tests:
        file, _, test = name.partition("::")
        assert test in defined_in(ROOT / file), name
        assert test.startswith("test_")


def test_no_number_is_missing() -> None:
    assert [fault.id for fault in FAULTS] == [str(number) for number in range(1, 33)]
    assert [attack.id for attack in ATTACKS] == [f"S{number}" for number in range(1, 16)]


def test_the_documentation_has_the_tables() -> None:
    page = PAGE.read_text()
    assert page == updated(page), "python tests/faults/table.py writes them"
