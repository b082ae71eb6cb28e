"""A study's runs in tracking services: one of the study, and those of its trials below it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialState
from itwinai.io.failures import FILE_NAME
from itwinai.loggers import Logger, RunContext
from itwinai.loggers.running import guarded, ids_of, nesting, tell_failures
from itwinai.torch.ray.program import TRIAL, TrainerProgram

#: Tags of the study's run; those of its trials have the first one, too.
STUDY, BEST = "itwinai.study", "itwinai.best_trial"

#: How a trial's run ends, by the record: its process may have been killed, or have trained on while
#: the study ended. All other states are failures.
_ENDS = {
    TrialState.COMPLETED: "FINISHED",
    TrialState.STOPPED: "KILLED",
    TrialState.PAUSED: "KILLED",
    TrialState.DIVERGED: "KILLED",
    TrialState.INTERRUPTED: "KILLED",
}


class StudyRuns:
    """Opens a run of the study with each logger that nests runs, and tells the trials of it.

    Args:
        logger: The trainer's.
        program: What the trials run.
        timed: Whether the seconds of the study are logged.

    Raises:
        MissingPackageError: If the package of a logger's back end is not installed.
    """

    def __init__(self, logger: Logger | None, program: TrainerProgram, timed: bool) -> None:
        loggers = guarded(logger).loggers
        for one in loggers:
            one.check_package()
        self._loggers = nesting(loggers)
        self._program = program
        self._timed = timed

    @contextmanager
    def of(self, study: Study) -> Iterator[None]:
        """Keep the study's runs open; a resumed study goes on with those it has."""
        loggers, name = self._loggers, study.configuration.name
        tags = {STUDY: name}
        options = {key: {"run_id": run} for key, run in study.runs.items()}
        loggers.create_logger_context(run_name=name, group=name, tags=tags, per_logger=options)
        status, began = "FAILED", time.monotonic()
        try:
            runs = {**study.runs, **ids_of(loggers)}
            if runs:
                study.note_runs(runs)
            self._program.run_context = RunContext(group=name, tags=tags, parents=runs)
            loggers.save_hyperparameters(_facts(study))
            yield
            status = _status(study)
        finally:
            self._log_best(study)
            if self._timed:
                loggers.log(time.monotonic() - began, "ray_fit_time_s")
            states = {str(trial.number): trial.state for trial in study.result().trials}
            loggers.end_runs_below(lambda run: _end(states.get(run.get(TRIAL, ""))))
            loggers.destroy_logger_context(status)
            tell_failures([loggers], study.directory / FILE_NAME)

    def _log_best(self, study: Study) -> None:
        best = study.result().best
        if best is None:
            return
        self._loggers.log(best.number, BEST, kind="tag")
        for name, value in best.metrics.items():
            self._loggers.log(value, f"best_{name}")
        for name, value in best.params.items():
            self._loggers.log(value, f"best.{name}", kind="tag")


def _facts(study: Study) -> dict[str, Any]:
    """What is known of a study before its first trial."""
    objectives = study.configuration.objectives
    facts = {
        "metric": ", ".join(objective.metric for objective in objectives),
        "mode": ", ".join(objective.mode for objective in objectives),
        "algorithm": study.algorithm.name,
        "scheduler": study.scheduler.name,
        "epochs": study.epochs,
        "trials": study.total,
    }
    space = study.space.describe().items()
    return facts | {f"space.{name}": json.dumps(form, default=str) for name, form in space}


def _status(study: Study) -> str:
    if study.fatal is not None or study.result().best is None:
        return "FAILED"
    return "KILLED" if study.interrupted else "FINISHED"


def _end(state: TrialState | None) -> str:
    return "FAILED" if state is None else _ENDS.get(state, "FAILED")
