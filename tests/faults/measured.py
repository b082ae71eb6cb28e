"""Seconds that a study needed to recover from a fault, as the tests have measured them.

They are kept beside this file if the variable ``FAULTS_MEASURE`` is set, as ``make reliability``
sets it, for the table in the documentation.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")


def seconds() -> dict[str, float]:
    """Seconds by fault."""
    found: dict[str, float] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


@contextmanager
def measured(fault: str) -> Iterator[None]:
    """Measure a block: from the fault until the study has recovered."""
    start = time.monotonic()
    yield
    if os.environ.get("FAULTS_MEASURE"):
        kept = {**seconds(), fault: round(time.monotonic() - start, 1)}
        FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n")
