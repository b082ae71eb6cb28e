"""Studies driven by hand: asked, reported to and told without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study import Listener, Study
from itwinai.hpo.trial import Assignment, TrialState

MakeStudy = Callable[..., Study]

#: Metrics of a trial with these values after an epoch.
Curve = Callable[[Mapping[str, Any], int], dict[str, float]]

X = {"x": {"type": "uniform", "lower": 0, "upper": 1}}


@dataclass
class Clock:
    """Time that passes when the test says so."""

    now: float = 1_000_000.0


def build_study(
    folder: Path,
    space: dict[str, Any] | None = None,
    epochs: int = 4,
    default: dict[str, Any] | None = None,
    listener: Listener = lambda trial, state: None,
    **settings: Any,
) -> Study:
    """Make a study in a folder: four random trials, none stopped, unless told otherwise."""
    settings = {"algorithm": "random", "scheduler": "none", "seed": 1, "mode": "min"} | settings
    settings = {"storage_path": folder, "num_samples": 4} | settings
    parsed = SearchSpace.parse(X if space is None else space)
    plan = plan_study(StudyConfiguration(**settings), parsed, epochs, default)
    return plan.open(listener=listener)


def ask(study: Study) -> Assignment:
    """Ask for a trial that there must be."""
    assignment = study.ask()
    assert assignment is not None
    return assignment


def report(
    study: Study, trial: Assignment, losses: Iterable[float], checkpoints: bool = False
) -> str:
    """Report epochs until the losses end or the study says stop; return its last verdict."""
    verdict = "continue"
    for epoch, loss in enumerate(losses, start=trial.epochs + 1):
        checkpoint = make_checkpoint(trial, epoch) if checkpoints else None
        verdict = study.report(trial.number, {"validation_loss": loss}, checkpoint, epoch)
        if verdict == "stop":
            break
    return verdict


def simulate(study: Study, curve: Curve, slots: int = 3, reports: int | None = None) -> StudyResult:
    """Run a study to its end as an engine with several slots does, an epoch of each in turn.

    After so many ``reports`` it is left as ``kill -9`` leaves it.
    """
    running: list[Assignment] = []
    epochs: dict[int, int] = {}
    while True:
        while len(running) < slots and (trial := study.ask()) is not None:
            running.append(trial)
            epochs[trial.number] = trial.epochs
        if not running:
            assert study.finished
            return study.close()
        for trial in list(running):
            if reports is not None:
                if reports == 0:
                    result = study.result()
                    study._record.close()
                    return result
                reports -= 1
            epoch = epochs[trial.number] = epochs[trial.number] + 1
            checkpoint = make_checkpoint(trial, epoch) if study.scheduler.judge.pauses else None
            verdict = study.report(trial.number, curve(trial.params, epoch), checkpoint, epoch)
            if verdict == "stop" or epoch == study.epochs:
                study.tell(trial.number, TrialState.COMPLETED)
                running.remove(trial)


def run_trial(
    study: Study,
    losses: Iterable[float],
    checkpoints: bool = False,
    trial: Assignment | None = None,
) -> Assignment:
    """Run one trial as an engine does: it ends when the losses end, or when told to."""
    trial = trial or ask(study)
    report(study, trial, losses, checkpoints)
    study.tell(trial.number, TrialState.COMPLETED)
    return trial


def make_checkpoint(trial: Assignment, epoch: int) -> str:
    """Make a checkpoint folder of its own for an epoch."""
    folder = Path(trial.directory, f"epoch_{epoch}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text(str(epoch))
    return str(folder)
