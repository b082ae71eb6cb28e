"""Choosing trials to show, and estimating the time left."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from itwinai.hpo.display import Snapshot, number
from itwinai.hpo.display.summary import duration
from itwinai.hpo.display.view import counts, ended_line, live_table, outlook, seconds_left, visible
from itwinai.hpo.insight.forecast import forecast
from itwinai.hpo.objectives import Objective
from itwinai.hpo.record import Cost, Setup, StudyResult
from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.trial import TrialResult, TrialState


def moment(*trials: tuple[TrialState, int], **facts: Any) -> Snapshot:
    """A study of 10 trials, those given with so many epochs of 10."""
    results = tuple(
        TrialResult(number, state, {}, ({"accuracy": 0.5},) * epochs)
        for number, (state, epochs) in enumerate(trials)
    )
    result = StudyResult("study", OBJECTIVES, 10, results, Path("record.log"), NO_COST)
    return Snapshot(result, total=10, **facts)


OBJECTIVES = (Objective("accuracy", "max"),)
NO_COST = Cost(epochs=0, seconds=0.0, full_epochs=0, elapsed=0.0)
DONE = ((TrialState.COMPLETED, 10), (TrialState.STOPPED, 2))
RUNNING = ((TrialState.RUNNING, 3), (TrialState.RUNNING, 8))


def test_running_trials_come_first_and_the_newest_ended_fill_up() -> None:
    trials = [
        TrialResult(number, TrialState.STOPPED, {}, ({"accuracy": 0.1},)) for number in (5, 3, 4)
    ]
    trials.append(TrialResult(1, TrialState.RUNNING, {}))
    result = replace(moment().result, trials=tuple(trials))
    assert [trial.number for trial in visible(result, 1)] == [1]
    assert [trial.number for trial in visible(result, 3)] == [1, 3, 4]


def test_a_tiny_terminal_still_shows_the_status() -> None:
    console = Console(file=io.StringIO(), width=30)
    console.print(live_table(moment(*DONE, *RUNNING), height=5))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert " ... 3 more" in lines
    assert " 2/10 trials done, 2 running,…" in lines
    assert all(len(line) <= 30 for line in lines)


def test_the_estimate_goes_by_how_far_trials_come_and_the_pace() -> None:
    # One in 4 has ended after epoch 2, so with one trial more 4 in 5 go on: a new trial trains
    # 2 + 8 * 0.8 epochs. 6 trials wait, one lacks 7, one 2, for they are past that; 2 s an epoch.
    now = moment(*DONE, *RUNNING, epochs=24, heard=46.0)
    assert seconds_left(now) == pytest.approx((6 * 8.4 + 7 + 2) * 2.0)
    assert outlook(now).endswith(", 0 s, about 119 s left")


def test_the_estimate_is_none_until_the_pace_is_known() -> None:
    now = moment(*RUNNING, epochs=11, heard=20.0)
    assert seconds_left(now) == pytest.approx((8 * 10 + 7 + 2) * 2.0)
    assert seconds_left(replace(now, epochs=1)) is None
    assert outlook(replace(now, epochs=1)).endswith("time left -")


def test_the_estimate_of_a_study_with_rungs_begins_with_what_is_expected_of_them() -> None:
    now = moment(*RUNNING, epochs=11, heard=20.0)
    setup = Setup("random", "asha", Rungs((Bracket((2,), 1 / 3),)))
    expected = forecast(setup, 10, 10).epochs
    assert expected is not None
    begins = replace(now, result=replace(now.result, trials=(), setup=setup))
    # Nothing is known but the plan.
    assert seconds_left(begins) == pytest.approx(expected.expected * 2.0)


def test_audited_trials_train_to_the_end_and_tell_where_others_would_be_stopped() -> None:
    now = moment(*RUNNING, epochs=11, heard=20.0)
    audited = [replace(trial, is_audited=True) for trial in now.result.trials]
    audited[0] = replace(audited[0], spared=2)
    setup = Setup("random", "threshold", audit=3)
    result = replace(now.result, trials=tuple(audited), setup=setup)
    # 7 and 2 epochs are left of the two, and 10 of the third one. Of the two and one trial more
    # one would have ended after epoch 2, so another trial trains 2 + 8 * 2 / 3 epochs.
    left = 7 + 2 + 10 + 7 * (2 + 8 * 2 / 3)
    assert seconds_left(replace(now, result=result)) == pytest.approx(left * 2.0)


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    now = moment(*DONE, (TrialState.INTERRUPTED, 7), epochs=12, heard=22.0)
    again = seconds_left(now)
    *others, interrupted = now.result.trials
    saved = replace(interrupted, checkpoint=tmp_path, checkpoint_epochs=7)
    kept = replace(now, result=replace(now.result, trials=(*others, saved)))
    # One in 3 has ended after epoch 2: anew it would train 2 + 8 * 3 / 4 epochs, instead of 3.
    assert again == pytest.approx((7 * 8 + 1 * 8) * 2.0)
    assert seconds_left(kept) == pytest.approx((7 * 8 + 3) * 2.0)


def test_the_estimate_ends_with_the_time_budget() -> None:
    now = moment(*DONE, *RUNNING, epochs=24, heard=46.0, elapsed=50.0, budget=60.0)
    assert seconds_left(now) == 10.0
    assert seconds_left(replace(now, elapsed=70.0)) == 0.0


def test_a_paused_trial_has_its_epochs_done() -> None:
    now = moment(*DONE, (TrialState.PAUSED, 4), epochs=16, heard=30.0)
    # One in 3 has ended after epoch 2: 7 trials wait, one lacks 6; 2 s an epoch.
    assert seconds_left(now) == pytest.approx((7 * 8 + 6) * 2.0)
    assert counts(now) == "2/10 trials done, 0 running, 1 stopped early, 1 paused"


def test_several_objectives_are_shown_side_by_side() -> None:
    values = [{"accuracy": 0.5, "latency": 3.0}, {"accuracy": 0.75, "latency": 12.5}]
    trials = tuple(
        TrialResult(number, TrialState.COMPLETED, {}, (metrics,) * 10)
        for number, metrics in enumerate(values)
    )
    both = (*OBJECTIVES, Objective("latency", "min"))
    now = replace(moment(), result=replace(moment().result, objectives=both, trials=trials))
    console = Console(file=io.StringIO(), width=80)
    console.print(live_table(now, height=20))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["trial", "state", "epoch", "curve", "accuracy", "latency"]
    assert lines[3].split() == ["1", "completed", "10/10", "█" * 10, "0.75", "12.5"]
    assert "2 trials on the front" in ended_line(now, trials[1])
    assert "accuracy=0.75 latency=12.5" in ended_line(now, trials[1])


def test_no_time_is_left_at_the_end() -> None:
    now = moment(*[(TrialState.COMPLETED, 10)] * 10, epochs=100, heard=99.0, elapsed=100.0)
    assert outlook(now) == (
        "best 0.5 (trial 0), the first of 10 with the highest of 10 completed, 100 s"
    )


@pytest.mark.parametrize(
    ("recommended", "accuracies", "number", "why"),
    [
        (None, (0.5, 0.7, 0.6), 1, "the highest of 3 completed"),
        (1, (0.5, 0.7, 0.6), 1, "the highest of 3 completed"),
        (2, (0.5, 0.7, 0.6), 2, "by the model's mean; the highest is 0.7, of trial 1"),
        (None, (0.5, 0.7, 0.7), 1, "the first of 2 with the highest of 3 completed"),
        (2, (0.5, 0.7, 0.7), 2, "by the model's mean, one of 2 with the highest of 3 completed"),
        (None, (0.5,), 0, "the only one completed"),
    ],
)
def test_why_a_trial_is_called_best(
    recommended: int | None, accuracies: tuple[float, ...], number: int, why: str
) -> None:
    trials = tuple(
        TrialResult(i, TrialState.COMPLETED, {}, ({"accuracy": accuracy},) * 10)
        for i, accuracy in enumerate(accuracies)
    )
    result = replace(moment().result, trials=trials, recommended=recommended)
    assert (result.best and result.best.number, result.why_best) == (number, why)


def test_without_a_completed_trial_the_furthest_is_best() -> None:
    result = moment((TrialState.STOPPED, 2), (TrialState.STOPPED, 4)).result
    assert result.why_best == "it came furthest; no trial trained to the end"
    assert moment().result.why_best == ""
    assert repr(result).splitlines() == [
        "<study 'study': 2 of 0 trials (2 stopped)",
        "  best: trial 1, {'accuracy': 0.5}",
        "  record: record.log>",
    ]
    assert outlook(moment(elapsed=3.0, over=True)) == "best -, 3 s"


def test_until_anything_is_heard_the_slots_start() -> None:
    assert (
        outlook(moment((TrialState.RUNNING, 0), slots=8, elapsed=3.0)) == "starting 8 slots ... 3 s"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0.123456, "0.1235"), (0.5, "0.5"), (2.0, "2"), (12.0, "12"), (1.5e-7, "1.5e-07")],
        *[(0.99996, "0.99996"), (99.996, "99.996"), (-1000.96, "-1000.96"), (15234.7, "15234.7")],
        *[(1.000001e12, "1.000001e+12"), (2 + 1e-12, "2"), (float("nan"), "nan"), (7, "7")],
    ],
)
def test_a_number_reads_as_a_whole_one_only_where_it_is_one(value: float, text: str) -> None:
    assert number(value) == text


def test_a_long_number_is_not_cut_off() -> None:
    trial = TrialResult(0, TrialState.COMPLETED, {}, ({"accuracy": -1.2345678e15},))
    result = replace(moment().result, trials=(trial,))
    console = Console(file=io.StringIO(), width=80)
    console.print(live_table(Snapshot(result, total=1), height=20))
    assert isinstance(console.file, io.StringIO)
    assert "-1.2345678e+15" in console.file.getvalue()


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, itwinai.hpo.display.progress; "
        "sys.exit(' '.join({'ray', 'torch', 'pandas'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_parts_of_epochs_are_shown_and_count_in_the_estimate() -> None:
    reports = ({"accuracy": 0.5},) * 2
    trials = (
        TrialResult(0, TrialState.COMPLETED, {}, reports, at=(0.5, 1)),
        TrialResult(1, TrialState.STOPPED, {}, reports, at=(0.125, 0.25)),
        TrialResult(2, TrialState.RUNNING, {}, reports[:1], at=(0.75,)),
    )
    now = replace(moment(epochs=2, first=0.2, heard=18.0), total=3)
    now = replace(now, result=replace(now.result, epochs=1, trials=trials))
    console = Console(file=io.StringIO(), width=100)
    console.print(live_table(now, height=20))
    assert isinstance(console.file, io.StringIO)
    assert "0.75/1" in console.file.getvalue()
    # A quarter of the running trial is left, at ten seconds an epoch.
    assert seconds_left(now) == pytest.approx(2.5)
    assert "at epoch 0.25/1" in ended_line(now, trials[1])
