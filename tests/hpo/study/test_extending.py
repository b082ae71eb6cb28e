"""Studies that grow: totals, wider ranges, another study's trials, several runs of one budget."""

from __future__ import annotations

import itertools
import logging
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from hand_driven import MakeStudy, ask, report, run_trial, simulate
from optuna.samplers import BruteForceSampler

from itwinai.errors import ConfigurationError
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import STOP_FILE, StudyResult, load_study, state_of
from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialState

X = {"x": {"type": "uniform", "lower": 0, "upper": 1}}
WIDER = {"x": {"type": "uniform", "lower": 0, "upper": 2}}


def quadratic(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    return {"loss": (params["x"] - 0.3) ** 2 + 1 / epoch, "size": params["x"]}


# -- totals ------------------------------------------------------------------------------------


def test_num_samples_is_a_total_over_all_runs(make_study: MakeStudy) -> None:
    simulate(make_study(num_samples=3), quadratic)
    result = simulate(make_study(num_samples=5, resume=True), quadratic)
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3, 4]
    assert {trial.state for trial in result.trials} == {TrialState.COMPLETED}


def test_a_time_budget_is_a_total_over_all_runs(make_study: MakeStudy) -> None:
    study = make_study(time_budget_s=0.2, epochs=10**9)
    assert report(study, ask(study), itertools.repeat(0.5)) == "stop"
    assert study.close().trials[0].reason == "the study's time budget ended"
    # The first run has spent more than half of it.
    study = make_study(time_budget_s=0.1, epochs=10**9, resume=True)
    assert study.finished
    assert study.ask() is None
    study.close()
    assert ask(make_study(time_budget_s=60, epochs=10**9, resume=True)).number == 0


def test_ranges_of_numbers_may_become_wider(make_study: MakeStudy) -> None:
    simulate(make_study(space=X, num_samples=3), quadratic)
    result = simulate(make_study(space=WIDER, num_samples=23, resume=True), quadratic)
    assert len(result.trials) == 23
    assert all(trial.params["x"] <= 1 for trial in result.trials[:3])
    assert max(trial.params["x"] for trial in result.trials[3:]) > 1
    # The record knows the wider space now: the narrower one is refused.
    with pytest.raises(ConfigurationError, match="its space was"):
        make_study(space=X, num_samples=30, resume=True)


STEPS = {"type": "int", "lower": 10, "upper": 30, "step": 4}
LOG_STEPS = {"type": "int", "lower": 16, "upper": 64, "step": 8, "log": True}
REAL_STEPS = {"type": "quniform", "lower": 0.3, "upper": 1.2, "q": 0.3}


@pytest.mark.parametrize(
    ("narrow", "between", "wider"),
    [(STEPS, 9, 6), (LOG_STEPS, 8, 16), (REAL_STEPS, 0.15, -0.3)],
)
def test_a_range_in_steps_becomes_wider_by_steps_that_leave_the_values_of_trials(
    make_study: MakeStudy, narrow: dict[str, Any], between: float, wider: float
) -> None:
    def space(lower: float) -> dict[str, Any]:
        return {"x": {**narrow, "lower": lower, "upper": 10 * narrow["upper"]}}

    before = simulate(make_study(space={"x": narrow}, num_samples=12), quadratic)
    with pytest.raises(ConfigurationError, match="its space was"):
        make_study(space=space(between), num_samples=12, resume=True)
    after = make_study(space=space(wider), num_samples=12, resume=True).result()
    assert [t.params for t in after.trials] == [t.params for t in before.trials]


def test_what_was_recommended_stands_until_another_trial_is_complete(
    make_study: MakeStudy,
) -> None:
    study = make_study(algorithm="mfgp", epochs=2)
    for loss in (0.9, 0.8, 0.7, 0.6):
        run_trial(study, [loss] * 2)
    assert study.close().recommended is not None
    again = make_study(algorithm="mfgp", epochs=2, resume=True)
    assert again.result().recommended == study.result().recommended
    again.close()
    study = make_study(algorithm="mfgp", epochs=2, num_samples=6, resume=True)
    better = run_trial(study, [0.1] * 2)
    result = load_study(study.directory)
    assert (result.recommended, result.best) == (None, result.trials[better.number])
    study.close()
    study = make_study(algorithm="random", epochs=2, num_samples=6, resume=True)
    best = run_trial(study, [0.01] * 2, checkpoints=True)
    result = study.close()
    assert (result.recommended, result.best) == (None, result.trials[best.number])
    assert result.trials[best.number].checkpoint is not None


# -- warm start --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["auto", "tpe"])
def test_a_warm_start_learns_from_the_trials_that_lie_in_the_space(
    make_study: MakeStudy, algorithm: str
) -> None:
    source = simulate(make_study(space=WIDER, num_samples=40, name="source"), quadratic)
    study = make_study(space=X, num_samples=5, warm_start=source.record.parent, algorithm=algorithm)
    proposals = [run_trial(study, [0.5] * 4).params["x"] for _ in range(5)]
    # Without the other study's trials the first proposals would be spread over all of the range.
    assert sum(abs(x - 0.3) < 0.25 for x in proposals) >= 3
    result = study.close()
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3, 4]
    assert result.cost.epochs == 20


def test_a_warm_start_is_still_known_after_a_resume(make_study: MakeStudy) -> None:
    source = simulate(make_study(num_samples=40, name="source"), quadratic)
    settings: dict[str, Any] = {"warm_start": source.record.parent, "algorithm": "auto"}
    make_study(num_samples=1, **settings).close()
    study = make_study(num_samples=4, resume=True, **settings)
    proposals = [ask(study).params["x"] for _ in range(4)]
    assert sum(abs(x - 0.3) < 0.25 for x in proposals) >= 3


def test_a_warm_start_that_was_cut_off_is_completed(make_study: MakeStudy) -> None:
    source = simulate(make_study(num_samples=6, name="source"), quadratic)
    study = make_study(warm_start=source.record.parent)
    record = study.directory / "record.log"
    study.close()
    lines = record.read_text().splitlines(keepends=True)
    cut = [index for index, line in enumerate(lines) if '"taught"' in line][3]
    record.write_text("".join(lines[:cut]))
    study = make_study(warm_start=source.record.parent, resume=True)
    assert ask(study).number == 0
    study.close()
    assert record.read_text().count('"taught"') == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "size"}, "that study's objectives are min loss; only trials with the same"),
        (
            {"space": {"x": {"type": "uniform", "lower": 5, "upper": 6}}},
            "none of its 3 trials was completed and lies in this search space",
        ),
        (
            # Of what its trials had here nobody has told: not None either.
            {"space": {**X, "clip": {"type": "choice", "categories": [None, 1.0]}}},
            "none of its 3 trials was completed and lies in this search space",
        ),
    ],
    ids=["metric", "space", "unknown"],
)
def test_a_study_that_cannot_be_learnt_from_is_refused(
    make_study: MakeStudy, change: dict[str, Any], message: str
) -> None:
    source = simulate(make_study(num_samples=3, name="source"), quadratic)
    with pytest.raises(ConfigurationError, match=message):
        make_study(warm_start=source.record.parent, **change)


def test_a_warm_start_from_nothing_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such record"):
        make_study(warm_start=tmp_path / "nowhere")


def test_other_epochs_are_a_warning(
    make_study: MakeStudy, caplog: pytest.LogCaptureFixture
) -> None:
    source = simulate(make_study(num_samples=3, epochs=8, name="source"), quadratic)
    with caplog.at_level(logging.WARNING):
        make_study(warm_start=source.record.parent)
    assert "trained for 8 epochs, those of this study train for 4" in caplog.text


# -- ending early ------------------------------------------------------------------------------


def test_a_request_to_stop_interrupts_and_can_be_resumed(make_study: MakeStudy) -> None:
    study = make_study(epochs=10**9)
    trial = ask(study)
    (study.directory / STOP_FILE).touch()
    assert report(study, trial, itertools.repeat(0.5)) == "stop"
    assert study.close().trials[0].reason == "the study was asked to stop"
    assert study.interrupted
    study = make_study(epochs=10**9, resume=True)
    assert not study.finished
    assert ask(study).number == 0


def test_a_study_is_not_over_as_long_as_a_resume_would_run_a_trial(make_study: MakeStudy) -> None:
    study = make_study(num_samples=2)
    study.tell(ask(study).number, TrialState.LOST, "its worker was lost")
    run_trial(study, [0.5] * 4)
    result = study.close()
    assert state_of(result) == "interrupted"
    result = simulate(make_study(num_samples=2, resume=True), quadratic)
    assert state_of(result) == "finished"
    assert {trial.state for trial in result.trials} == {TrialState.COMPLETED}


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
def test_a_study_whose_sampler_has_run_out_is_over(make_study: MakeStudy) -> None:
    space = {"x": {"type": "choice", "categories": [0.1, 0.2, 0.3]}}
    study = make_study(space, algorithm=BruteForceSampler(seed=1), num_samples=6)
    result = simulate(study, quadratic, slots=1)
    assert (len(result.trials), result.total, state_of(result)) == (3, 3, "finished")
    assert repr(result).startswith("<study 'study': 3 of 3 trials (3 completed)")


@pytest.mark.parametrize("way", ["deleted", "moved", "replaced"])
def test_a_record_that_vanishes_stops_its_study_which_keeps_what_it_knew(
    make_study: MakeStudy, way: str
) -> None:
    study = make_study(epochs=10**9)
    study.tell(ask(study).number, TrialState.FAILED, "KeyError: 'x'")
    trial = ask(study)
    record = study.directory / "record.log"
    if way == "deleted":
        shutil.rmtree(study.directory)
    elif way == "moved":
        record.rename(record.with_name("another.log"))
    else:
        shutil.copy(record, record.with_name("copy"))
        record.with_name("copy").replace(record)
        before = record.read_bytes()
    assert report(study, trial, itertools.repeat(0.5)) == "stop"
    assert isinstance(study.fatal, StudyError)
    assert f"{record}: the record was deleted, moved or replaced" in str(study.fatal)
    result = study.close()
    if way == "replaced":  # another driver may be writing it
        assert record.read_bytes() == before
        return
    known = load_study(study.directory)
    assert known.trials == result.trials
    assert [t.state for t in known.trials] == [TrialState.FAILED, TrialState.INTERRUPTED]
    assert ask(make_study(epochs=10**9, resume=True)).number == 1


def test_a_paused_trial_that_has_no_more_to_train_is_complete(make_study: MakeStudy) -> None:
    study = make_study(epochs=9, num_samples=6, scheduler={"name": "pasha", "grace_period": 1})
    resumed = None
    while resumed is None:
        trial = ask(study)
        if trial.checkpoint is None:
            run_trial(study, [0.1 * (trial.number + 1)] * 9, checkpoints=True, trial=trial)
        else:
            resumed = trial  # its own early stopping ends it at once
    study.tell(resumed.number, TrialState.COMPLETED)
    assert study.fatal is None
    ended = study.result().trials[resumed.number]
    assert (ended.state, ended.epochs) == (TrialState.COMPLETED, resumed.epochs)


def test_failures_of_the_same_kind_end_the_study(make_study: MakeStudy) -> None:
    study = make_study(num_samples=9, fail_fast=2)
    for message in ("ValueError: one", "ValueError: two"):
        study.tell(ask(study).number, TrialState.FAILED, message)
    assert study.finished
    assert "the first 2 trials all failed" in str(study.fatal)
    assert "ValueError: one" in str(study.fatal)


def test_failures_of_different_kinds_do_not(make_study: MakeStudy) -> None:
    study = make_study(num_samples=9, fail_fast=2)
    for state, message in (
        (TrialState.FAILED, "ValueError: one"),
        (TrialState.OUT_OF_MEMORY, "OutOfMemoryError: no"),
        (TrialState.OUT_OF_MEMORY, "OutOfMemoryError: no"),
    ):
        study.tell(ask(study).number, state, message)
    assert not study.finished


# -- several objectives ------------------------------------------------------------------------

TWO: dict[str, Any] = {"metric": ["loss", "size"], "mode": ["min", "max"]}


def test_several_objectives_have_a_front_and_a_best_by_the_primary(make_study: MakeStudy) -> None:
    result = simulate(make_study(**TWO, num_samples=12), quadratic)
    values = [(trial.metrics["loss"], trial.metrics["size"]) for trial in result.front]
    assert values == sorted(values)
    assert len(values) > 1
    # Along the front what one objective gains the other loses.
    assert [size for _, size in values] == sorted(size for _, size in values)
    assert result.best == result.front[0]
    primary = simulate(make_study(**TWO, primary="size", name="other", num_samples=12), quadratic)
    assert primary.best is not None
    assert primary.best.params["x"] == max(trial.params["x"] for trial in primary.trials)


def test_of_trials_that_the_primary_metric_calls_equal_the_best_is_on_the_front(
    make_study: MakeStudy,
) -> None:
    study = make_study(**TWO, num_samples=4)
    for loss, size in ((0.5, 1.0), (0.5, 3.0), (0.5, 2.0), (0.6, 0.5)):
        trial = ask(study)
        study.report(trial.number, {"loss": loss, "size": size}, None, 4)
        study.tell(trial.number, TrialState.COMPLETED)
    result = study.close()
    assert [trial.number for trial in result.front] == [1]
    assert result.best == result.trials[1]
    assert result.why_best == "one of 3 with the lowest of 4 completed"


def test_what_is_no_number_is_not_the_best(make_study: MakeStudy) -> None:
    study = make_study()
    for loss in (math.nan, 0.5):  # the driver dies before the first trial's end
        study.report(ask(study).number, {"loss": loss}, None, 1)
    result = study.result()
    assert result.trials[0].state is TrialState.RUNNING
    assert result.best == result.trials[1]


def test_plain_optuna_finds_the_same_front(make_study: MakeStudy) -> None:
    result = simulate(make_study(**TWO, num_samples=12), quadratic)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(result.record))
    )
    plain = optuna.load_study(study_name="study", storage=storage)
    assert {t.params["x"] for t in plain.best_trials} == {t.params["x"] for t in result.front}


def test_a_missing_second_objective_ends_the_study(make_study: MakeStudy) -> None:
    study = make_study(metric=["loss", "sise"], mode=["min", "min"])
    trial = ask(study)
    assert study.report(trial.number, {"loss": 1.0, "size": 1.0}, None, 1) == "stop"
    assert "study.metric='sise' was never reported; did you mean 'size'?" in str(study.fatal)


def test_a_second_objective_that_is_not_finite_means_diverged(make_study: MakeStudy) -> None:
    study = make_study(**TWO)
    trial = ask(study)
    metrics = {"loss": 1.0, "size": float("nan")}
    assert study.report(trial.number, metrics, None, 1) == "stop"
    study.tell(trial.number, TrialState.COMPLETED)
    assert study.result().trials[0].state is TrialState.DIVERGED


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "min"}, "there are 2 metrics (loss, size) and 1 modes; give one mode for each"),
        ({"metric": ["loss", "loss"]}, "metric names one metric twice"),
        ({"primary": "los"}, "primary='los' is not among the metrics: loss, size"),
        ({"algorithm": "cmaes"}, "nearest that takes several is algorithm: nsga2"),
        ({"scheduler": {"name": "pasha"}}, "nearest that takes several is scheduler: asha, or"),
    ],
    ids=str,
)
def test_objectives_that_cannot_work_are_refused(
    make_study: MakeStudy, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_study(**TWO | settings)
    assert message in str(caught.value)


# -- checkpoints -------------------------------------------------------------------------------


def test_only_the_recommended_trials_checkpoint_stays(make_study: MakeStudy) -> None:
    study = make_study(num_samples=10, algorithm="auto", epochs=2)
    for index in range(10):
        run_trial(study, [1.0, 1.0 / (index + 1)], checkpoints=True)
    result = study.close()
    assert result.best is not None
    assert result.best.number == result.recommended
    assert result.best.checkpoint is not None
    kept = [t.number for t in load_study(result.record).trials if t.checkpoint is not None]
    assert kept == [result.best.number]


def test_what_an_extended_study_recommends_has_a_checkpoint(make_study: MakeStudy) -> None:
    """Its first run has deleted those of the trials that the model prefers by now."""

    def run(study: Study, x: float, losses: Iterable[float]) -> StudyResult:
        for loss in losses:
            trial = study.ask({"x": x})
            run_trial(study, [1.0, loss], checkpoints=True, trial=trial)
        return study.result()

    study = make_study(num_samples=7, algorithm="mfgp", epochs=2)
    run(study, 0.3, [0.3] * 6)
    run(study, 0.9, [0.1])
    assert study.close().recommended == 6
    study = make_study(num_samples=13, algorithm="mfgp", epochs=2, resume=True)
    run(study, 0.9, [0.8] * 6)
    best = study.close().best
    assert best is not None
    assert best.checkpoint is not None


def test_of_equally_good_trials_the_bests_checkpoint_stays(make_study: MakeStudy) -> None:
    study = make_study(num_samples=3, epochs=1)
    first, second, third = (ask(study) for _ in range(3))
    for trial in (second, first, third):  # they do not end in the order of their numbers
        run_trial(study, [0.5], checkpoints=True, trial=trial)
    result = study.close()
    assert result.best is not None
    assert result.best.number == first.number
    assert [t.number for t in result.trials if t.checkpoint is not None] == [first.number]
