"""A study of short trials, run as the command line runs one, for faults to happen to.

``short_study.py FOLDER TRIALS`` runs or resumes it. Every epoch appends a line to the file
``FOLDER/epochs.log``: process, trial, epoch. Every process that trains leaves a file with its
number in ``FOLDER/workers``. While there is a file ``FOLDER/hold``, each trial waits before its
third epoch.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from itwinai.cli.exits import clean_exit
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import plan_study, run_study
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import Assignment
from itwinai.reporting import Reporter

EPOCHS = 5
EPOCH_SECONDS = 0.05
AT_ONCE = 2


class Program:
    """A trial; its checkpoints hold the number of their epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, assignment: Assignment, place: object, reporter: Reporter) -> None:
        """Train."""
        done = 0
        if assignment.checkpoint is not None:
            done = int(Path(assignment.checkpoint, "epoch").read_text())
        assert done == assignment.epochs
        print(f"trial {assignment.number} from {done}")  # noqa: T201
        workers = self._folder / "workers"
        workers.mkdir(exist_ok=True)
        (workers / str(os.getpid())).touch()
        for epoch in range(done + 1, EPOCHS + 1):
            while epoch == 3 and (self._folder / "hold").exists():
                time.sleep(0.02)
            time.sleep(EPOCH_SECONDS)
            with open(self._folder / "epochs.log", "a") as log:
                log.write(f"{os.getpid()} {assignment.number} {epoch}\n")
            checkpoint = Path(assignment.directory, f"epoch_{epoch}")
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / "epoch").write_text(str(epoch))
            if reporter.report({"loss": assignment.params["x"] + 1 / epoch}, checkpoint):
                return


def run(folder: Path, trials: int) -> StudyResult:
    """Run or resume the study of a folder."""
    configuration = StudyConfiguration(
        storage_path=folder,
        mode="min",
        num_samples=trials,
        algorithm="random",
        scheduler="none",
        max_concurrent_trials=AT_ONCE,
        resources_per_worker={"CPU": 0.5},
        max_failures=1000,
        resume=True,
    )
    space = SearchSpace.parse({"x": {"type": "uniform", "lower": 0, "upper": 1}})
    return run_study(plan_study(configuration, space, EPOCHS, None), Program(folder))


if __name__ == "__main__":
    with clean_exit():
        run(Path(sys.argv[1]), int(sys.argv[2]))
