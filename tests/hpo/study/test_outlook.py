"""A study that knows its end starts nothing that comes to no rung or checkpoint before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hand_driven import Clock, MakeStudy, ask, make_checkpoint, run_trial

from itwinai.hpo.display.summary import summary
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment, TrialState


@pytest.fixture
def _job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A job that will ask its program to stop in 100 seconds."""
    monkeypatch.setenv("ITWINAI_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.setenv("ITWINAI_STOP_AT", "1000100")


def epoch(study: Study, trial: Assignment, clock: Clock, seconds: float, **kept: Any) -> str:
    clock.now += seconds
    done = study._running[trial.number].epochs + 1
    checkpoint = make_checkpoint(trial, done) if kept.get("checkpoint") else None
    return study.report(trial.number, {"validation_loss": 0.5}, checkpoint, done)


def train(study: Study, clock: Clock, seconds: float, checkpoint: bool = False) -> None:
    """Run a trial whose epochs take so long to its end."""
    trial = ask(study)
    for _ in range(4):
        epoch(study, trial, clock, seconds, checkpoint=checkpoint)
    study.tell(trial.number, TrialState.COMPLETED)


@pytest.mark.parametrize(
    ("settings", "checkpoint", "left", "starts"),
    [
        ({}, False, 41.0, True),  # to its end: four epochs of ten seconds
        ({}, False, 39.0, False),
        ({}, True, 11.0, True),  # to the first checkpoint
        ({}, True, 9.0, False),
        ({"scheduler": {"name": "asha", "grace_period": 2}}, False, 21.0, True),
        ({"scheduler": {"name": "asha", "grace_period": 2}}, False, 19.0, False),
    ],
)
def test_a_trial_starts_only_if_it_can_come_somewhere(
    make_study: MakeStudy,
    clock: Clock,
    settings: dict[str, Any],
    checkpoint: bool,
    left: float,
    starts: bool,
) -> None:
    study = make_study(time_budget_s=40 + left, **settings)
    train(study, clock, 10.0, checkpoint)
    assert (study.ask() is not None) is starts
    assert study.finished is not starts


def test_what_runs_goes_on_and_what_is_left_is_said(make_study: MakeStudy, clock: Clock) -> None:
    study = make_study(time_budget_s=78.0)
    train(study, clock, 10.0)
    second = None
    clock.now -= 5.0  # 43 seconds are left: a trial begins
    second = ask(study)
    clock.now += 5.0
    assert study.ask() is None
    assert study.finished
    for _ in range(3):
        assert epoch(study, second, clock, 8.0) == "continue"
    epoch(study, second, clock, 8.0)
    study.tell(second.number, TrialState.COMPLETED)
    result = study.close()
    assert not study.interrupted
    assert result.seconds_early == pytest.approx(6.0)
    assert "ended 6 s early: no trial could have reached a rung or a checkpoint" in str(
        summary(result)
    )
    assert "2 new trials left for the next run" in str(summary(result))


def test_an_interrupted_trial_begins_again_by_its_own_pace(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(time_budget_s=1000.0)
    slow = ask(study)
    epoch(study, slow, clock, 50.0, checkpoint=True)
    study.close()
    study = make_study(time_budget_s=1000.0, resume=True)
    slow = ask(study)
    train(study, clock, 1.0, checkpoint=True)
    epoch(study, slow, clock, 50.0, checkpoint=True)
    study.close()
    spent = clock.now - 1_000_000.0
    for left, starts in ((40.0, False), (60.0, True)):
        study = make_study(time_budget_s=spent + left, resume=True, name="study")
        study._begun = 1  # another trial has begun in this run
        assert (study.ask() is not None) is starts
        study.close()
        spent = study.result().cost.elapsed if starts else spent


@pytest.mark.usefixtures("_job")
def test_in_a_job_the_rest_is_left_to_the_next_one(make_study: MakeStudy, clock: Clock) -> None:
    study = make_study()
    train(study, clock, 20.0)
    assert study.ask() is None
    assert study.leaves_to_next_job
    study.close()
    # However short the job, its first trial begins: otherwise no job would ever go on.
    clock.now += 15.0
    study = make_study(resume=True)
    run_trial(study, [0.5] * 4)
    assert study.ask() is None
