"""A Slurm of two nodes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testbed import Testbed, why_not


@pytest.fixture(scope="session")
def slurm() -> Iterator[Testbed]:
    """Two nodes, shared by all tests of this process."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with Testbed() as bed:
        yield bed
