"""A study without torch: a program for the engine's tests, and a driver that can be killed.

As a script it runs or resumes a study to its end: ``toy_study.py FOLDER``. Trial 2 waits at epoch 4
until there is a file ``FOLDER/go``. The folder of Ray's sessions and every change of a trial are
printed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine import Place, Program, plan_resources, ray_cluster
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import load_study
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study import Listener, Study
from itwinai.hpo.trial import Assignment
from itwinai.reporting import Reporter

EPOCHS = 6
SPACE = {"x": {"type": "uniform", "lower": 0, "upper": 1}}

Hook = Callable[[Assignment, Place, int], None]


class ToyProgram:
    """A training whose loss at each epoch is ``x + 1 / epoch``, with a checkpoint at each.

    Args:
        hook: Called in every process at the start of each epoch.
    """

    def __init__(self, hook: Hook | None = None) -> None:
        self._hook = hook

    def __call__(self, assignment: Assignment, place: Place, reporter: Reporter) -> None:
        """Train."""
        print(f"trial {assignment.number} from {assignment.epochs} in process {os.getpid()}")  # noqa: T201
        for epoch in range(assignment.epochs + 1, EPOCHS + 1):
            if self._hook is not None:
                self._hook(assignment, place, epoch)
            if place.rank == 0 and _report(assignment, place, reporter, epoch):
                return


def _report(assignment: Assignment, place: Place, reporter: Reporter, epoch: int) -> bool:
    checkpoint = Path(assignment.directory, f"epoch_{epoch}")
    checkpoint.mkdir(parents=True, exist_ok=True)
    metrics = {
        "validation_loss": assignment.params["x"] + 1 / epoch,
        "epoch_of_training": epoch,
        "pid": os.getpid(),
        "world_size": place.world_size,
        "done": 1.0,  # a name that means something to Ray Tune
    }
    return reporter.report(metrics, checkpoint)


class Raise:
    """Raises an error in one trial, at epoch 3 of one rank."""

    def __init__(self, errors: Mapping[int, BaseException], rank: int = 0) -> None:
        self._errors, self._rank = dict(errors), rank

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Raise, if it is this trial's turn."""
        error = self._errors.get(assignment.number)
        if error is not None and epoch == 3 and place.rank == self._rank:
            raise error


class Kill:
    """Kills its process with -9 at epoch 3 of one rank, so many times per trial.

    Another rank than 0 waits until rank 0 has come as far, as training together would make it.
    """

    def __init__(self, times: int, rank: int = 0) -> None:
        self._times, self._rank = times, rank

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Leave a mark and die."""
        marks = Path(assignment.directory, "killed")
        marks.mkdir(parents=True, exist_ok=True)
        killed = len(list(marks.iterdir()))
        if epoch == 3 and place.rank == self._rank and killed < self._times:
            while place.rank > 0 and not Path(assignment.directory, "epoch_3").exists():
                time.sleep(0.05)
            (marks / str(killed)).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Meet:
    """Holds every trial until so many have begun."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Leave a mark and wait for the others."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / str(assignment.number)).touch()
        while len(list(self._folder.iterdir())) < self._count:
            time.sleep(0.05)


class ExpectOnRecord:
    """Fails a trial that begins an epoch while the one before is not on record."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Read the record."""
        study = load_study(Path(assignment.directory).parents[1])
        assert study.trials[assignment.number].epochs == epoch - 1


class WaitForFile:
    """Holds trial 2 at epoch 4 until a file is there."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Wait."""
        while (assignment.number, epoch) == (2, 4) and not self._file.exists():
            time.sleep(0.05)


def run_toy_study(
    configuration: StudyConfiguration,
    nodes: Sequence[Mapping[str, float]],
    program: Program,
    default: Mapping[str, Any] | None = None,
    listener: Listener = lambda trial, state: None,
) -> Study:
    """Run a study of the toy to its end and return it, closed."""
    from itwinai.hpo.engine import run_trials

    space = SearchSpace.parse(SPACE)
    study = plan_study(configuration, space, EPOCHS, default).open(listener=listener)
    try:
        run_trials(study, program, plan_resources(configuration, nodes, study.total))
    finally:
        study.close()
    return study


def main(folder: Path) -> None:
    """Run or resume the study of a folder."""
    configuration = StudyConfiguration(
        storage_path=folder,
        mode="min",
        num_samples=5,
        scheduler="none",
        resources_per_worker={"CPU": 0.5},
        max_concurrent_trials=2,
        keep_checkpoints="all",
        resume=True,
    )
    with ray_cluster() as nodes:
        print("ray", os.environ["RAY_TMPDIR"], flush=True)  # noqa: T201
        run_toy_study(
            configuration,
            nodes,
            ToyProgram(WaitForFile(folder / "go")),
            default={"x": 0.0},
            listener=lambda trial, state: print(  # noqa: T201
                "trial", trial.assignment.number, trial.epochs, state.value, flush=True
            ),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
