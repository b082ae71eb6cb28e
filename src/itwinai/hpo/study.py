"""The study: asks for trials, hears their epochs, decides who goes on, and remembers.

Whoever runs the trials (the Ray engine, a simulation) drives it through :meth:`Study.ask`,
:meth:`Study.report` and :meth:`Study.tell`; every step is in the record before it has an effect.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import optuna

from itwinai.errors import did_you_mean
from itwinai.hpo import attributes
from itwinai.hpo.algorithms import Algorithm
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import MissingMetricError, StudyError, TrialsFailedError
from itwinai.hpo.keeping import CheckpointKeeper
from itwinai.hpo.opening import open_study, tell_optuna
from itwinai.hpo.queue import TrialQueue
from itwinai.hpo.record import FILE_NAME
from itwinai.hpo.results import StudyResult, read_result
from itwinai.hpo.schedulers import Scheduler
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import Assignment, TrialState, metric_value

#: Failed trials without any other at the beginning of a study, after which it ends.
_FAILURES_TO_GIVE_UP = 3

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
        self.interrupted = False
        self._exhausted = False
        self._listener = listener
        self._running: dict[int, RunningTrial] = {}
        self._only_failures: list[str] | None = []
        self._started = time.monotonic()
        self._has_default = default is not None
        facts = {
            "metric": configuration.metric,
            "mode": configuration.mode,
            "epochs": epochs,
            "space": space.describe(),
        }
        self._record, self._optuna = open_study(
            configuration, facts, algorithm.sampler, scheduler.pruner
        )
        self._queue = TrialQueue(self._optuna, space)
        if self._queue.next_number == 0:
            self._queue.plan_first(default, algorithm.points or (), self.total)
        so_far = self.result()
        self._queue.plan_again(so_far.trials)
        self._keeper = CheckpointKeeper(configuration.keep_checkpoints, so_far)

    # -- what the engine calls ---------------------------------------------------------------

    def ask(self, proposal: Mapping[str, Any] | None = None) -> Assignment | None:
        """Give the next trial, or None when the study has no more.

        Args:
            proposal: Values from outside (a Ray Tune ``Searcher``), in place of the sampler's.
        """
        if self.finished:
            return None
        if proposal is not None and not self._queue.waiting:
            self._queue.plan_next(proposal)
        trial, plan, params = self._queue.next()
        assert plan.number is not None
        assignment = Assignment(
            number=plan.number,
            params=params,
            directory=str(self.directory_of(plan.number)),
            checkpoint=plan.checkpoint,
            epochs=plan.epochs,
            seed=self.configuration.seed,
        )
        running = RunningTrial(assignment, trial, plan.epochs)
        if plan.checkpoint is not None:
            running.metrics = self._last_metrics(plan.number)
            running.checkpoint = Path(plan.checkpoint)
            running.checkpoint_epochs = plan.epochs
        self._running[plan.number] = running
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
        trial.optuna.set_user_attr(attributes.REASON, reason)
        trial.optuna.set_user_attr(attributes.SECONDS, time.monotonic() - trial.started)
        trial.optuna.set_user_attr(attributes.STATE, state.value)
        more = tell_optuna(self._optuna, trial.optuna.number, state, trial.metrics)
        self._exhausted = self._exhausted or not more
        self._record.sync()
        value = metric_value(trial.metrics, self.configuration.metric)
        self._keeper.ended(state, value, trial.checkpoint)
        self._give_up_early(state, reason)
        self._listener(trial, state)

    def fail(self, error: StudyError) -> None:
        """End the whole study because of an error that every trial would meet."""
        self.fatal = self.fatal or error

    def close(self, reason: str = "the study was interrupted") -> StudyResult:
        """End the trials that still run as interrupted, release the record, return the result."""
        self.interrupted = bool(self._running) or not self.finished
        for number in list(self._running):
            self.tell(number, TrialState.INTERRUPTED, reason)
        self._record.close()
        return self.result()

    # -- what others read --------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether no further trial will start."""
        enough = self._exhausted or self._queue.next_number >= self.total
        done = enough and not self._queue.waiting
        return done or self.fatal is not None or self._out_of_time()

    @property
    def has_waiting(self) -> bool:
        """Whether the next trial is planned already (default, grid's point, resumed one)."""
        return self._queue.waiting

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

    # -- inside --------------------------------------------------------------------------------

    def _last_metrics(self, number: int) -> Mapping[str, float]:
        """Metrics of a trial's last epoch, in whichever of its attempts that was."""
        return next(trial.metrics for trial in self.result().trials if trial.number == number)

    def _give_up_early(self, state: TrialState, reason: str) -> None:
        """End a study whose first trials all failed: the next ones would fail as well."""
        if state is not TrialState.FAILED:
            self._only_failures = None
        if self._only_failures is None:
            return
        self._only_failures.append(reason)
        if len(self._only_failures) >= _FAILURES_TO_GIVE_UP:
            self.fail(
                TrialsFailedError(
                    f"the first {_FAILURES_TO_GIVE_UP} trials all failed, so the study ends here. "
                    f"The first one: {self._only_failures[0]}. "
                    f"Their logs: {self.directory / 'trials'}"
                )
            )

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

    def _out_of_time(self) -> bool:
        budget = self.configuration.time_budget_s
        return budget is not None and time.monotonic() - self._started >= budget


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
