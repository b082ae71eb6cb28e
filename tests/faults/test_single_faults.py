"""Faults that need no study in a process of its own."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import short_study
from drivers import trained_again

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's clock is an hour ahead of its workers', then an hour behind, and so on."""
    real, looks = time.time, itertools.count()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(time, "time", lambda: real() + (3600 if next(looks) % 20 < 10 else -3600))
    result = short_study.run(tmp_path, 4)
    assert next(looks) > 20, "nobody has looked at the clock"
    assert {trial.state.value for trial in result.trials} == {"completed"}
    assert trained_again(tmp_path) == 0
    assert 0 < result.cost.elapsed < 600
    assert 0 < result.cost.seconds < 600


@pytest.mark.parametrize("path", ["https://localhost/configuration", "http://localhost"])
def test_a_configuration_on_the_network_is_not_fetched(path: str, tmp_path: Path) -> None:
    command = ["-m", "itwinai", "exec-pipeline", "--config-path", path, "--config-name", "study"]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: "), done.stderr
    assert path.replace("//", "/") in done.stderr.replace("//", "/")


def test_every_dependency_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    used = [
        *project["dependencies"],
        *(one for name in groups if name != "dev" for one in groups[name]),
    ]
    foreign = [one for one in used if not one.startswith("itwinai[")]
    assert len(foreign) > 15
    assert [one for one in foreign if not re.search(r",<\d", one)] == []
