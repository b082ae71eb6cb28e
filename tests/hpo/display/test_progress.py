"""What a user sees while a study runs, on a terminal and in a file."""

from __future__ import annotations

import io
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hand_driven import Clock, ask, build_study, run_trial, simulate
from rich.console import Console

from itwinai import logger
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.display import Snapshot, StudyProgress
from itwinai.hpo.display.view import best_so_far, live_table, seconds_left, visible
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import Setup
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study import Listener, RunningTrial, Study
from itwinai.hpo.trial import TrialState

EPOCHS = 4
CURSOR_ON = "\x1b[?25h"
SPACE = {
    "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1},
    "hidden": {"type": "choice", "categories": [16, 32]},
}
DEFAULT = {"optim_lr": 0.0123456, "hidden": 32}

opened: list[Study] = []


@pytest.fixture(autouse=True)
def _close_studies() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


def make_study(
    path: Path,
    listener: Listener,
    total: int = 6,
    mode: Literal["min", "max"] = "max",
    default: Mapping[str, Any] | None = DEFAULT,
    scheduler: str = "none",
    **settings: Any,
) -> Study:
    configuration = StudyConfiguration(
        storage_path=path,
        metric="accuracy",
        mode=mode,
        num_samples=total,
        seed=1,
        algorithm="random",
        scheduler=scheduler,
        **settings,
    )
    space = SearchSpace.parse(SPACE)
    study = plan_study(configuration, space, EPOCHS, default).open(listener=listener)
    opened.append(study)
    return study


def train(study: Study, *values: float) -> int:
    """Ask for a trial, report one value per epoch; it completes if that was the last epoch."""
    assignment = study.ask()
    assert assignment is not None
    for epoch, value in enumerate(values, assignment.epochs + 1):
        checkpoint = Path(assignment.directory, str(epoch))
        checkpoint.mkdir(parents=True)
        study.report(assignment.number, {"accuracy": value}, str(checkpoint), epoch)
    if assignment.epochs + len(values) == EPOCHS:
        study.tell(assignment.number, TrialState.COMPLETED)
    return assignment.number


def terminal(width: int = 100, height: int = 30) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=height,
        _environ={"TERM": "xterm-256color"},
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain_run(path: Path, **settings: Any) -> tuple[Console, StudyProgress, Study]:
    """A study that is shown in a file; its clock ticks a second at every look."""
    console = Console(file=io.StringIO(), width=40)
    ticks = itertools.count()
    progress = StudyProgress(console, clock=lambda: float(next(ticks)))
    return console, progress, make_study(path, progress.update, **settings)


def drawn(now: Snapshot, width: int = 100, height: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(live_table(now, height))
    return written(console).splitlines()


# -- a file ------------------------------------------------------------------------------------


def test_a_file_gets_one_line_per_trial_that_ends(tmp_path: Path) -> None:
    console, progress, study = plain_run(tmp_path)
    with progress.follow(study, slots=2):
        assert written(console) == "starting 2 slots ...\n"
        train(study, 0.1, 0.2, 0.3, 0.45678)
        train(study, 0.2)
    lines = written(console).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(
        "trial 0 (default) completed at epoch 4/4  accuracy=0.4568  optim_lr=0.0123 hidden=32  "
        "[1/6, best 0.4568 (trial 0, default), "
    )
    assert lines[1].endswith(" left]")


def test_a_trial_that_stopped_early_says_why(tmp_path: Path) -> None:
    console, progress, study = plain_run(tmp_path, scheduler="asha", default=None)
    with progress.follow(study):
        train(study, 0.1, 0.2, 0.3, 0.9)
        number = train(study, 0.1, 0.01)
        study.tell(number, TrialState.COMPLETED)
    first, complete, stopped = written(console).splitlines()
    assert first == "starting slots ..."
    assert complete.startswith("trial 0 completed")
    assert "trial 1 stopped at epoch 2/4  accuracy=0.01  (asha after epoch 2)  optim_lr=" in stopped
    assert "[2/6, best 0.9 (trial 0)," in stopped


def test_a_failure_is_told_in_one_line(tmp_path: Path) -> None:
    console, progress, study = plain_run(tmp_path)
    with progress.follow(study, slots=1):
        number = train(study)
        study.tell(number, TrialState.FAILED, "ValueError: [bold]odd\nnumbers")
    line = written(console).splitlines()[1]
    assert line.startswith("trial 0 (default) failed at epoch 0/4  (ValueError: [bold]odd numbers)")
    assert "[1/6, best -," in line
    assert line.endswith("time left -]")


def test_a_study_that_is_interrupted_estimates_nothing(tmp_path: Path) -> None:
    console, progress, study = plain_run(tmp_path)
    with progress.follow(study, slots=2):
        train(study, 0.1, 0.2, 0.3, 0.4)
        train(study, 0.1, 0.2)
        study.close("the user pressed Ctrl-C")
    line = written(console).splitlines()[-1]
    assert line.startswith(
        "trial 1 interrupted at epoch 2/4  accuracy=0.2  (the user pressed Ctrl-C)"
    )
    assert "[1/6," in line
    assert "left" not in line


def test_lines_are_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with path.open("w") as file:
        progress = StudyProgress(Console(file=file))
        study = make_study(tmp_path, progress.update)
        with progress.follow(study, slots=1):
            assert path.read_text() == "starting 1 slot ...\n"
            train(study, 0.1, 0.2, 0.3, 0.4)
            assert len(path.read_text().splitlines()) == 2


def test_a_resumed_study_counts_on(tmp_path: Path) -> None:
    _, progress, study = plain_run(tmp_path, total=3)
    with progress.follow(study):
        train(study, 0.1, 0.2, 0.3, 0.4)
        train(study, 0.1, 0.2)
        study.close()

    console, progress, study = plain_run(tmp_path, total=3, resume=True)
    with progress.follow(study):
        assert progress.snapshot().count(TrialState.INTERRUPTED) == 1
        assert train(study, 0.7, 0.8) == 1
        assert progress.snapshot().epochs == 2
        assert progress.snapshot().result.trials[1].history == study.result().trials[1].history
    line = written(console).splitlines()[1]
    assert line.startswith("trial 1 completed at epoch 4/4  accuracy=0.8")
    assert "[2/3, best 0.8 (trial 1)," in line


def test_a_resumed_study_has_what_is_left_of_its_time_budget(tmp_path: Path, clock: Clock) -> None:
    progress = StudyProgress(Console(file=io.StringIO()), clock=lambda: clock.now)
    settings = {"num_samples": 40, "time_budget_s": 10.0, "listener": progress.update}
    for left in (6.0, 2.0):
        study = build_study(tmp_path, resume=left < 6, **settings)
        with progress.follow(study, slots=1):
            trial = ask(study)
            for epoch in range(1, 5):
                clock.now += 1.0
                study.report(trial.number, {"validation_loss": 0.5}, None, epoch)
            study.tell(trial.number, TrialState.COMPLETED)
            assert seconds_left(progress.snapshot()) == pytest.approx(left)
        study.close()


def test_what_an_earlier_run_recommended_is_no_longer_shown_as_the_best(tmp_path: Path) -> None:
    progress = StudyProgress(Console(file=io.StringIO()))
    settings: dict[str, Any] = {"algorithm": "mfgp", "epochs": 1, "listener": progress.update}
    study = build_study(tmp_path, **settings)
    for loss in (0.9, 0.8, 0.7, 0.6):
        run_trial(study, [loss])
    assert study.close().recommended is not None
    study = build_study(tmp_path, num_samples=5, resume=True, **settings)
    with progress.follow(study):
        best = run_trial(study, [0.1])
        shown = progress.snapshot().result
        assert shown.best is not None
        assert (shown.best.number, shown.why_best) == (best.number, "the lowest of 5 completed")
        assert study.result().best == study.result().trials[best.number]
    study.close()


def test_what_is_shown_agrees_with_the_record(tmp_path: Path) -> None:
    _, progress, study = plain_run(tmp_path, scheduler="asha", total=20, mode="min")
    with progress.follow(study):
        for rank in range(10):
            number = train(study, 1.0, 0.9 + rank / 100)
            study.tell(number, TrialState.FAILED if rank == 3 else TrialState.INTERRUPTED, "why")
        train(study, 0.5, float("nan"))
        shown = sorted(progress.snapshot().result.trials, key=lambda trial: trial.number)
        recorded = study.result().trials
    assert [(t.number, t.params, t.history, t.is_default) for t in shown[:10]] == [
        (t.number, t.params, t.history, t.is_default) for t in recorded[:10]
    ]
    assert [(t.state, t.reason) for t in shown[:10]] == [(t.state, t.reason) for t in recorded[:10]]
    assert shown[10].state is TrialState.DIVERGED


@pytest.mark.parametrize(
    "settings",
    [
        {"scheduler": "asha", "audit": 4, "default": {"x": 0.9}},
        {"scheduler": {"name": "pasha", "grace_period": 1}},
        {"scheduler": {"name": "pbt", "interval": 2}, "algorithm": "auto"},
        {"metric": ["loss", "size"], "mode": ["min", "min"], "algorithm": "tpe"},
    ],
    ids=["asha", "pasha", "pbt", "objectives"],
)
def test_what_is_added_up_trial_by_trial_is_what_all_trials_tell(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    console = Console(file=io.StringIO())
    ticks = itertools.count()
    progress = StudyProgress(console, clock=lambda: float(next(ticks)))
    looked = 0

    def look(trial: RunningTrial, state: TrialState) -> None:
        nonlocal looked
        progress.update(trial, state)
        now = progress.snapshot()
        anew = replace(now, done=None, epochs_left=None)
        assert now.count_done == anew.count_done
        assert seconds_left(now) == pytest.approx(seconds_left(anew))
        if state is not TrialState.RUNNING:
            assert best_so_far(now.result) in written(console).splitlines()[-1]
            looked += 1

    def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        loss = math.nan if 0.4 < params["x"] < 0.5 else round(params["x"], 1) + 1 / epoch
        return {"loss": loss, "size": 1 - params["x"]}

    study = build_study(tmp_path, epochs=9, num_samples=12, listener=look, **settings)
    study.note_setup(Setup("random", "asha", study.scheduler.judge.rungs, audit=4))
    with progress.follow(study):
        simulate(study, curve)
    assert looked >= 12


# -- a terminal ----------------------------------------------------------------------------------


def test_a_terminal_gets_a_table_that_stays(tmp_path: Path) -> None:
    console = terminal()
    progress = StudyProgress(console)
    study = make_study(tmp_path, progress.update, total=2)
    with progress.follow(study, slots=2):
        assert "starting 2 slots ..." in written(console)
        train(study, 0.1, 0.2, 0.3, 0.45678)
        train(study, 0.1, 0.2)
    text = written(console)
    assert "trial 0 (default) completed at" not in text
    assert "2/4" in text
    assert "best 0.4568 (trial 0, default)" in text
    assert text.endswith(CURSOR_ON)


def test_the_terminal_is_restored_after_an_error(tmp_path: Path) -> None:
    console = terminal()
    progress = StudyProgress(console)
    study = make_study(tmp_path, progress.update)
    before = sys.stdout
    with suppress(ZeroDivisionError), progress.follow(study):
        assert sys.stdout is not before
        raise ZeroDivisionError
    assert sys.stdout is before
    assert written(console).endswith(CURSOR_ON)


def test_log_messages_appear_above_the_table(tmp_path: Path) -> None:
    console = terminal()
    progress = StudyProgress(console)
    with progress.follow(make_study(tmp_path, progress.update)):
        logger.warning("look here")
    logger.warning("and there")
    assert "look here" in written(console)
    assert "and there" not in written(console)


def test_rows_show_states_epochs_and_three_digits(tmp_path: Path) -> None:
    _, progress, study = plain_run(tmp_path)
    with progress.follow(study, slots=2):
        train(study, 0.1, 0.2, 0.3, 0.45678)
        train(study, 0.1)
        failing = train(study)
        study.tell(failing, TrialState.FAILED, "KeyError: 'x'")
        train(study)
        lines = drawn(progress.snapshot())
    columns = ["trial", "state", "epoch", "curve", "accuracy", "optim_lr", "hidden"]
    assert lines[0].split() == columns
    assert lines[2].split()[:4] == ["0", "default", "completed", "4/4"]
    assert lines[2].split()[4:] == ["▁▃▅█", "0.4568", "0.0123", "32"]
    assert lines[3].split()[:5] == ["1", "running", "1/4", "▁", "0.1"]
    assert lines[4].split()[:4] == ["2", "failed", "0/4", "-"]
    assert lines[5].split()[:4] == ["3", "running", "0/4", "-"]
    assert lines[6] == " trial 2 failed: KeyError: 'x'"
    assert lines[7] == " 2/6 trials done, 2 running, 1 failed"
    assert lines[8].startswith(" best 0.4568 (trial 0, default), ")


@pytest.mark.parametrize("mode", ["min", "max"])
def test_many_trials_are_fitted_to_the_height(tmp_path: Path, mode: Literal["min", "max"]) -> None:
    _, progress, study = plain_run(tmp_path, total=250, mode=mode)
    with progress.follow(study):
        best = [7, 50, 120]
        for number in range(200):
            good = 0.9 if mode == "max" else 0.1
            value = good if number in best else 0.5
            train(study, value, value, value, value)
        running = [train(study, 0.3) for _ in range(4)]
        now = progress.snapshot()
        study.tell(train(study), TrialState.FAILED, "no")
        with_failure = progress.snapshot()

    lines = drawn(now, width=80, height=24)
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    shown = [trial.number for trial in visible(now.result, 17)]
    assert shown == [*best, *range(190, 200), *running]
    assert " ... 187 more" in lines
    assert len(drawn(with_failure, width=80, height=24)) == 23
