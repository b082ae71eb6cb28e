"""A driver that is killed with -9 again and again: nothing that was on record is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_engine import Driver, epochs_of, states

from itwinai.hpo.record import StudyResult, load_study
from itwinai.hpo.trial import TrialState

#: What the driver says when it is killed: early, in the middle, with one trial left that waits.
MOMENTS = (r"trial 0 1 running", r"trial \d 6 completed|trial 2 3 running", r"trial 2 3 running")


@pytest.mark.exhaustive
def test_a_study_whose_driver_is_killed_three_times_loses_nothing(tmp_path: Path) -> None:
    left: list[StudyResult] = []
    for moment in MOMENTS:
        driver = Driver(tmp_path)
        driver.wait_for(f"({moment})")
        driver.process.kill()
        driver.end()
        left.append(load_study(tmp_path / "study"))
        driver.sweep()
    (tmp_path / "go").touch()
    assert Driver(tmp_path).end() == 0
    result = load_study(tmp_path / "study")
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3, 4]
    assert states(result) == ["completed"] * 5
    assert [epochs_of(trial) for trial in result.trials] == [[1, 2, 3, 4, 5, 6]] * 5
    for earlier in left:
        assert all(trial.epochs for trial in earlier.trials if trial.number == 0)
        for before, after in zip(earlier.trials, result.trials, strict=False):
            running = before.state is TrialState.RUNNING
            # The last epoch of a running trial may have been on record before its checkpoint was.
            kept = before.history[:-1] if running else before.history
            assert after.history[: len(kept)] == kept
            assert after.params == before.params
            assert running or after == before
    # Trial 2 waits in its fourth epoch until the last run, so at most three were run twice.
    assert result.cost.epochs <= 5 * 6 + 2 * len(left)
