"""The study, driven by hand: proposals, verdicts, ends, resuming and results."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hand_driven import MakeStudy, ask, make_checkpoint, report, run_trial

from itwinai.errors import ConfigurationError
from itwinai.hpo.errors import MissingMetricError, StudyError
from itwinai.hpo.record import csv_text, export_study, load_study
from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialResult, TrialState

GRID = {
    "a": {"type": "choice", "categories": [1, 2]},
    "b": {"type": "quniform", "lower": 0, "upper": 0.2, "q": 0.1},
}
POINTS = [{"a": a, "b": b} for a in (1, 2) for b in (0.0, 0.1, 0.2)]


def drain(study: Study, loss: float = 0.5) -> list[int]:
    """Run all trials that the study still has; return their numbers."""
    numbers = []
    while (trial := study.ask()) is not None:
        losses = [loss] * (study.epochs - trial.epochs)
        numbers.append(run_trial(study, losses, trial=trial).number)
    return numbers


def trial_of(study: Study, number: int) -> TrialResult:
    return study.result().trials[number]


def losses_of(trial: TrialResult) -> list[float]:
    return [metrics["validation_loss"] for metrics in trial.history]


def abandon(study: Study) -> None:
    """Leave a study as kill -9 does: nothing is closed in the record."""
    study._record.close()


# -- what is proposed --------------------------------------------------------------------------


def test_the_default_configuration_runs_first_and_is_marked(make_study: MakeStudy) -> None:
    study = make_study(default={"x": 0.25})
    first, second = ask(study), ask(study)
    assert (first.number, first.params) == (0, {"x": 0.25})
    assert second.params != {"x": 0.25}
    assert [trial.is_default for trial in study.result().trials] == [True, False]
    default = study.result().default
    assert default is not None
    assert default.params == {"x": 0.25}


@pytest.mark.parametrize("value", [7.5, "auto", None, [1, 2]], ids=repr)
def test_a_default_outside_the_space_keeps_its_value(make_study: MakeStudy, value: Any) -> None:
    study = make_study(default={"x": value})
    trial = run_trial(study, [0.1] * 4)
    assert trial.params == {"x": value}
    assert trial_of(study, 0).params == {"x": value}
    # The sampler goes on, although that trial has no value of its own.
    assert 0 <= ask(study).params["x"] <= 1


@pytest.mark.parametrize("value", [0.3, 0.35])
def test_a_default_on_or_off_the_steps_keeps_its_value(make_study: MakeStudy, value: float) -> None:
    study = make_study(
        space={"x": {"type": "quniform", "lower": 0, "upper": 1, "q": 0.1}}, default={"x": value}
    )
    assert ask(study).params == {"x": value}
    assert trial_of(study, 0).params == {"x": value}


def test_without_a_default_no_trial_is_marked(make_study: MakeStudy) -> None:
    study = make_study()
    drain(study)
    assert study.result().default is None


def test_a_grid_runs_every_point_once_in_order_after_the_default(make_study: MakeStudy) -> None:
    study = make_study(space=GRID, algorithm="grid", num_samples=None, default={"a": 1, "b": 0.15})
    drain(study)
    params = [trial.params for trial in study.result().trials]
    assert params == [{"a": 1, "b": 0.15}, *POINTS]
    assert study.total == 7


def test_a_grid_without_a_default_has_only_its_points(make_study: MakeStudy) -> None:
    study = make_study(space=GRID, algorithm="grid", num_samples=None)
    drain(study)
    assert [trial.params for trial in study.result().trials] == POINTS


def test_what_is_handed_out_is_what_the_record_tells(make_study: MakeStudy) -> None:
    space = {
        "a": {"type": "quniform", "lower": 0.05, "upper": 1, "q": 0.1},
        "b": {"type": "qloguniform", "lower": 1, "upper": 100, "q": 5},
        "c": {"type": "qlograndint", "lower": 1, "upper": 64, "q": 3},
        "d": {"type": "choice", "categories": [[8, 8], {"k": 1}, None]},
    }
    study = make_study(space=space, num_samples=20)
    handed_out = [ask(study).params for _ in range(20)]
    assert [trial.params for trial in study.result().trials] == handed_out


def test_the_study_ends_with_its_total(make_study: MakeStudy) -> None:
    study = make_study(num_samples=3)
    assert drain(study) == [0, 1, 2]
    assert study.finished
    assert study.ask() is None


def test_twenty_trials_where_nothing_else_is_said(make_study: MakeStudy) -> None:
    assert make_study(num_samples=None).total == 20


def test_more_points_than_that_are_all_trained(make_study: MakeStudy) -> None:
    points = [{"x": n / 100} for n in range(25)]
    study = make_study(num_samples=None, points=points, algorithm="random")
    drain(study)
    assert [trial.params["x"] for trial in study.result().trials] == [p["x"] for p in points]


def test_every_trial_has_the_studys_seed_and_a_folder_of_its_own(make_study: MakeStudy) -> None:
    study = make_study(seed=7)
    trials = [ask(study), ask(study)]
    assert [trial.seed for trial in trials] == [7, 7]
    folders = [study.directory / "trials" / name for name in ("00000", "00001")]
    assert [Path(trial.directory) for trial in trials] == folders


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_the_same_seed_gives_the_same_proposals(make_study: MakeStudy, algorithm: str) -> None:
    def proposals(name: str, seed: int) -> list[Any]:
        study = make_study(name=name, seed=seed, algorithm=algorithm, num_samples=15)
        drain(study)
        return [trial.params for trial in study.result().trials]

    assert proposals("one", 1) == proposals("two", 1)
    assert proposals("three", 2) != proposals("four", 1)


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_a_resumed_study_does_not_propose_its_first_points_again(
    make_study: MakeStudy, algorithm: str
) -> None:
    study = make_study(algorithm=algorithm, num_samples=8)
    for _ in range(4):
        run_trial(study, [0.5] * 4)
    study.close()
    resumed = make_study(algorithm=algorithm, num_samples=8, resume=True)
    drain(resumed)
    values = [trial.params["x"] for trial in resumed.result().trials]
    assert len(set(values)) == 8


def test_a_lost_trial_does_not_make_the_model_propose_a_point_again(make_study: MakeStudy) -> None:
    study = make_study(algorithm="mfgp", num_samples=12)
    trials = [run_trial(study, [0.5] * 4), ask(study), ask(study)]
    study.tell(1, TrialState.LOST, "its worker was lost")
    trials += [ask(study) for _ in range(7)]
    study.tell(2, TrialState.LOST, "its worker was lost")
    trials += [ask(study), ask(study)]
    assert len({trial.params["x"] for trial in trials}) == 12


# -- who is stopped ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "asha", "grace_period": 3},
        {"name": "median", "grace_period": 3, "min_samples_required": 1},
    ],
    ids=["asha", "median"],
)
def test_a_bad_trial_is_stopped_right_after_the_grace_period(
    make_study: MakeStudy, scheduler: dict[str, Any], mode: str
) -> None:
    good, bad = (0.1, 0.9) if mode == "min" else (0.9, 0.1)
    study = make_study(epochs=9, scheduler=scheduler, mode=mode)
    run_trial(study, [good] * 9)
    trial = run_trial(study, [bad] * 9)
    ended = trial_of(study, trial.number)
    assert ended.state is TrialState.STOPPED
    assert ended.epochs == 3
    assert ended.reason == f"{scheduler['name']} after epoch 3"


@pytest.mark.parametrize("scheduler", ["asha", {"name": "median", "min_samples_required": 1}])
def test_without_a_wish_the_grace_period_is_two_epochs(
    make_study: MakeStudy, scheduler: Any
) -> None:
    study = make_study(scheduler=scheduler)
    run_trial(study, [0.1] * 4)
    run_trial(study, [0.9] * 4)
    assert trial_of(study, 1).epochs == 2


def test_median_waits_for_enough_trials(make_study: MakeStudy) -> None:
    study = make_study(scheduler="median", num_samples=5)
    for loss in (0.1, 0.2, 0.9, 0.9):
        run_trial(study, [loss] * 4)
    states = [trial.state for trial in study.result().trials]
    assert states == [TrialState.COMPLETED] * 3 + [TrialState.STOPPED]


def test_a_trial_at_its_last_epoch_is_complete_however_bad(make_study: MakeStudy) -> None:
    study = make_study(epochs=3, scheduler={"name": "asha", "grace_period": 1})
    run_trial(study, [0.2, 0.2, 0.2])
    # Best at the first rung, worst at the second, which is the last epoch.
    run_trial(study, [0.1, 0.5, 0.9])
    last = trial_of(study, 1)
    assert (last.state, last.epochs) == (TrialState.COMPLETED, 3)
    assert last.reason == "trained to the last epoch"


def test_without_a_scheduler_nobody_is_stopped(make_study: MakeStudy) -> None:
    study = make_study(scheduler=None)
    run_trial(study, [0.1] * 4)
    run_trial(study, [99.0] * 4)
    assert {trial.state for trial in study.result().trials} == {TrialState.COMPLETED}


def test_a_verdict_from_outside_stops_a_trial_but_not_at_its_last_epoch(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    for epochs in (2, 4):
        trial = ask(study)
        report(study, trial, [0.5] * epochs)
        study.stop(trial.number)
        study.tell(trial.number, TrialState.COMPLETED)
    states = [trial.state for trial in study.result().trials]
    assert states == [TrialState.STOPPED, TrialState.COMPLETED]


# -- how trials end ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("epoch", [2, 4])
def test_a_metric_that_is_not_finite_means_diverged(
    make_study: MakeStudy, value: float, epoch: int
) -> None:
    study = make_study()
    run_trial(study, [0.5] * (epoch - 1) + [value] + [0.5] * 9)
    trial = trial_of(study, 0)
    assert (trial.state, trial.epochs) == (TrialState.DIVERGED, epoch)
    assert trial.reason == f"loss became {value} in epoch {epoch}"
    assert study.result().best is None
    assert not study.finished


def test_a_missing_metric_ends_the_study_and_lists_what_was_reported(
    make_study: MakeStudy,
) -> None:
    study = make_study(metric="validation_lss")
    trial, other = ask(study), ask(study)
    metrics = {"train_loss": 1.0, "validation_loss": 2.0}
    assert study.report(trial.number, metrics, None, 1) == "stop"
    assert isinstance(study.fatal, MissingMetricError)
    assert str(study.fatal) == (
        "study.metric='validation_lss' was never reported; did you mean 'validation_loss'? "
        "Reported: train_loss, validation_loss"
    )
    assert study.finished
    assert study.ask() is None
    # The others learn it at their next report.
    assert study.report(other.number, metrics, None, 1) == "stop"
    states = [trial.state for trial in study.close().trials]
    assert states == [TrialState.FAILED, TrialState.INTERRUPTED]


def test_a_trial_that_reports_nothing_at_all_ends_the_study(make_study: MakeStudy) -> None:
    study = make_study()
    run_trial(study, [])
    assert isinstance(study.fatal, MissingMetricError)
    assert "the training reported nothing" in str(study.fatal)
    assert trial_of(study, 0).state is TrialState.FAILED


def test_a_report_that_lacks_the_metric_costs_its_trial_alone(make_study: MakeStudy) -> None:
    study = make_study(num_samples=2)
    trial = ask(study)
    report(study, trial, [0.5])
    assert study.report(trial.number, {"train_loss": 1.0}, None, 2) == "stop"
    study.tell(trial.number, TrialState.COMPLETED)
    failed = trial_of(study, 0)
    assert (failed.state, failed.reason) == (
        TrialState.FAILED,
        "study.metric='loss' is missing in the report of epoch 2, though earlier reports had it. "
        "Report it each time, or report only the epochs that have it",
    )
    assert (study.fatal, drain(study)) == (None, [1])


def test_a_failed_trial_keeps_its_reason_and_the_study_goes_on(make_study: MakeStudy) -> None:
    study = make_study(num_samples=2)
    trial = ask(study)
    report(study, trial, [0.5])
    study.tell(trial.number, TrialState.FAILED, "ValueError: no")
    assert drain(study) == [1]
    failed = trial_of(study, 0)
    assert (failed.state, failed.reason) == (TrialState.FAILED, "ValueError: no")


def test_a_training_that_ends_itself_early_is_complete_and_says_so(make_study: MakeStudy) -> None:
    study = make_study()
    run_trial(study, [0.5, 0.4])
    trial = trial_of(study, 0)
    assert (trial.state, trial.reason) == (TrialState.COMPLETED, "ended itself after epoch 2")


def test_an_end_told_twice_counts_once(make_study: MakeStudy) -> None:
    study = make_study()
    trial = run_trial(study, [0.5] * 4)
    study.tell(trial.number, TrialState.FAILED, "again")
    assert trial_of(study, 0).state is TrialState.COMPLETED


def test_the_time_budget_starts_no_trial_and_interrupts_running_ones(
    make_study: MakeStudy,
) -> None:
    study = make_study(time_budget_s=1e-9)
    assert study.ask() is None
    study.close()
    study = make_study(name="other", time_budget_s=0.2, epochs=10**9)
    trial = ask(study)
    # It reports until the budget is spent.
    assert report(study, trial, itertools.repeat(0.5)) == "stop"
    study.tell(trial.number, TrialState.COMPLETED)
    assert trial_of(study, 0).state is TrialState.INTERRUPTED


def test_an_epoch_reported_again_by_a_retried_trial_is_not_recorded_twice(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    trial = ask(study)
    report(study, trial, [0.9, 0.8, 0.7])
    assert report(study, trial, [9.9, 9.9, 9.9, 0.6]) == "continue"
    study.tell(trial.number, TrialState.COMPLETED)
    assert losses_of(trial_of(study, 0)) == [0.9, 0.8, 0.7, 0.6]
    assert study.result().cost.epochs == 3 + 4


def test_a_lost_worker_goes_on_from_the_newest_checkpoint(make_study: MakeStudy) -> None:
    study = make_study()
    trial = ask(study)
    assert study.continuation(trial.number) == trial
    report(study, trial, [0.9, 0.8], checkpoints=True)
    going_on = study.continuation(trial.number)
    assert (going_on.number, going_on.epochs) == (trial.number, 2)
    assert going_on.checkpoint == str(Path(trial.directory, "epoch_2"))


def test_a_checkpoint_reported_again_still_holds_the_epochs_it_held(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    trial = ask(study)
    checkpoint = make_checkpoint(trial, 1)
    for epoch in (1, 2, 3):
        study.report(trial.number, {"loss": 0.5}, checkpoint, epoch)
    assert study.continuation(trial.number).epochs == 1
    assert trial_of(study, 0).checkpoint_epochs == 1


# -- resuming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["interrupted", "killed"])
def test_interrupted_trials_go_on_under_their_numbers_from_their_checkpoints(
    make_study: MakeStudy, killed: bool
) -> None:
    study = make_study(num_samples=3, default={"x": 0.5})
    run_trial(study, [0.4] * 4)
    trial = ask(study)
    report(study, trial, [0.9, 0.8], checkpoints=True)
    report(study, ask(study), [0.7])
    abandon(study) if killed else study.close()

    study = make_study(num_samples=3, default={"x": 0.5}, resume=True)
    states = [trial.state for trial in study.result().trials]
    assert states == [TrialState.COMPLETED, TrialState.INTERRUPTED, TrialState.INTERRUPTED]
    first, second = ask(study), ask(study)
    assert (first.number, first.params, first.epochs) == (1, trial.params, 2)
    assert first.checkpoint == str(Path(trial.directory, "epoch_2"))
    assert (second.number, second.checkpoint, second.epochs) == (2, None, 0)
    run_trial(study, [0.7, 0.6], trial=first)
    run_trial(study, [0.3] * 4, trial=second)
    assert study.ask() is None
    result = study.result()
    assert [losses_of(trial) for trial in result.trials] == [
        [0.4] * 4,
        [0.9, 0.8, 0.7, 0.6],
        [0.3] * 4,
    ]
    assert {trial.state for trial in result.trials} == {TrialState.COMPLETED}
    # The epoch that was lost has been paid for all the same.
    assert result.cost.epochs == 4 + 4 + 1 + 4


def test_epochs_after_the_checkpoint_are_replaced_not_doubled(make_study: MakeStudy) -> None:
    study = make_study(num_samples=1)
    trial = ask(study)
    report(study, trial, [0.9, 0.8], checkpoints=True)
    study.report(trial.number, {"validation_loss": 9.9}, None, 3)
    abandon(study)
    study = make_study(num_samples=1, resume=True)
    run_trial(study, [0.7, 0.6])
    assert losses_of(trial_of(study, 0)) == [0.9, 0.8, 0.7, 0.6]


def test_a_trial_whose_checkpoint_is_gone_starts_afresh(make_study: MakeStudy) -> None:
    study = make_study(num_samples=1)
    trial = ask(study)
    report(study, trial, [0.9, 0.8], checkpoints=True)
    study.close()
    shutil.rmtree(trial.directory)
    study = make_study(num_samples=1, resume=True)
    again = ask(study)
    assert (again.number, again.checkpoint, again.epochs) == (0, None, 0)
    run_trial(study, [0.5] * 4, trial=again)
    assert losses_of(trial_of(study, 0)) == [0.5] * 4


def test_a_study_killed_twice_in_a_row_still_runs_each_trial_once(make_study: MakeStudy) -> None:
    study = make_study(num_samples=4, default={"x": 0.5})
    run_trial(study, [0.4] * 4)
    report(study, ask(study), [0.9], checkpoints=True)
    ask(study)
    abandon(study)
    study = make_study(num_samples=4, default={"x": 0.5}, resume=True)
    trial = ask(study)
    assert (trial.number, trial.epochs) == (1, 1)
    report(study, trial, [0.8], checkpoints=True)
    abandon(study)
    study = make_study(num_samples=4, default={"x": 0.5}, resume=True)
    trial = next(t for t in (ask(study), ask(study)) if t.number == 1)
    assert trial.epochs == 2
    report(study, trial, [0.7, 0.6])
    study.close()
    study = make_study(num_samples=4, default={"x": 0.5}, resume=True)
    drain(study)
    result = study.result()
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3]
    assert {trial.state for trial in result.trials} == {TrialState.COMPLETED}
    assert losses_of(result.trials[1])[:2] == [0.9, 0.8]
    assert [trial.epochs for trial in result.trials] == [4, 4, 4, 4]
    assert sum(trial.is_default for trial in result.trials) == 1


def test_a_trial_killed_after_its_last_epoch_is_complete_without_training_again(
    make_study: MakeStudy,
) -> None:
    study = make_study(num_samples=1)
    report(study, ask(study), [0.9, 0.8, 0.7, 0.6], checkpoints=True)
    abandon(study)
    study = make_study(num_samples=1, resume=True)
    trial = ask(study)
    assert trial.epochs == 4
    study.tell(trial.number, TrialState.COMPLETED)
    assert study.fatal is None
    ended = trial_of(study, 0)
    assert (ended.state, losses_of(ended)) == (TrialState.COMPLETED, [0.9, 0.8, 0.7, 0.6])
    assert study.result().best == ended
    abandon(study)
    assert make_study(num_samples=1, resume=True).result().trials == (ended,)


def test_a_grid_resumes_with_the_points_that_are_left(make_study: MakeStudy) -> None:
    study = make_study(space=GRID, algorithm="grid", num_samples=None)
    run_trial(study, [0.5] * 4)
    ask(study)
    abandon(study)
    study = make_study(space=GRID, algorithm="grid", num_samples=None, resume=True)
    assert sorted(drain(study)) == [1, 2, 3, 4, 5]
    assert [trial.params for trial in study.result().trials] == POINTS


def test_a_study_that_is_complete_has_nothing_left_to_resume(make_study: MakeStudy) -> None:
    study = make_study()
    drain(study)
    result = study.close()
    study = make_study(resume=True)
    assert study.finished
    assert study.ask() is None
    assert study.close() == result


def test_a_larger_total_goes_on_with_new_trials(make_study: MakeStudy) -> None:
    study = make_study(num_samples=2)
    drain(study)
    study.close()
    study = make_study(num_samples=4, resume=True)
    assert drain(study) == [2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"space": {"x": {"type": "uniform", "lower": 0, "upper": 0.5}}},
            r"its space was .*'upper': 1.0.* and is now .*'upper': 0.5",
        ),
        ({"metric": "accuracy"}, "its objectives were min loss and are now min accuracy"),
        ({"mode": "max"}, "its objectives were min loss and are now max loss"),
        ({"epochs": 5}, "its epochs were 4 and are now 5"),
    ],
    ids=["space", "metric", "mode", "epochs"],
)
def test_a_changed_study_is_refused_and_can_be_resumed_as_it_was(
    make_study: MakeStudy, change: dict[str, Any], message: str
) -> None:
    study = make_study()
    run_trial(study, [0.5] * 4)
    study.close()
    with pytest.raises(ConfigurationError, match=message):
        make_study(resume=True, **change)
    make_study(resume=True)


def test_a_space_that_json_writes_differently_is_the_same_space(make_study: MakeStudy) -> None:
    space = {"x": {"type": "choice", "categories": ((1, 2), (3, 4))}}
    make_study(space=space).close()
    assert make_study(space=space, resume=True).ask() is not None


def test_an_existing_study_is_refused_without_resume(make_study: MakeStudy) -> None:
    study = make_study()
    run_trial(study, [0.5] * 4)
    study.close()
    with pytest.raises(StudyError, match=r"exists already in .*study\.resume=true.*study\.name"):
        make_study()


@pytest.mark.parametrize("resume", [False, True])
def test_a_study_without_any_report_gives_way_to_a_corrected_one(
    make_study: MakeStudy, resume: bool
) -> None:
    wrong = make_study(metric="acuracy")
    wrong.report(ask(wrong).number, {}, None, 1)
    directory = wrong.close().record.parent
    study = make_study(resume=resume)
    assert drain(study) == [0, 1, 2, 3]
    study.close()
    aside = directory.with_name(f"{directory.name}.empty-1")
    assert load_study(aside).metric == "acuracy"
    assert load_study(directory).metric == "loss"


def test_a_study_without_reports_that_is_the_same_is_continued(make_study: MakeStudy) -> None:
    first = make_study(num_samples=2)
    ask(first)
    directory = first.close().record.parent
    assert drain(make_study(num_samples=2, resume=True)) == [0, 1]
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_resume_without_an_existing_study_starts_one(make_study: MakeStudy) -> None:
    assert drain(make_study(resume=True)) == [0, 1, 2, 3]


# -- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("best", {1}), ("completed", {0, 1, 2}), ("all", {0, 1, 2, 3, 4, 5})],
)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_policy_decides_whose_checkpoints_stay(
    make_study: MakeStudy, keep: str, kept: set[int], mode: str
) -> None:
    sign = 1 if mode == "min" else -1
    study = make_study(keep_checkpoints=keep, mode=mode, num_samples=6, scheduler="asha", epochs=3)
    for losses in ([0.3] * 3, [0.2, 0.2, 0.1], [0.2, 0.2, 0.2]):
        run_trial(study, [sign * loss for loss in losses], checkpoints=True)
    run_trial(study, [sign * 0.9] * 3, checkpoints=True)
    run_trial(study, [sign * 0.1, float("nan")], checkpoints=True)
    trial = ask(study)
    report(study, trial, [sign * 0.1], checkpoints=True)
    study.tell(trial.number, TrialState.FAILED, "ValueError")
    states = [trial.state.value for trial in study.result().trials]
    assert states == ["completed"] * 3 + ["stopped", "diverged", "failed"]
    assert {t.number for t in study.result().trials if t.checkpoint is not None} == kept


@pytest.mark.parametrize("keep", ["best", "completed", "all"])
def test_an_interrupted_trial_keeps_its_checkpoint_whatever_the_policy(
    make_study: MakeStudy, keep: str
) -> None:
    study = make_study(keep_checkpoints=keep)
    run_trial(study, [0.1] * 4, checkpoints=True)
    report(study, ask(study), [0.9], checkpoints=True)
    (_, interrupted) = study.close().trials
    assert interrupted.checkpoint is not None


def test_the_best_checkpoint_is_still_the_best_after_resuming(make_study: MakeStudy) -> None:
    study = make_study()
    run_trial(study, [0.2] * 4, checkpoints=True)
    study.close()
    study = make_study(resume=True)
    run_trial(study, [0.3] * 4, checkpoints=True)
    run_trial(study, [0.1] * 4, checkpoints=True)
    kept = [trial.number for trial in study.result().trials if trial.checkpoint is not None]
    assert kept == [2]


def test_a_continued_trial_that_ends_before_its_next_checkpoint_loses_the_old_one(
    make_study: MakeStudy,
) -> None:
    study = make_study(num_samples=1)
    trial = ask(study)
    report(study, trial, [0.9], checkpoints=True)
    study.close()
    study = make_study(num_samples=1, resume=True)
    run_trial(study, [float("nan")])
    assert not Path(trial.directory, "epoch_1").exists()


# -- results -----------------------------------------------------------------------------------


def test_the_best_trial_is_a_completed_one_even_if_a_stopped_one_was_better(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    run_trial(study, [0.5] * 4)
    trial = ask(study)
    report(study, trial, [0.1])
    study.stop(trial.number)
    study.tell(trial.number, TrialState.COMPLETED)
    run_trial(study, [0.4] * 4)
    best = study.result().best
    assert best is not None
    assert best.number == 2


@pytest.mark.parametrize(("mode", "number"), [("min", 1), ("max", 2)])
def test_the_best_trial_is_judged_by_its_last_epoch(
    make_study: MakeStudy, mode: str, number: int
) -> None:
    study = make_study(mode=mode)
    run_trial(study, [0.0, 9.0, 0.0, 0.5])
    run_trial(study, [0.5, 0.5, 0.5, 0.2])
    run_trial(study, [0.5, 0.5, 0.5, 0.8])
    best = study.result().best
    assert best is not None
    assert best.number == number


def test_of_equals_the_first_is_the_best(make_study: MakeStudy) -> None:
    study = make_study()
    run_trial(study, [0.5] * 4)
    run_trial(study, [0.5] * 4)
    best = study.result().best
    assert best is not None
    assert best.number == 0


def test_loss_means_validation_loss_unless_a_loss_is_reported(make_study: MakeStudy) -> None:
    study = make_study(metric="loss", epochs=1)
    for metrics in ({"validation_loss": 0.5}, {"validation_loss": 0.1, "loss": 0.7}):
        trial = ask(study)
        study.report(trial.number, metrics, None, 1)
        study.tell(trial.number, TrialState.COMPLETED)
    values = [trial.metric("loss") for trial in study.result().trials]
    assert values == [0.5, 0.7]
    assert trial_of(study, 1).metric("accuracy") is None
    best = study.result().best
    assert best is not None
    assert best.number == 0


@pytest.mark.parametrize(("default_first", "epochs"), [(True, 4), ("stop_early", 2)])
def test_the_default_trains_to_the_end_as_the_measure(
    make_study: MakeStudy, default_first: bool | str, epochs: int
) -> None:
    study = make_study(scheduler="asha", default={"x": 0.5}, default_first=default_first)
    default, good = ask(study), ask(study)
    run_trial(study, [0.1] * 4, trial=good)
    run_trial(study, [0.9] * 4, trial=default)
    run_trial(study, [0.9] * 4)  # as poor, and not the default
    assert [trial.epochs for trial in study.result().trials] == [epochs, 4, 2]


def test_whole_numbers_that_may_be_none_stay_whole_in_a_table(make_study: MakeStudy) -> None:
    odd = 2**60 + 1  # no float is this number
    points = [{"depth": 16}, {"depth": odd}, {"depth": None}]
    space = {"depth": {"type": "choice", "categories": [16, odd, None]}}
    study = make_study(space, points=points, num_samples=3)
    for _ in points:
        run_trial(study, [0.5] * 4)
    result = study.close()
    assert result.dataframe()["params.depth"].tolist()[:2] == [16, odd]
    rows = csv_text(result).splitlines()
    assert [row.split(",")[3] for row in rows[1:]] == ["16", str(odd), ""]


def test_the_dataframe_has_one_row_per_trial(make_study: MakeStudy) -> None:
    study = make_study(scheduler="asha", default={"x": 0.5})
    run_trial(study, [0.1] * 4)
    run_trial(study, [0.9] * 4)
    frame = study.result().dataframe()
    assert list(frame["number"]) == [0, 1]
    assert list(frame["state"]) == ["completed", "stopped"]
    assert list(frame["epochs"]) == [4, 2]
    assert frame["params.x"][0] == 0.5
    assert list(frame["metrics.validation_loss"]) == [0.1, 0.9]
    assert list(frame["reason"]) == ["trained to the last epoch", "asha after epoch 2"]


def test_integers_that_not_all_trials_have_stay_integers_in_a_table(make_study: MakeStudy) -> None:
    space = {
        "kind": {"type": "choice", "categories": ["plain", "deep"]},
        "layers": {"type": "randint", "lower": 2, "upper": 9, "only_if": {"kind": ["deep"]}},
    }
    points = [{"kind": "plain"}, {"kind": "deep", "layers": 7}]
    study = make_study(space=space, points=points, num_samples=2)
    drain(study)
    result = study.result()
    assert list(result.dataframe()["params.layers"].dropna()) == [7]
    assert str(result.dataframe()["params.layers"].dtype) == "Int64"
    head, _, row = (line.split(",") for line in csv_text(result).splitlines())
    assert row[head.index("params.layers")] == "7"


def test_a_truth_value_that_not_all_trials_have_is_one_in_a_parquet_file(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    space = {
        "act": {"type": "choice", "categories": ["relu", "gelu"]},
        "inplace": {"type": "bool", "only_if": {"act": ["relu"]}},
    }
    study = make_study(space=space, epochs=1, algorithm="grid", num_samples=None)
    drain(study)
    table = pd.read_parquet(export_study(study.close(), "parquet", tmp_path / "trials.parquet"))
    assert table["params.inplace"].tolist() == [False, True, None]


def test_that_a_trials_process_had_to_start_is_no_time_of_its_training(
    make_study: MakeStudy,
) -> None:
    study = make_study(num_samples=1)
    trial = ask(study)
    study.note_training(trial.number, 1000.0)
    study.report(trial.number, {"validation_loss": 0.1}, None, epoch=1)
    study.note_training(trial.number, 9.0)  # of another process, after that one was lost
    study.report(trial.number, {"validation_loss": 0.1}, None, epoch=2)
    study.tell(trial.number, TrialState.COMPLETED)
    first, second = study.close().trials[0].seconds
    assert 1000 <= first <= second


def test_the_cost_counts_epochs_run_and_epochs_saved_by_stopping(make_study: MakeStudy) -> None:
    study = make_study(scheduler="asha")
    run_trial(study, [0.1] * 4)
    run_trial(study, [0.9] * 4)  # stopped after 2 of 4
    run_trial(study, [float("nan")])  # would not have gone on anyway
    cost = study.result().cost
    assert (cost.epochs, cost.full_epochs) == (4 + 2 + 1, 4 + 4 + 1)
    assert cost.seconds > 0


def test_load_study_gives_the_result_of_the_study(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(scheduler="asha", default={"x": 3.0}, num_samples=5)
    run_trial(study, [0.1] * 4, checkpoints=True)
    run_trial(study, [0.9] * 4, checkpoints=True)
    report(study, ask(study), [0.2], checkpoints=True)
    result = study.close()
    assert load_study(study.directory) == result
    assert load_study(str(study.directory / "record.log")) == result
    monkeypatch.chdir(study.directory.parent)
    assert load_study("study") == result


def test_a_listener_hears_every_change(make_study: MakeStudy) -> None:
    heard: list[tuple[int, int, TrialState]] = []
    base = make_study(name="base")
    base.close()
    study = Study(
        base.configuration.model_copy(update={"name": "heard"}),
        base.space,
        base.algorithm,
        base.scheduler,
        epochs=2,
        listener=lambda trial, state: heard.append((trial.assignment.number, trial.epochs, state)),
    )
    run_trial(study, [0.5, 0.4])
    study.close()
    running = TrialState.RUNNING
    assert heard == [
        (0, 0, running),
        (0, 1, running),
        (0, 2, running),
        (0, 2, TrialState.COMPLETED),
    ]


@pytest.mark.parametrize(
    "form",
    [
        {"api_token": {"type": "constant", "value": "open-sesame"}},
        {"api_token": "open-sesame"},
        {"hub": {"password": {"type": "choice", "categories": ["open-sesame", "other"]}}},
        {"note": {"type": "constant", "value": "from-the-environment"}},
        {"note": {"type": "constant", "value": {"headers": ["is from-the-environment"]}}},
        {"hub": {"type": "choice", "categories": [{"api_key": "open-sesame"}, {}]}},
    ],
)
def test_a_secret_is_no_hyper_parameter(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: dict[str, Any]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    with pytest.raises(ConfigurationError, match=r"search_space\.\S+: looks like a secret") as told:
        make_study(space={**form, "x": {"type": "uniform", "lower": 0, "upper": 1}})
    assert "sesame" not in str(told.value)
    assert not [*tmp_path.iterdir()]


def test_a_word_is_no_secret_and_a_study_that_goes_on_has_its_own(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"pad_token": "a-padding", "tokens": 3, "x": {"type": "bool"}}
    study = make_study(space=space)
    assert run_trial(study, [0.1]).params["pad_token"] == "a-padding"
    study.close()
    monkeypatch.setenv("MY_SECRET", "a-padding")
    assert len(make_study(space=space, resume=True).result().trials) == 1
