"""A study in the shape of Ray Tune's public ``Searcher`` and ``TrialScheduler``.

Neither holds state of its own worth saving: after a crash all of it is in the study's record. A
user's own ``Searcher`` or ``TrialScheduler`` object is wrapped, and works as it does in Tune.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from itwinai.hpo.engine.domains import write_domains
from itwinai.hpo.engine.slot import ASSIGNMENT
from itwinai.hpo.errors import StudyError, UnusedParameterError
from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialState

#: Errors of a trial that every other trial would meet as well.
_FATAL: dict[str, type[StudyError]] = {UnusedParameterError.__name__: UnusedParameterError}


class StudySearcher(Searcher):  # type: ignore[misc]
    """Gives Tune the study's trials.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study = study
        self._user = study.algorithm.searcher
        self._numbers: dict[str, int] = {}
        #: Trials that the user's searcher proposed; it knows no others (the default, resumed ones).
        self._users: set[str] = set()
        if self._user is not None:
            primary = study.configuration.objectives[0]
            self._user.set_search_properties(
                primary.metric, primary.mode, write_domains(study.space)
            )

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Accept; the study knows its metric and space."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Give the next trial's configuration, or say that there is none."""
        proposal = None
        if self._user is not None and not self._study.finished and not self._study.has_waiting:
            proposal = self._user.suggest(trial_id)
            if proposal is None:
                return None
            if proposal == Searcher.FINISHED:
                return str(proposal)
            self._users.add(trial_id)
        assignment = self._study.ask(proposal)
        if assignment is None:  # none any more, or none now: a paused trial may yet go on
            return str(Searcher.FINISHED) if self._study.finished else None
        self._numbers[trial_id] = assignment.number
        return {**assignment.params, ASSIGNMENT: asdict(assignment)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an epoch on to a user's searcher."""
        if trial_id in self._users and result.get("event") == "reported":
            self._user.on_trial_result(trial_id, _with_metric(self._study, result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Close a trial: Tune announces here also the end of one whose worker is lost for good."""
        number = self._numbers.get(trial_id)
        if number is not None:
            close_trial(self._study, number, result or {}, error)
        if trial_id in self._users:
            self._user.on_trial_complete(trial_id, _with_metric(self._study, result or {}), error)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the record has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the record has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudyScheduler(TrialScheduler):  # type: ignore[misc]
    """Reports every epoch to the study and passes its verdict to Tune.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study = study
        self._user = study.scheduler.ray is not None
        self._inner: TrialScheduler = study.scheduler.ray or FIFOScheduler()
        if self._user:
            primary = study.configuration.objectives[0]
            self._inner.set_search_properties(primary.metric, primary.mode)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept; the study knows its metric."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Pass on."""
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Should Tune start the trial again, it goes on from its newest checkpoint."""
        assignment = self._study.continuation(_number(trial))
        trial.set_config({**trial.config, ASSIGNMENT: asdict(assignment)})
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record an epoch and decide."""
        number = _number(trial)
        metrics = dict(result["metrics"])
        if self._study.report(number, metrics, result["saved"], result["epoch"]) == "stop":
            return str(TrialScheduler.STOP)
        seen = _with_metric(self._study, result)
        decision = str(self._inner.on_trial_result(tune_controller, trial, seen))
        if decision == TrialScheduler.STOP:
            self._study.stop(number)
        # After its last epoch a trial ends by itself. Ray's HyperBand would leave it paused for
        # ever, should the last of its bracket come in while this one is being saved.
        last = result["epoch"] >= self._study.epochs
        return str(TrialScheduler.CONTINUE) if last else decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Close the trial."""
        close_trial(self._study, _number(trial), result, error=False)
        self._inner.on_trial_complete(tune_controller, trial, _with_metric(self._study, result))

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Pass on."""
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose among the paused trials; Tune starts the others by itself.

        A trial that is chosen gets the slot of one that has just ended, and the slot that is
        starting for it would be thrown away.
        """
        trial = self._inner.choose_trial_to_run(tune_controller)
        return trial if trial is not None and trial.status == Trial.PAUSED else None

    def debug_string(self) -> str:
        """Pass on."""
        return str(self._inner.debug_string())

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the record has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the record has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def close_trial(study: Study, number: int, result: Mapping[str, Any], error: bool) -> None:
    """Tell the study how a trial ended, from Tune's last result of it."""
    if error:
        study.tell(number, TrialState.FAILED, "its worker was lost; see the trial's log")
    elif result.get("event") == "raised":
        kind, message = result["error"]
        if kind in _FATAL:
            study.fail(_FATAL[kind](message))
        study.tell(number, TrialState.FAILED, f"{kind}: {message}")
    else:
        if result.get("event") != "ended":  # a scheduler stopped it, maybe while it was paused
            study.stop(number)
        study.tell(number, TrialState.COMPLETED)


def _number(trial: Trial) -> int:
    return int(trial.config[ASSIGNMENT]["number"])


def _with_metric(study: Study, result: dict[str, Any]) -> dict[str, Any]:
    """A result in which a user's searcher or scheduler finds the metrics, as Tune has them."""
    metrics = dict(result.get("metrics", ()))
    primary = study.configuration.objectives[0]
    value = primary.value(metrics)
    return {**metrics, **result} | ({} if value is None else {primary.metric: value})
