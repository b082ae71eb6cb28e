"""What the tests of studies share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hand_driven import Clock, MakeStudy, build_study

from itwinai.hpo.study import Study


@pytest.fixture
def make_study(tmp_path: Path) -> Iterator[MakeStudy]:
    """Make studies in one folder, and release their records at the end."""
    made: list[Study] = []

    def make(*args: Any, **settings: Any) -> Study:
        made.append(build_study(tmp_path, *args, **settings))
        return made[-1]

    yield make
    for study in made:
        study._record.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let time pass only when the test says so; a record's dates are real all the same."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock
