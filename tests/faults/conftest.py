"""What the tests of faults share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """A folder by a short path: Ray puts sockets below it, whose names are limited."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Path(folder)
