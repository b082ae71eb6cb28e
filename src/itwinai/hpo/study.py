"""The study: asks for trials, hears their epochs, decides who goes on, and remembers.

Whoever runs the trials (the Ray engine, a simulation) drives it through :meth:`Study.ask`,
:meth:`Study.report` and :meth:`Study.tell`; every step is in the record before it has an effect.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo import attributes
from itwinai.hpo.algorithms import Algorithm
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import MissingMetricError, StudyError
from itwinai.hpo.record import FILE_NAME, StudyRecord
from itwinai.hpo.results import StudyResult, read_result
from itwinai.hpo.schedulers import Scheduler
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import Assignment, TrialState, metric_value

Verdict = Literal["continue", "stop"]


@dataclass
class RunningTrial:
    """What the study knows of a trial that has not ended."""

    assignment: Assignment
    optuna: optuna.Trial
    epochs: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    checkpoint: Path | None = None
    #: Epochs that the checkpoint holds.
    checkpoint_epochs: int = 0
    #: Set once the study has decided how the trial ends; the engine then only confirms.
    ending: tuple[TrialState, str] | None = None
    started: float = field(default_factory=time.monotonic)


Listener = Callable[[RunningTrial, TrialState], None]


class Study:
    """A hyper-parameter study over an Optuna study and its record.

    Args:
        configuration: The study's settings; ``mode`` is set.
        space: What is tuned.
        algorithm: Who proposes.
        scheduler: Who stops trials early.
        epochs: Epochs of a full training.
        default: The default configuration's values of the tuned hyper-parameters, or None.
        listener: Called after each change of a trial, for a progress display.

    Raises:
        StudyError: If the study exists and ``resume`` is false, or is run by another process.
        ConfigurationError: If the existing study has another space, metric, mode or epochs.
    """

    def __init__(
        self,
        configuration: StudyConfiguration,
        space: SearchSpace,
        algorithm: Algorithm,
        scheduler: Scheduler,
        epochs: int,
        default: Mapping[str, Any] | None = None,
        listener: Listener = lambda trial, state: None,
    ) -> None:
        self.configuration = configuration
        self.space = space
        self.algorithm = algorithm
        self.scheduler = scheduler
        self.epochs = epochs
        self.fatal: StudyError | None = None
        self._listener = listener
        self._running: dict[int, RunningTrial] = {}
        self._started = time.monotonic()
        self._record = _open_record(configuration)
        self._optuna = self._open_study()
        self._keep_or_refuse_facts()
        self._waiting = 0
        self._has_default = default is not None
        self._next_number = self._plan(default)
        self._best = self._best_so_far()

    # -- what the engine calls ---------------------------------------------------------------

    def ask(self, proposal: Mapping[str, Any] | None = None) -> Assignment | None:
        """Give the next trial, or None when the study has no more.

        Args:
            proposal: Values from outside (a Ray Tune ``Searcher``), in place of the sampler's.
        """
        if self.finished:
            return None
        if proposal is not None and not self._waiting:
            self._enqueue(proposal, attributes.Plan(number=self._take_number()))
        trial = self._optuna.ask()
        self._waiting = max(0, self._waiting - 1)
        planned = attributes.Plan.read(trial.user_attrs)
        number = self._take_number() if planned.number is None else planned.number
        assignment = Assignment(
            number=number,
            params=self.space.suggest(trial, planned.given),
            directory=str(self.directory_of(number)),
            checkpoint=planned.checkpoint,
            epochs=planned.epochs,
            seed=self.configuration.seed,
        )
        # The number is written last: a trial without one was never handed out.
        trial.set_user_attr(attributes.NUMBER, number)
        running = RunningTrial(assignment, trial, planned.epochs)
        if planned.checkpoint is not None:
            running.metrics = self._last_metrics(number)
            running.checkpoint = Path(planned.checkpoint)
            running.checkpoint_epochs = planned.epochs
        self._running[number] = running
        self._listener(running, TrialState.RUNNING)
        return assignment

    def report(
        self, number: int, metrics: Mapping[str, float], checkpoint: str | None, epoch: int
    ) -> Verdict:
        """Take one epoch's metrics of a trial and say whether it goes on.

        Args:
            number: The trial.
            metrics: All that it reported.
            checkpoint: Its newest checkpoint, or None. A path not reported before is one that holds
                all epochs trained so far; the same path again is the same checkpoint.
            epoch: Epochs it has trained. One that the record holds already, reported again by a
                trial whose worker was lost, is heard but not recorded twice.
        """
        trial = self._running[number]
        if epoch <= trial.epochs:
            return "continue"
        trial.epochs = epoch
        trial.metrics = dict(metrics)
        trial.optuna.set_user_attr(attributes.epoch_key(trial.epochs), dict(metrics))
        if checkpoint is not None and Path(checkpoint) != trial.checkpoint:
            trial.checkpoint, trial.checkpoint_epochs = Path(checkpoint), epoch
            trial.optuna.set_user_attr(attributes.CHECKPOINT, [trial.epochs, checkpoint])
        trial.ending = trial.ending or self._judge(trial)
        self._listener(trial, TrialState.RUNNING)
        return "continue" if trial.ending is None else "stop"

    def continuation(self, number: int) -> Assignment:
        """How a running trial whose worker was lost goes on: from its newest checkpoint."""
        trial = self._running[number]
        if trial.checkpoint is None:
            return trial.assignment
        return replace(
            trial.assignment, checkpoint=str(trial.checkpoint), epochs=trial.checkpoint_epochs
        )

    def stop(self, number: int) -> None:
        """Decide from outside the study that a trial stops early (a Ray Tune scheduler's verdict).

        A trial that has trained to the last epoch is complete all the same.
        """
        trial = self._running.get(number)
        if trial is not None and trial.ending is None and trial.epochs < self.epochs:
            trial.ending = (TrialState.STOPPED, f"{self.scheduler.name} after epoch {trial.epochs}")

    def tell(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close a trial; an ending that the study itself decided takes precedence.

        A second call for the same trial does nothing: an engine may announce an end twice.
        """
        trial = self._running.pop(number, None)
        if trial is None:
            return
        state, reason = trial.ending or self._checked_end(trial, state, reason)
        self._close(trial, state, reason)
        self._record.sync()
        self._tidy(trial, state)
        self._listener(trial, state)

    def fail(self, error: StudyError) -> None:
        """End the whole study because of an error that every trial would meet."""
        self.fatal = self.fatal or error

    def close(self, reason: str = "the study was interrupted") -> StudyResult:
        """End the trials that still run as interrupted, release the record, return the result."""
        for number in list(self._running):
            self.tell(number, TrialState.INTERRUPTED, reason)
        self._record.close()
        return self.result()

    # -- what others read --------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether no further trial will start."""
        done = self._next_number >= self.total and not self._waiting
        return done or self.fatal is not None or self._out_of_time()

    @property
    def has_waiting(self) -> bool:
        """Whether the next trial is planned already (default, grid's point, resumed one)."""
        return self._waiting > 0

    @property
    def total(self) -> int:
        """Trials that the study runs in all."""
        return _total(self.configuration, self.algorithm, self._has_default)

    @property
    def directory(self) -> Path:
        """The study's folder."""
        return self.configuration.directory

    def directory_of(self, number: int) -> Path:
        """A trial's folder."""
        return self.directory / "trials" / f"{number:05d}"

    def result(self) -> StudyResult:
        """The study as it stands."""
        return read_result(self._optuna, self.directory / FILE_NAME)

    # -- opening -----------------------------------------------------------------------------

    def _open_study(self) -> optuna.Study:
        direction = (
            StudyDirection.MAXIMIZE if self.configuration.mode == "max" else StudyDirection.MINIMIZE
        )
        return optuna.create_study(
            storage=JournalStorage(self._record),
            study_name=self.configuration.name,
            direction=direction,
            sampler=self.algorithm.sampler,
            pruner=self.scheduler.pruner,
            load_if_exists=True,
        )

    def _keep_or_refuse_facts(self) -> None:
        facts = {
            "format": attributes.FORMAT,
            "metric": self.configuration.metric,
            "mode": self.configuration.mode,
            "epochs": self.epochs,
            "space": self.space.describe(),
        }
        facts = json.loads(json.dumps(facts))  # as the record gives them back
        known = self._optuna.user_attrs.get(attributes.FACTS)
        if known is None:
            self._refuse_foreign_trials()
            self._optuna.set_user_attr(attributes.FACTS, facts)
            return
        changed = [key for key, value in facts.items() if known.get(key) != value]
        if changed:
            self._record.close()
            key = changed[0]
            raise ConfigurationError(
                f"study {self.configuration.name!r} cannot be resumed: its {key} was "
                f"{known.get(key)!r} and is now {facts[key]!r}. Restore it, or give the study "
                "another name."
            )

    def _refuse_foreign_trials(self) -> None:
        if self._optuna.get_trials(deepcopy=False):
            self._record.close()
            raise StudyError(f"{self._record.path}: this Optuna study was not written by itwinai")

    def _plan(self, default: Mapping[str, Any] | None) -> int:
        """Queue what is known beforehand; return the first number that is still free."""
        trials = self._optuna.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == OptunaState.RUNNING:
                self._close_lost(trial)
        waiting = {
            attributes.number_of(trial) for trial in trials if trial.state == OptunaState.WAITING
        }
        self._waiting = len(waiting)
        for result in self.result().trials:
            if result.state is TrialState.INTERRUPTED and result.number not in waiting:
                self._enqueue(result.params, attributes.Plan.to_continue(result))
        numbers = [n for n in map(attributes.number_of, trials) if n is not None]
        if not numbers:
            return self._queue_first_trials(default)
        # With the seed it began with, the sampler would propose its first points again.
        self.algorithm.sampler.reseed_rng()
        return max(numbers) + 1

    def _close_lost(self, trial: FrozenTrial) -> None:
        """Close a trial whose driver died: as it had been decided already, or as interrupted."""
        number, state = attributes.number_of(trial), trial.user_attrs.get(attributes.STATE)
        if number is None or state is None:  # without a state of ours it reads as interrupted
            self._tell_optuna(trial.number, TrialState.INTERRUPTED, {})
        else:
            self._tell_optuna(trial.number, TrialState(state), self._last_metrics(number))

    def _queue_first_trials(self, default: Mapping[str, Any] | None) -> int:
        plans = [] if default is None else [(default, True)]
        plans += [(point, False) for point in self.algorithm.points or ()]
        for number, (params, is_default) in enumerate(plans[: self.total]):
            self._enqueue(params, attributes.Plan(number=number, is_default=is_default))
        return len(plans[: self.total])

    def _last_metrics(self, number: int) -> Mapping[str, float]:
        """Metrics of a trial's last epoch, in whichever of its attempts that was."""
        return next(trial.metrics for trial in self.result().trials if trial.number == number)

    def _take_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _enqueue(self, params: Mapping[str, Any], plan: attributes.Plan) -> None:
        inside = {name: params[name] for name in params if self.space[name].contains(params[name])}
        self._optuna.enqueue_trial(self.space.encode(inside), plan.attributes(params))
        self._waiting += 1

    # -- judging and closing -------------------------------------------------------------------

    def _judge(self, trial: RunningTrial) -> tuple[TrialState, str] | None:
        """Return how the trial ends now, or None if it goes on."""
        if self.fatal is not None:
            return TrialState.INTERRUPTED, "the study ended"
        metric = self.configuration.metric
        value = metric_value(trial.metrics, metric)
        if value is None:
            reason = _missing(metric, trial.metrics)
            self.fail(MissingMetricError(reason))
            return TrialState.FAILED, reason
        if not math.isfinite(value):
            return TrialState.DIVERGED, f"{metric} became {value} in epoch {trial.epochs}"
        trial.optuna.report(value, trial.epochs)
        if trial.epochs >= self.epochs:
            return None
        if trial.optuna.should_prune():
            return TrialState.STOPPED, f"{self.scheduler.name} after epoch {trial.epochs}"
        if self._out_of_time():
            return TrialState.INTERRUPTED, "the study's time budget ended"
        return None

    def _checked_end(
        self, trial: RunningTrial, state: TrialState, reason: str
    ) -> tuple[TrialState, str]:
        """Refuse to call a trial completed that never reported the metric."""
        if state is TrialState.COMPLETED and not trial.metrics:
            reason = _missing(self.configuration.metric, {})
            self.fail(MissingMetricError(reason))
            return TrialState.FAILED, reason
        last = trial.epochs >= self.epochs
        usual = "trained to the last epoch" if last else f"ended itself after epoch {trial.epochs}"
        return state, reason or usual

    def _close(self, trial: RunningTrial, state: TrialState, reason: str) -> None:
        trial.optuna.set_user_attr(attributes.REASON, reason)
        trial.optuna.set_user_attr(attributes.SECONDS, time.monotonic() - trial.started)
        trial.optuna.set_user_attr(attributes.STATE, state.value)
        self._tell_optuna(trial.optuna.number, state, trial.metrics)

    def _tell_optuna(self, number: int, state: TrialState, metrics: Mapping[str, float]) -> None:
        value = metric_value(metrics, self.configuration.metric)
        complete = state is TrialState.COMPLETED
        self._optuna.tell(number, values=value if complete else None, state=state.in_optuna)

    def _tidy(self, trial: RunningTrial, state: TrialState) -> None:
        """Delete checkpoints that nobody will ask for, as ``keep_checkpoints`` says."""
        keep = self.configuration.keep_checkpoints
        if trial.checkpoint is None or keep == "all" or state is TrialState.INTERRUPTED:
            return
        if state is not TrialState.COMPLETED:
            shutil.rmtree(trial.checkpoint, ignore_errors=True)
        elif keep == "best":
            self._keep_better(trial)

    def _keep_better(self, trial: RunningTrial) -> None:
        value = metric_value(trial.metrics, self.configuration.metric)
        assert value is not None
        assert trial.checkpoint is not None
        score = self._score(value)
        if self._best is None or score > self._best[0]:
            loser, self._best = self._best, (score, trial.checkpoint)
        else:
            loser = (score, trial.checkpoint)
        if loser is not None:
            shutil.rmtree(loser[1], ignore_errors=True)

    def _best_so_far(self) -> tuple[float, Path] | None:
        best = self.result().best
        if best is None or best.state is not TrialState.COMPLETED or best.checkpoint is None:
            return None
        value = best.metric(self.configuration.metric)
        return None if value is None else (self._score(value), best.checkpoint)

    def _score(self, value: float) -> float:
        return value if self.configuration.mode == "max" else -value

    def _out_of_time(self) -> bool:
        budget = self.configuration.time_budget_s
        return budget is not None and time.monotonic() - self._started >= budget


def _open_record(configuration: StudyConfiguration) -> StudyRecord:
    path = configuration.directory / FILE_NAME
    if path.exists() and path.stat().st_size and not configuration.resume:
        raise StudyError(
            f"study {configuration.name!r} exists already in {configuration.directory}. "
            "Set study.resume=true to go on with it, or give this one another study.name."
        )
    return StudyRecord(path)


def _total(configuration: StudyConfiguration, algorithm: Algorithm, default: bool) -> int:
    if configuration.num_samples is not None:
        return configuration.num_samples
    if algorithm.points is not None:
        return len(algorithm.points) + int(default)
    return 20


def _missing(metric: str, metrics: Mapping[str, float]) -> str:
    if not metrics:
        return f"study.metric={metric!r} was never reported; the training reported nothing"
    hint = did_you_mean(metric, metrics) or "."
    reported = ", ".join(sorted(metrics))
    return f"study.metric={metric!r} was never reported{hint} Reported: {reported}"
