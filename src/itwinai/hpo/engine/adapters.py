"""A study in the shape of Ray Tune's public ``Searcher`` and ``TrialScheduler``.

Neither holds state of its own worth saving: after a crash all of it is in the study's record. A
user's own ``Searcher`` or ``TrialScheduler`` object is wrapped, and works as it does in Tune.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

import itwinai
from itwinai.config.values import plain
from itwinai.hpo.engine import ends
from itwinai.hpo.engine.energy import Energy
from itwinai.hpo.engine.events import Note, Raised
from itwinai.hpo.engine.machines import Machines
from itwinai.hpo.engine.slot import ASSIGNMENT
from itwinai.hpo.errors import StudyError, UnusedParameterError
from itwinai.hpo.space import write_domains
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment, TrialState

#: What Tune's ``Repeater`` adds to a proposal.
_TRIAL_INDEX = "__trial_index__"

#: Errors of a trial that every other trial would meet as well.
_FATAL: dict[str, type[StudyError]] = {UnusedParameterError.__name__: UnusedParameterError}


class StudySearcher(Searcher):  # type: ignore[misc]
    """Gives Tune the study's trials.

    Args:
        study: The study.
        scheduler: Who decides how trials end whose process is gone.
        machines: They tell for how many trials there is room now, so that none is asked for before
            it can start. None: as many as Tune wants, because a user's scheduler may pause some.
    """

    def __init__(self, study: Study, scheduler: StudyScheduler, machines: Machines | None) -> None:
        super().__init__()
        self._study = study
        self._scheduler = scheduler
        self._machines = machines
        self._user = study.algorithm.searcher
        #: The study's number of each trial that Tune has and that has not ended.
        self._numbers: dict[str, int] = {}
        #: Trials that Tune has given up although they have not ended.
        self._orphans: list[int] = []
        #: Whether Tune was told to end although the study goes on, once the machines lack nothing.
        self.held_back = False
        #: Whether the user's searcher has no more to propose.
        self._exhausted = False
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
        """Give the next trial's configuration, or say that there is none now, or none any more."""
        held = self._study.held
        assignment = None if held or self._is_full else self._next(trial_id)
        if assignment is None:
            if self._numbers or not (held or self._over):
                return None
            # While nothing can start, Tune ends once nothing runs: it would not hear Ctrl-C.
            self.held_back = held and not self._study.finished
            return str(Searcher.FINISHED)
        self._numbers[trial_id] = assignment.number
        return {**assignment.params, ASSIGNMENT: asdict(assignment)}

    def _next(self, trial_id: str) -> Assignment | None:
        if self._orphans:
            return self._study.continuation(self._orphans.pop())
        proposal = None
        if self._user is not None and not self._over and not self._study.has_waiting:
            proposal = self._user.suggest(trial_id)
            if proposal is None or proposal == Searcher.FINISHED:
                self._exhausted = proposal is not None
                return None
            self._users.add(trial_id)
            proposal = self._checked(proposal)
        return self._study.ask(proposal)

    def _checked(self, proposal: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a user's searcher; the study ends if they are not of its space."""
        space = self._study.space
        values: dict[str, Any] = plain({k: v for k, v in proposal.items() if k != _TRIAL_INDEX})
        missing = [f"no value for {name}" for name in space if name not in values]
        complaint = space.complaint(values) or next(iter(missing), None)
        if complaint is not None:
            self._study.fail(
                StudyError(
                    f"study.algorithm({self._study.algorithm.name}) proposed what is no point of "
                    f"the search space: {complaint}. Give it no space of its own; it gets the "
                    "study's"
                )
            )
        return values

    @property
    def _is_full(self) -> bool:
        if self._machines is None:
            return False
        if len(self._numbers) >= self._machines.most:
            return True
        # Those on nodes that are left out take no room of the others.
        staying = len(self._numbers) - self._study.leaving
        return staying >= self._machines.room(self._study.left_out)

    @property
    def _over(self) -> bool:
        return self._exhausted or self._study.finished

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an epoch on to a user's searcher."""
        if trial_id in self._users and result.get("event") == "reported" and _is_whole(result):
            self._user.on_trial_result(trial_id, _with_metric(self._study, result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Close a trial; one that Tune gives up before it has begun goes on as another of Tune's.

        That one had been given a slot whose process was gone already, or waited in vain.
        """
        number = self._numbers.pop(trial_id, None)
        given_up = error and not self._scheduler.has_ended(trial_id)
        if number is not None and (given_up or self._scheduler.is_stranded(trial_id)):
            self._orphans.append(number)
        elif number is not None:
            close_trial(self._study, number, result or {})
        if trial_id in self._users:
            seen = _with_metric(self._study, result or {})
            failed = error or _has_failed(self._study, result or {})
            self._user.on_trial_complete(trial_id=trial_id, result=seen, error=failed)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the record has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the record has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudyScheduler(TrialScheduler):  # type: ignore[misc]
    """Passes every report to the study, and its verdict to Tune.

    A user's scheduler hears whole epochs alone, as Tune counts them.

    Args:
        study: The study.
        machines: They tell how a trial keeps away from nodes.
    """

    def __init__(self, study: Study, machines: Machines) -> None:
        super().__init__()
        self._study = study
        self._machines = machines
        #: Tune's trials that have ended although it would start them again.
        self._over: set[str] = set()
        #: Those that keep away from nodes, and from which.
        self._placed: dict[str, tuple[Trial, frozenset[str]]] = {}
        self._stranded: set[str] = set()
        self._noted: set[str] = set()
        self._user = study.scheduler.ray is not None
        self._inner: TrialScheduler = study.scheduler.ray or FIFOScheduler()
        if self._user:
            primary = study.configuration.objectives[0]
            self._inner.set_search_properties(primary.metric, primary.mode)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept; the study knows its metric."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Say where it goes, and pass on; one that has ended and is added again is stopped."""
        self._place(trial)
        self._inner.on_trial_add(tune_controller, trial)
        if trial.trial_id in self._over:
            tune_controller.stop_trial(trial)

    def has_ended(self, trial_id: str) -> bool:
        """Whether a trial of Tune's whose process is gone has ended."""
        return trial_id in self._over

    def is_stranded(self, trial_id: str) -> bool:
        """Whether a trial of Tune's waited for nodes that have gone."""
        return trial_id in self._stranded

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Decide whether a trial whose process is gone has ended.

        Should Tune start it again, it goes on from its newest checkpoint.
        """
        number = _number(trial)
        # One that is pending has not begun: the process had ended before.
        if trial.trial_id not in self._over and trial.status != Trial.PENDING:
            timeout = self._study.configuration.report_timeout_s
            end = ends.of_lost_process(trial, self._study.directory_of(number), timeout)
            if end is not None:
                self._end(trial, end)
        assignment = self._study.continuation(number)
        trial.set_config({**trial.config, ASSIGNMENT: asdict(assignment)})
        if trial.status == Trial.ERROR:  # Tune starts it again
            self._place(trial)
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record a report and decide."""
        number = _number(trial)
        note_process(self._study, number, result)
        if result["event"] == "raised":  # and has spoilt its process, so that Tune will retry it
            self._end(trial, raised_end(self._study, number, result))
            return str(TrialScheduler.CONTINUE)
        self._tell_user(result.get("notes", []))
        if self._report(number, result) == "stop":
            return str(TrialScheduler.STOP)
        if not _is_whole(result):
            return str(TrialScheduler.CONTINUE)
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
        close_trial(self._study, _number(trial), result)
        self._placed.pop(trial.trial_id, None)
        self._inner.on_trial_complete(tune_controller, trial, _with_metric(self._study, result))

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Pass on."""
        self._placed.pop(trial.trial_id, None)
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose among the trials that a user's scheduler paused; Tune starts the others by itself.

        A trial that is chosen gets the slot of one that has just ended, and the slot that is
        starting for it would be thrown away.
        """
        self._give_up_stranded(tune_controller)
        if not self._user:
            return None
        trial = self._inner.choose_trial_to_run(tune_controller)
        if trial is None or trial.status != Trial.PAUSED:
            return None
        self._place(trial)
        return trial

    def debug_string(self) -> str:
        """Pass on."""
        return str(self._inner.debug_string())

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the record has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the record has it."""

    def _report(self, number: int, result: Mapping[str, Any]) -> str:
        return self._study.report(
            number,
            dict(result["metrics"]),
            result["saved"],
            result["epoch"],
            steps=result["steps"],
            saved=result["saved_epochs"],
        )

    def _tell_user(self, notes: Sequence[Note]) -> None:
        """Say the first note of all trials about something."""
        for about, text in notes:
            if about not in self._noted:
                self._noted.add(about)
                itwinai.logger.warning(text)

    def _place(self, trial: Trial) -> None:
        """Keep a trial of Tune's that does not run yet away from nodes, if it is to avoid any."""
        avoided = self._study.avoided_by(_number(trial))
        if avoided or trial.trial_id in self._placed:
            self._placed[trial.trial_id] = trial, avoided
            trial.update_resources(self._machines.placement(avoided))

    def _give_up_stranded(self, tune_controller: Any) -> None:
        """Stop trials of Tune's that wait for nodes that have gone; they go on as others."""
        for trial, avoided in list(self._placed.values()):
            waits = trial.status == Trial.PENDING and not self._machines.has_room(avoided)
            if waits and self._machines.has_room(self._study.avoided_by(_number(trial))):
                self._stranded.add(trial.trial_id)
                del self._placed[trial.trial_id]
                tune_controller.stop_trial(trial)

    def _end(self, trial: Trial, end: ends.End) -> None:
        self._study.end(_number(trial), *end)
        self._over.add(trial.trial_id)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def close_trial(study: Study, number: int, result: Mapping[str, Any]) -> None:
    """Tell the study how a trial ended, from Tune's last result of it."""
    note_process(study, number, result)
    if result.get("event") == "raised":
        study.tell(number, *raised_end(study, number, result))
    else:
        if result.get("event") != "ended":  # a scheduler stopped it, maybe while it was paused
            study.stop(number)
        study.tell(number, TrialState.COMPLETED)


def note_process(study: Study, number: int, result: Mapping[str, Any]) -> None:
    """Tell the study where a trial runs, for how long, and what it has used, as a result says."""
    if "seconds" in result:
        study.note_training(number, result["seconds"])
    if result.get("nodes"):
        study.note_nodes(number, result["nodes"])
    energy: Energy | None = result.get("energy")
    if energy is not None:
        study.note_energy(number, energy.since, energy.joules)


def raised_end(study: Study, number: int, result: Mapping[str, Any]) -> ends.End:
    """How a trial ends that raised an error; one that every trial would meet ends the study."""
    error: Raised = result["error"]
    if error.kind in _FATAL:
        study.fail(_FATAL[error.kind](error.message))
    end = ends.of_error(error, study.directory_of(number))
    if error.lacking:
        study.postpone(number, end[1])
    return end


def _number(trial: Trial) -> int:
    return int(trial.config[ASSIGNMENT]["number"])


def _is_whole(result: Mapping[str, Any]) -> bool:
    """Whether a result is one after a whole epoch."""
    return bool(result["epoch"] == result["training_iteration"])


def _has_failed(study: Study, result: Mapping[str, Any]) -> bool:
    """Whether Tune's last result of a trial is one of a failure, which has no value to learn."""
    value = study.configuration.objectives[0].value(dict(result.get("metrics", ())))
    return result.get("event") == "raised" or value is None or not math.isfinite(value)


def _with_metric(study: Study, result: dict[str, Any]) -> dict[str, Any]:
    """A result in which a user's searcher or scheduler finds the metrics, as Tune has them."""
    metrics = dict(result.get("metrics", ()))
    primary = study.configuration.objectives[0]
    value = primary.value(metrics)
    return {**metrics, **result} | ({} if value is None else {primary.metric: value})
