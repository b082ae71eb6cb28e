"""How a study's end reads."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hand_driven import ask
from rich.console import Console

from itwinai.hpo import load_study
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.display.summary import summary
from itwinai.hpo.errors import StudyError
from itwinai.hpo.launch import plan_study
from itwinai.hpo.objectives import Objective
from itwinai.hpo.record import Cost, StudyResult, keep_pipeline, plain_trial
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialResult, TrialState

EPOCHS = 4
DEFAULT = {"optim_lr": 0.0123456789, "hidden": 32}


def make_study(
    path: Path,
    mode: Literal["min", "max"] = "max",
    default: Mapping[str, Any] | None = DEFAULT,
    total: int = 6,
    scheduler: str = "none",
) -> Study:
    configuration = StudyConfiguration(
        name="digits",
        storage_path=path,
        metric="score",
        mode=mode,
        num_samples=total,
        seed=1,
        algorithm="random",
        scheduler=scheduler,
    )
    space = SearchSpace.parse(
        {
            "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1},
            "hidden": {"type": "choice", "categories": [16, 32]},
        }
    )
    return plan_study(configuration, space, EPOCHS, default).open()


def train(study: Study, *values: float, checkpoint: Path | None = None) -> int:
    """Ask for a trial, report one value per epoch; it completes if that was the last epoch."""
    assignment = study.ask()
    assert assignment is not None
    for epoch, value in enumerate(values, 1):
        path = str(checkpoint) if checkpoint and epoch == len(values) else None
        study.report(assignment.number, {"score": value}, path, epoch)
    if len(values) == EPOCHS:
        study.tell(assignment.number, TrialState.COMPLETED)
    return assignment.number


def shown(result: StudyResult) -> dict[str, str]:
    """The summary's lines by label, as a narrow console that folds nothing prints them."""
    console = Console(file=io.StringIO(), width=40)
    console.print(summary(result), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    lines: dict[str, str] = {}
    label = ""
    for line in console.file.getvalue().splitlines():
        label = line[:12].strip() or f"{label}, more"
        lines[label] = line[12:]
    return lines


@pytest.mark.parametrize(
    ("mode", "best", "why", "difference"),
    [
        ("max", 0.75, "the highest of 2 completed", "better: +0.25 (+50.0%)"),
        ("min", 0.25, "the lowest of 2 completed", "better: -0.25 (-50.0%)"),
    ],
)
def test_the_best_is_set_against_the_default(
    tmp_path: Path, mode: Literal["min", "max"], best: float, why: str, difference: str
) -> None:
    study = make_study(tmp_path, mode)
    train(study, 0.1, 0.2, 0.3, 0.5)
    number = train(study, 0.1, 0.2, 0.3, best)
    lines = shown(study.close())
    params = study.result().trials[number].params
    assert lines["best"] == f"trial 1, score={best} after 4 epochs: {why}"
    assert lines["best, more"] == f"optim_lr={params['optim_lr']:.6g} hidden={params['hidden']}"
    assert lines["default"] == "trial 0 (default), score=0.5"
    assert lines["default, more"] == f"the best is {difference}"


def test_what_proves_the_gain_is_there_for_this_study(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.1, 0.2, 0.3, 0.5)
    train(study, 0.1, 0.2, 0.3, 0.75)
    called = "; itwinai.hpo.confirm in the program that started the study proves it"
    assert shown(study.close())["default, more, more"].endswith(called)
    keep_pipeline(study.directory, "steps: []")
    command = f"; 'itwinai hpo confirm {study.directory}' proves it"
    assert shown(study.result())["default, more, more"].endswith(command)


def test_the_default_may_be_the_best(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.1, 0.2, 0.3, 0.5)
    train(study, 0.1, 0.2, 0.3, 0.4)
    lines = shown(study.close())
    assert lines["best"] == (
        "trial 0 (default), score=0.5 after 4 epochs: the highest of 2 completed"
    )
    assert lines["best, more"] == "optim_lr=0.0123457 hidden=32"
    assert lines["default"] == "trial 0 (default), score=0.5; nothing was better"


def test_a_default_that_the_model_prefers_is_not_said_to_be_unbeaten(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.1, 0.2, 0.3, 0.5)
    train(study, 0.1, 0.2, 0.3, 0.6)
    result = replace(study.close(), recommended=0)
    lines = shown(result)
    assert lines["best"].endswith("by the model's mean; the highest is 0.6, of trial 1")
    assert lines["default"] == (
        "trial 0 (default), score=0.5; by the model's mean nothing is better"
    )


def test_a_difference_to_zero_is_not_relative(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.0, 0.0, 0.0, 0.0)
    train(study, 0.1, 0.2, 0.3, 0.4)
    assert shown(study.close())["default, more"] == "the best is better: +0.4"


@pytest.mark.parametrize(("last", "is_told"), [(0.5, True), (0.50001, False)])
def test_that_all_trials_came_to_the_same_numbers_is_told(
    tmp_path: Path, last: float, is_told: bool
) -> None:
    study = make_study(tmp_path)
    for value in (0.5, 0.5, last):
        train(study, 0.1, 0.2, 0.3, value)
    told = shown(study.close()).get("no effect", "")
    assert ("nothing that is tuned (optim_lr, hidden) seems to change" in told) == is_told


def test_a_study_may_have_no_default(tmp_path: Path) -> None:
    study = make_study(tmp_path, default=None)
    train(study, 0.1, 0.2, 0.3, 0.5)
    assert shown(study.close())["default"] == "no default trial"


def test_a_default_that_failed_says_why(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    study.tell(train(study), TrialState.FAILED, "ValueError: odd\nnumbers")
    train(study, 0.1, 0.2, 0.3, 0.5)
    assert shown(study.close())["default"] == "default failed: ValueError: odd numbers"


def test_a_default_that_diverged_says_when(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    study.tell(train(study, 0.1, float("nan")), TrialState.COMPLETED)
    train(study, 0.1, 0.2, 0.3, 0.5)
    assert shown(study.close())["default"] == "default diverged: score became nan in epoch 2"


def test_a_default_that_was_cut_short_is_not_compared(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    first = train(study, 0.1, 0.2)
    train(study, 0.1, 0.2, 0.3, 0.5)
    study.tell(first, TrialState.STOPPED, "asha after epoch 2")
    lines = shown(study.close())
    assert lines["default"] == "trial 0 (default), score=0.2, stopped early at epoch 2/4"
    assert lines["default, more"] == (
        "no gain is told, for it did not train to the end: asha after epoch 2"
    )


def test_every_end_is_counted(tmp_path: Path) -> None:
    study = make_study(tmp_path, total=8)
    train(study, 0.1, 0.2, 0.3, 0.5)
    study.tell(train(study, 0.1), TrialState.FAILED, "KeyError: 'x'")
    study.tell(train(study, 0.1), TrialState.FAILED, "OSError: another")
    study.tell(train(study, 0.1, 0.2), TrialState.STOPPED, "asha after epoch 2")
    study.tell(train(study, float("inf")), TrialState.COMPLETED)
    train(study, 0.1)
    train(study, 0.1)
    assert shown(study.result())["ended"].endswith("2 failed, 2 running")
    lines = shown(study.close())
    assert lines["study"] == "digits, 7 trials"
    assert lines["ended"] == "1 completed, 1 stopped early, 1 diverged, 2 failed, 2 interrupted"
    assert lines["failed"] == "first trial 1: KeyError: 'x'"
    assert lines["interrupted"] == "2 trials; resume with study.resume=true"
    keep_pipeline(study.directory, "steps: []")
    command = f"'itwinai hpo resume {study.directory}'"
    assert shown(study.result())["interrupted"] == f"2 trials; resume with {command}"
    with pytest.raises(StudyError, match=re.escape(f"Run {command} to go on with it")):
        make_study(tmp_path)


def test_the_first_of_each_kind_of_failure_is_told(tmp_path: Path) -> None:
    study = make_study(tmp_path, total=8)
    for state in (TrialState.HUNG, TrialState.FAILED, TrialState.LOST, TrialState.HUNG):
        study.tell(train(study, 0.1), state, f"a {state.value} one")
    lines = summary(study.close()).plain.splitlines()
    assert "ended       0 completed, 1 failed, 1 lost, 2 hung" in lines
    assert [line for line in lines if line.startswith("failed ")] == [
        "failed      first trial 1: a failed one",
        "failed      first lost, trial 2: a lost one",
        "failed      first hung, trial 0 (default): a hung one",
    ]
    assert "interrupted 1 trial, 1 of them lost; resume with study.resume=true" in lines


def test_a_study_without_failures_speaks_of_none(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.1, 0.2, 0.3, 0.5)
    lines = shown(study.close())
    assert lines["study"] == "digits, 1 trial"
    assert lines["ended"] == "1 completed"
    assert not {"failed", "interrupted"} & set(lines)


def test_epochs_saved_by_early_stopping(tmp_path: Path) -> None:
    study = make_study(tmp_path, scheduler="asha")
    train(study, 0.1, 0.2, 0.3, 0.5)
    study.tell(train(study, 0.1, 0.1), TrialState.COMPLETED)
    assert shown(study.close())["epochs"] == "6 run, 8 without early stopping: 25% saved"


def test_no_epochs_were_saved(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.1, 0.2, 0.3, 0.5)
    assert shown(study.close())["epochs"] == "4 run; early stopping saved none"


def test_a_best_that_was_not_trained_to_the_end_is_called_so(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.1, 0.2)
    train(study, 0.1, 0.2, 0.3)
    lines = shown(study.close())
    assert lines["best"] == (
        "no trial trained to the end; the furthest is trial 1, score=0.3 at epoch 3/4"
    )
    assert lines["default"] == "trial 0 (default), score=0.2, interrupted at epoch 2/4"


@pytest.mark.parametrize("fails", [True, False])
def test_a_study_without_any_metric(tmp_path: Path, fails: bool) -> None:
    study = make_study(tmp_path)
    if fails:
        study.tell(train(study), TrialState.FAILED, "KeyError: 'x'")
    lines = shown(study.close())
    assert lines["best"] == "none: no usable trial has reported score"
    assert "read back" not in lines
    assert lines["epochs"] == "0 run; early stopping saved none"
    assert "checkpoint" not in lines


def test_it_says_where_everything_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = make_study(Path("studies"))
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    number = train(study, 0.1, 0.2, 0.3, 0.5, checkpoint=checkpoint)
    result = study.close()
    lines = shown(result)
    assert lines["checkpoint"] == str(checkpoint)
    assert Path(lines["record"]) == tmp_path / "studies" / "digits" / "record.log"
    imported, _, read = lines["read back"].partition("; ")
    assert imported == "from itwinai.hpo import load_study"
    assert read == 'load_study("studies/digits").best.params'
    assert lines["dashboard"] == "itwinai hpo dashboard studies/digits"
    assert eval(read, {"load_study": load_study}) == result.trials[number].params


def test_a_checkpoint_of_an_earlier_epoch_says_of_which(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trial, checkpoint = ask(study), str(tmp_path)
    for epoch, path in enumerate((None, checkpoint, checkpoint, checkpoint), 1):
        study.report(trial.number, {"score": 0.1 * epoch}, path, epoch)
    study.tell(trial.number, TrialState.COMPLETED)
    result = study.close()
    assert " after 4 epochs" in shown(result)["best"]
    assert shown(result)["checkpoint"] == f"{tmp_path}, after 2 epochs"
    best = plain_trial(result.trials[0])
    assert (best["epochs"], best["checkpoint_epochs"]) == (4, 2)


def test_a_missing_checkpoint_is_said_to_be_missing(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train(study, 0.1, 0.2, 0.3, 0.5)
    assert shown(study.close())["checkpoint"] == ("none: that training saved none")


def test_the_record_alone_gives_the_same_summary(tmp_path: Path) -> None:
    study = make_study(tmp_path, total=200, scheduler="asha")
    for rank in range(200):
        study.tell(train(study, 0.1, rank % 17 / 20, 0.3, 0.5), TrialState.COMPLETED)
    result = study.close()
    assert "200 trials" in summary(result).plain
    assert summary(load_study(tmp_path / "digits")).plain == summary(result).plain


def test_several_objectives_have_a_front_and_no_best(tmp_path: Path) -> None:
    ends = [(0.5, 4.0), (0.25, 4.0), (0.75, 2.0), (1.0, 3.0)]
    trials = tuple(
        TrialResult(
            number,
            TrialState.COMPLETED,
            {"lr": 0.1 * number},
            ({"loss": loss, "latency": latency},),
            is_default=number == 0,
        )
        for number, (loss, latency) in enumerate(ends)
    )
    objectives = (Objective("loss", "min"), Objective("latency", "min"))
    cost = Cost(epochs=4, seconds=1.0, full_epochs=4, elapsed=1.0)
    result = StudyResult("both", objectives, 1, trials, tmp_path / "record.log", cost)
    lines = summary(result).plain.splitlines()
    at = lines.index("front       2 trials that none beats in all of loss (min), latency (min)")
    assert lines[at + 1 : at + 4] == [
        "            trial 1, loss=0.25 latency=4  lr=0.1",
        "            trial 2, loss=0.75 latency=2  lr=0.2",
        "default     trial 0 (default), loss=0.5 latency=4; beaten by 1 trial of it, nowhere worse",
    ]
    assert lines[-2].endswith(".front")
    assert not any(line.startswith("best") for line in lines)
