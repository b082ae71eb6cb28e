"""The study: asks for trials, hears their epochs, decides who goes on, and remembers.

Whoever runs the trials (the Ray engine, a simulation) drives it through :meth:`Study.ask`,
:meth:`Study.report` and :meth:`Study.tell`; every step is in the record before it has an effect.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itwinai.environ import paused_collection
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import MissingMetricError, StudyError, TrialsFailedError
from itwinai.hpo.objectives import losses_of
from itwinai.hpo.record import FILE_NAME, MemoryRecord, StudyResult, attributes, read_result
from itwinai.hpo.schedulers import Scheduler
from itwinai.hpo.search import Algorithm
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.copying import copy_checkpoint, perturbed
from itwinai.hpo.study.keeping import CheckpointKeeper
from itwinai.hpo.study.limits import FailFast, Limits
from itwinai.hpo.study.memory import Memory
from itwinai.hpo.study.opening import keep_fact, open_study, seeds_of, tell_optuna
from itwinai.hpo.study.queue import TrialQueue
from itwinai.hpo.study.running import Listener, RunningTrial
from itwinai.hpo.study.verdicts import Ending, Verdicts, missing
from itwinai.hpo.study.warm_start import lessons, teach
from itwinai.hpo.trial import OPEN, Assignment, TrialResult, TrialState

#: Of so many of the best trials a model may recommend another one than the one with the best value.
_CANDIDATES = 5

Answer = Literal["continue", "stop"]


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
        record: A record in memory; None: the one in the study's folder.
        source: A study whose trials a new one learns from.

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
        record: MemoryRecord | None = None,
        source: StudyResult | None = None,
    ) -> None:
        self.configuration = configuration
        self.space = space
        self.algorithm = algorithm
        self.scheduler = scheduler
        self.epochs = epochs
        self.fatal: StudyError | None = None
        self.interrupted = False
        self._exhausted = False
        self._copies = 0
        self._nothing_left = False
        self._listener = listener
        self._running: dict[int, RunningTrial] = {}
        self._has_default = default is not None
        self._failing = FailFast(configuration.fail_fast)
        facts = {
            "objectives": [vars(objective) for objective in configuration.objectives],
            "epochs": epochs,
            "space": space.describe(),
            "constraints": [constraint.text for constraint in space.constraints],
        }
        with paused_collection():
            self._open(facts, default, record, source)

    def _open(
        self,
        facts: Mapping[str, Any],
        default: Mapping[str, Any] | None,
        record: MemoryRecord | None,
        source: StudyResult | None,
    ) -> None:
        """Open the record, and plan a new study's first trials."""
        configuration, algorithm, space = self.configuration, self.algorithm, self.space
        self._record, self._optuna = open_study(configuration, facts, algorithm.sampler, record)
        keep_fact(self._optuna, attributes.TOTAL, self.total)
        self._seeds = seeds_of(self._optuna, configuration.seed)
        self._rng = np.random.default_rng(
            [self._seeds.entropy, len(self._optuna.get_trials(False))]
        )
        self._queue = TrialQueue(self._optuna, space, self._rng)
        if self._queue.next_number == 0 and source is not None:
            teach(self._optuna, source, space)
        if self._queue.next_number == 0:
            first = [*configuration.points, *(algorithm.points or ())]
            self._queue.plan_first(default, first, self.total)
        self._take_up(self.result())

    def _take_up(self, so_far: StudyResult) -> None:
        """Go on where an earlier run has stopped."""
        budget = self.configuration.time_budget_s
        self._limits = Limits(budget, so_far.cost.elapsed, self.directory)
        self._copies = sum(trial.parent is not None for trial in so_far.trials)
        self._memory = Memory(self.configuration.judged, so_far)
        for params, history in lessons(self._optuna, self.space):
            self._memory.learn(params, history)
        objectives, judged = self.configuration.objectives, self.configuration.judged
        self._verdicts = Verdicts(
            objectives, judged, self.scheduler, self._memory, self._limits, self.epochs
        )
        for report in self._memory.reports():
            self.scheduler.judge.hear(report)
        for trial in so_far.trials:
            if trial.state not in OPEN:
                self.scheduler.judge.ended(trial.number, trial.state is TrialState.COMPLETED)
        interrupted = [t for t in so_far.trials if t.state is TrialState.INTERRUPTED]
        self._queue.plan_again(interrupted)
        self._last_metrics = {trial.number: trial.metrics for trial in interrupted}
        self._paused = {t.number: t for t in so_far.trials if t.state is TrialState.PAUSED}
        policy = self.configuration.keep_checkpoints
        candidates = 1 if self.algorithm.proposer is None else _CANDIDATES
        self._keeper = CheckpointKeeper(policy, self.configuration.objectives, so_far, candidates)

    # -- what the engine calls ---------------------------------------------------------------

    def ask(self, proposal: Mapping[str, Any] | None = None) -> Assignment | None:
        """Give the next trial; None when there is none now, or, if ``finished``, none any more.

        Args:
            proposal: Values from outside (a Ray Tune ``Searcher``), in place of the sampler's.
        """
        if self.finished:
            return None
        if not self._plan(proposal):
            self._nothing_left = not self._running
            return None
        running = self._begin()
        self._listener(running, TrialState.RUNNING)
        return running.assignment

    def _begin(self) -> RunningTrial:
        """Take the queue's next trial."""
        trial, plan, params = self._queue.next()
        assert plan.number is not None
        assignment = Assignment(
            number=plan.number,
            params=params,
            directory=str(self.directory_of(plan.number)),
            checkpoint=plan.checkpoint,
            epochs=plan.epochs,
            seed=self._seeds.of_trial(plan.number),
        )
        running = RunningTrial(assignment, trial, plan.epochs)
        running.earlier = self._memory.begun(plan.number, params, plan.epochs, plan.parent)
        if plan.checkpoint is not None:
            running.metrics = self._last_metrics.get(plan.number, {})
            running.checkpoint, running.checkpoint_epochs = Path(plan.checkpoint), plan.epochs
        self._running[plan.number] = running
        self._paused.pop(plan.number, None)
        self.scheduler.judge.began(plan.number)
        return running

    def report(
        self, number: int, metrics: Mapping[str, float], checkpoint: str | None, epoch: int
    ) -> Answer:
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
        trial.epochs, trial.metrics = epoch, dict(metrics)
        entry = [trial.metrics, round(trial.seconds, 3)]
        trial.optuna.set_user_attr(attributes.epoch_key(epoch), entry)
        if checkpoint is not None and Path(checkpoint) != trial.checkpoint:
            trial.checkpoint, trial.checkpoint_epochs = Path(checkpoint), epoch
            trial.optuna.set_user_attr(attributes.CHECKPOINT, [epoch, checkpoint])
        self._report_to_optuna(trial)
        trial.ending = trial.ending or self._verdict(trial)
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

    def end(self, number: int, state: TrialState, reason: str) -> None:
        """Decide from outside the study how a running trial ends, before its engine tells it."""
        trial = self._running.get(number)
        if trial is not None and trial.ending is None:
            trial.ending = (state, reason)

    def stop(self, number: int) -> None:
        """Decide from outside the study that a trial stops early (a Ray Tune scheduler's verdict).

        A trial that has trained to the last epoch is complete all the same.
        """
        trial = self._running.get(number)
        if trial is not None and trial.epochs < self.epochs:
            self.end(number, TrialState.STOPPED, self._verdicts.by_scheduler(trial))

    def tell(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close a trial; an ending that the study itself decided takes precedence.

        A second call for the same trial does nothing: an engine may announce an end twice.
        """
        trial = self._running.pop(number, None)
        if trial is None:
            return
        state, reason = trial.ending or self._checked_end(trial, state, reason)
        end = attributes.End(state.value, reason, round(time.monotonic() - trial.started, 6))
        trial.optuna.set_user_attr(attributes.END, vars(end))
        more = tell_optuna(self._optuna, trial.optuna.number, state, trial.metrics)
        self._exhausted = self._exhausted or not more
        self._record.sync()
        losses = losses_of(self.configuration.objectives, trial.metrics)
        self._keeper.ended(state, losses, trial.checkpoint)
        self._memory.ended(number, state)
        self._follow_up(trial, state)
        self._give_up_early(state, reason)
        self._listener(trial, state)

    def note_threads(self, threads: int) -> None:
        """Note how many threads each of a trial's processes has, to repeat a trial bit by bit."""
        keep_fact(self._optuna, attributes.THREADS, threads)

    def note_runs(self, runs: Mapping[str, str]) -> None:
        """Note the ids of the study's own runs in tracking services, by the logger's name."""
        keep_fact(self._optuna, attributes.RUNS, dict(runs))

    def fail(self, error: StudyError) -> None:
        """End the whole study because of an error that every trial would meet."""
        self.fatal = self.fatal or error

    def close(self, reason: str = "the study was interrupted") -> StudyResult:
        """End the trials that still run as interrupted, release the record, return the result."""
        self.interrupted = bool(self._running) or not self.finished
        reason = self._limits.reached() or reason
        for number in list(self._running):
            self.tell(number, TrialState.INTERRUPTED, reason)
        recommended = self.recommend()
        if recommended is not None:
            self._optuna.set_user_attr(attributes.RECOMMENDED, recommended)
        best = self.result().best
        if best is not None and not self.interrupted:
            self._keeper.close(best.checkpoint)
        self._record.close()
        return self.result()

    # -- what others read --------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether no further trial will start."""
        ends = self.fatal is not None or self._limits.reached() is not None
        return ends or self.all_started

    @property
    def all_started(self) -> bool:
        """Whether all trials have started that were planned."""
        return not self._more and not self._queue.waiting and self._settled

    @property
    def has_waiting(self) -> bool:
        """Whether the next trial is planned already (default, grid's point, resumed one)."""
        return self._queue.waiting

    @property
    def total(self) -> int:
        """Trials that the study runs in all."""
        return total_trials(self.configuration, self.algorithm, self._has_default) + self._copies

    @property
    def runs(self) -> Mapping[str, str]:
        """Ids of the study's own runs in tracking services, by the logger's name."""
        runs: Mapping[str, str] = self._optuna.user_attrs.get(attributes.RUNS, {})
        return runs

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

    def recommend(self) -> int | None:
        """Number of the completed trial that the search algorithm would use, if it has a view."""
        if self.algorithm.proposer is None:
            return None
        known = self._memory.observations()
        numbers, observations = list(known), list(known.values())
        own = [i for i, seen in enumerate(observations) if seen.finished and numbers[i] >= 0]
        best = sorted(own, key=lambda index: observations[index].curve[-1])[:_CANDIDATES]
        index = self.algorithm.proposer.recommend(observations, best)
        return None if index is None else numbers[index]

    # -- inside --------------------------------------------------------------------------------

    @property
    def _more(self) -> bool:
        """Whether there are new trials to propose."""
        return not self._exhausted and self._queue.next_number < self.total

    @property
    def _settled(self) -> bool:
        """Whether no trial that pauses, or may yet pause, will go on."""
        return not self.scheduler.judge.pauses or self._nothing_left

    def _plan(self, proposal: Mapping[str, Any] | None) -> bool:
        """Make sure that the queue has a next trial; tell whether it does."""
        if not self._queue.waiting:
            self._unpause()
        if self._queue.waiting:
            return True
        if not self._more:
            return False
        if proposal is None and self.algorithm.proposer is not None:
            observations = list(self._memory.observations().values())
            proposal = self.algorithm.proposer.propose(observations)
        if proposal is not None:
            self._queue.plan_next(proposal)
        return True

    def _unpause(self) -> None:
        """Queue the paused trial that goes on now, if any."""
        number = self.scheduler.judge.resume(self._more, bool(self._running))
        if number is None:
            return
        self._queue.plan_again([self._paused[number]])
        model = self.scheduler.judge.successor(number)
        if model is not None:
            self._begin()
            reason = f"{self.scheduler.name}: a copy of trial {model} goes on in its place"
            self.tell(number, TrialState.STOPPED, reason)
            self._plan_copy(model)

    def _follow_up(self, trial: RunningTrial, state: TrialState) -> None:
        """Shelve a trial that paused; let the scheduler know of one that has ended for good."""
        number = trial.assignment.number
        if state is TrialState.PAUSED:
            self._paused[number] = _shelved(trial)
            return
        self.scheduler.judge.ended(number, state is TrialState.COMPLETED)

    def _plan_copy(self, model: int) -> None:
        source = self._running.get(model) or self._paused.get(model)
        checkpoint = None
        # From a checkpoint of its last epoch there would be nothing left to train.
        if source is not None and source.checkpoint_epochs < self.epochs:
            folder = self.directory_of(self._queue.next_number)
            checkpoint = copy_checkpoint(source.checkpoint, folder)
        epochs = source.checkpoint_epochs if source is not None and checkpoint else 0
        params = perturbed(self.space, self._memory.params(model), self._rng)
        self._copies += 1
        self._queue.plan_copy(params, model, checkpoint, epochs)

    def _give_up_early(self, state: TrialState, reason: str) -> None:
        """End a study whose first trials all failed alike: the next ones would fail as well."""
        first = self._failing.hear(state, reason)
        if first is not None:
            self.fail(
                TrialsFailedError(
                    f"the first {self.configuration.fail_fast} trials all failed, so the study "
                    f"ends here. The first one: {first}. Their logs: {self.directory / 'trials'}"
                )
            )

    def _report_to_optuna(self, trial: RunningTrial) -> None:
        """Give Optuna's tools the curve; with several objectives it takes none."""
        first, *others = self.configuration.objectives
        value = first.value(trial.metrics)
        if not others and value is not None and math.isfinite(value):
            trial.optuna.report(value, trial.epochs)

    def _verdict(self, trial: RunningTrial) -> Ending | None:
        """Return how the trial ends now, or None if it goes on."""
        if self.fatal is not None:
            return TrialState.INTERRUPTED, "the study ended"
        try:
            return self._verdicts.after_epoch(trial)
        except MissingMetricError as error:
            self.fail(error)
            return TrialState.FAILED, str(error)

    def _checked_end(
        self, trial: RunningTrial, state: TrialState, reason: str
    ) -> tuple[TrialState, str]:
        """Refuse to call a trial completed that never reported the metric."""
        if state is TrialState.COMPLETED and not trial.metrics:
            reason = missing(self.configuration.objectives[0].metric, {})
            self.fail(MissingMetricError(reason))
            return TrialState.FAILED, reason
        last = trial.epochs >= self.epochs
        usual = "trained to the last epoch" if last else f"ended itself after epoch {trial.epochs}"
        return state, reason or usual


def total_trials(configuration: StudyConfiguration, algorithm: Algorithm, default: bool) -> int:
    """Trials that a study runs in all: the user's number, a grid's points, or 20."""
    if configuration.num_samples is not None:
        return configuration.num_samples
    if algorithm.points is not None:
        return len(algorithm.points) + len(configuration.points) + int(default)
    return 20


def _shelved(trial: RunningTrial) -> TrialResult:
    return TrialResult(
        number=trial.assignment.number,
        state=TrialState.PAUSED,
        params=trial.assignment.params,
        history=(trial.metrics,),
        checkpoint=trial.checkpoint,
        checkpoint_epochs=trial.checkpoint_epochs,
        is_default=attributes.DEFAULT in trial.optuna.user_attrs,
        parent=trial.optuna.user_attrs.get(attributes.PARENT),
    )
