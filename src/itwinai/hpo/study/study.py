"""The study: asks for trials, hears their reports, decides who goes on, and remembers.

Whoever runs the trials (the Ray engine, a simulation) drives it through :meth:`Study.ask`,
:meth:`Study.report` and :meth:`Study.tell`; every step is in the record before it has an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from itwinai.environ import paused_collection
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import (
    FILE_NAME,
    MemoryRecord,
    NodeVerdict,
    Setup,
    Start,
    StudyResult,
    attributes,
    read_result,
)
from itwinai.hpo.schedulers import Scheduler
from itwinai.hpo.search import Algorithm
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.advisor import Advisor, candidates_of
from itwinai.hpo.study.avoiding import fails_nearby
from itwinai.hpo.study.facts import keep_alike, keep_fact, keep_setup, seeds_of
from itwinai.hpo.study.keeping import CheckpointKeeper
from itwinai.hpo.study.limits import Limits
from itwinai.hpo.study.memory import Memory
from itwinai.hpo.study.nodes import NodeWatch
from itwinai.hpo.study.opening import open_study
from itwinai.hpo.study.outage import Outage
from itwinai.hpo.study.outlook import Candidate, Outlook
from itwinai.hpo.study.pausing import PausedTrials
from itwinai.hpo.study.queue import TrialQueue
from itwinai.hpo.study.running import Listener, RunningTrial
from itwinai.hpo.study.telling import tell_optuna
from itwinai.hpo.study.total import total_trials
from itwinai.hpo.study.verdicts import Verdicts
from itwinai.hpo.study.warm_start import lessons, teach
from itwinai.hpo.trial import AGAIN, Assignment, TrialState, epochs_as_kept

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
        self._objectives = configuration.objectives
        self.space = space
        self.algorithm = algorithm
        self.scheduler = scheduler
        self.epochs = epochs
        self.interrupted = False
        #: What the machines lacked when it ended for that.
        self.lack = ""
        self._nothing_left = False
        #: Whether there was no time left for any further trial.
        self.out_of_time = False
        self._listener = listener
        self._running: dict[int, RunningTrial] = {}
        with paused_collection():
            opened = open_study(configuration, space, epochs, algorithm.sampler, record)
            self._record, self._optuna = opened
            self._plan_first(default, source)
            self._take_up(self.result())

    def _plan_first(self, default: Mapping[str, Any] | None, source: StudyResult | None) -> None:
        """Make the queue; in a new study's are its first trials."""
        configuration, algorithm = self.configuration, self.algorithm
        total = total_trials(configuration, algorithm, default is not None)
        keep_fact(self._optuna, attributes.TOTAL, total)
        seeds = seeds_of(self._optuna, configuration.seed)
        self._queue = TrialQueue(
            self._optuna, self.space, seeds, total, configuration.audit, self.directory_of
        )
        if self._queue.next_number == 0:
            if source is not None:
                teach(self._optuna, source, self.space, self.epochs)
            self._queue.plan_first(default, [*configuration.points, *(algorithm.points or ())])

    def _take_up(self, so_far: StudyResult) -> None:
        """Put together who decides, with what an earlier run has left."""
        configuration, scheduler, epochs = self.configuration, self.scheduler, self.epochs
        self._outage = Outage(configuration, self._record)
        self._limits = Limits(configuration, so_far.cost.elapsed, self._record, self._outage)
        self._memory = Memory(configuration.judged, so_far, lessons(self._optuna, self.space))
        self._memory.retell(scheduler.judge)
        self._outlook = Outlook(epochs, scheduler.judge.rungs, so_far)
        self._nodes = NodeWatch(configuration, self.space, so_far.nodes, self._keep_verdicts)
        self._begun = 0
        self._verdicts = Verdicts(configuration, scheduler, self._memory, self._limits, epochs)
        self._advisor = Advisor(self.algorithm, self._memory)
        self._keeper = CheckpointKeeper(configuration, so_far, candidates_of(self.algorithm))
        self._paused = PausedTrials(self._queue, self._memory, epochs, so_far)
        interrupted = [t for t in so_far.trials if t.state in AGAIN]
        self._last_metrics = {trial.number: trial.metrics for trial in interrupted}
        self._queue.plan_again(interrupted)

    # -- what the engine calls ---------------------------------------------------------------

    def ask(self, proposal: Mapping[str, Any] | None = None) -> Assignment | None:
        """Give the next trial; None when there is none now, or, if ``finished``, none any more.

        Args:
            proposal: Values from outside (a Ray Tune ``Searcher``), in place of the sampler's.
        """
        if self.finished or self.held or self._lacks_time():
            return None
        if not self._plan(proposal):
            self._nothing_left = not self._running
            return None
        trial = self._begin()
        self._listener(trial, TrialState.RUNNING)
        return trial.assignment

    def report(
        self,
        number: int,
        metrics: Mapping[str, float],
        checkpoint: str | None,
        epoch: float,
        steps: int | None = None,
        saved: float | None = None,
    ) -> Answer:
        """Take a report of a trial and say whether it goes on.

        Args:
            number: The trial.
            metrics: All that it reported.
            checkpoint: Its newest checkpoint, or None; the same path again is the same checkpoint.
            epoch: Epochs it has trained, the part of the running one included. What the record
                holds already, reported again by a trial whose worker was lost, is heard but not
                recorded twice.
            steps: Optimizer steps it has made; None: nobody tells. They are recorded only where the
                scheduler counts them.
            saved: Epochs that the checkpoint holds; None: as many as were trained.
        """
        trial, epoch = self._running[number], epochs_as_kept(epoch)
        held = epoch if saved is None else epochs_as_kept(saved)
        newest = None if checkpoint is None else (checkpoint, held)
        trial.came_to(epoch)
        if epoch <= trial.epochs:
            trial.saved(newest)
            return "continue"
        trial.steps = steps if self.scheduler.unit == "steps" else None
        trial.trained(epoch, metrics, newest, self._objectives)
        self._outlook.heard(trial)
        self._queue.plan_again(self._nodes.heard(trial))
        trial.ending = trial.ending or self._verdicts.after_report(trial)
        # To a scheduler or searcher of Ray's a trial that goes on elsewhere would be another one.
        by_ray = self.scheduler.ray is not None or self.algorithm.searcher is not None
        if trial.ending is None and trial.epochs < self.epochs and not by_ray:
            trial.ending = self._nodes.leaves(trial)
            trial.again = trial.ending is not None
        self._listener(trial, TrialState.RUNNING)
        return "continue" if trial.ending is None else "stop"

    def continuation(self, number: int) -> Assignment:
        """How a running trial whose worker was lost goes on: from its newest checkpoint."""
        return self._running[number].continuation()

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

    def postpone(self, number: int, lack: str) -> None:
        """Decide that a running trial ends because its machine lacked something.

        Once that is there, it runs again.
        """
        trial = self._running.get(number)
        if trial is not None and trial.ending is None:
            trial.ending = (TrialState.INTERRUPTED, lack)
            trial.again = self._outage.met_by(number, lack)

    def tell(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close a trial; an ending that the study itself decided takes precedence.

        A second call for the same trial does nothing: an engine may announce an end twice.
        """
        trial = self._running.pop(number, None)
        if trial is None:
            return
        state, reason = self._end_of(trial, state, reason)
        if state is TrialState.COMPLETED:
            # Whatever was recommended was chosen without this one.
            keep_fact(self._optuna, attributes.RECOMMENDED, None)
        trial.ended(state, reason)
        if not tell_optuna(self._optuna, trial.optuna.number, state, trial.metrics):
            self._queue.run_out()
            keep_fact(self._optuna, attributes.TOTAL, self._queue.total)
        self._record.sync()
        self._keeper.ended(trial, state)
        self._memory.ended(number, state)
        if state is not TrialState.INTERRUPTED:
            self._outage.passed()
        self._hand_on(trial, state)
        if not trial.again:
            self._limits.ended(state, reason)
        self._listener(trial, state)

    def _end_of(
        self, trial: RunningTrial, state: TrialState, reason: str
    ) -> tuple[TrialState, str]:
        """What a trial's end counts as; it may be that it runs again on another node."""
        state, reason = trial.ending or self._verdicts.at_end(trial, state, reason)
        elsewhere = None if self.fatal else self._nodes.ended(trial, state, reason)
        if elsewhere is None:
            return state, reason
        trial.again = True
        return elsewhere

    def _hand_on(self, trial: RunningTrial, state: TrialState) -> None:
        """Queue a trial that runs again, keep a paused one, tell the scheduler of any other."""
        number = trial.assignment.number
        if trial.again:
            self._last_metrics[number] = trial.metrics
            self._queue.plan_again([trial.shelved()])
        elif state is TrialState.PAUSED:
            self._paused.add(trial)
            self._last_metrics[number] = trial.metrics
        else:
            completed = state is TrialState.COMPLETED and trial.spared is None
            self.scheduler.judge.ended(number, completed)

    def note_energy(self, number: int, since: float, joules: Mapping[str, float]) -> None:
        """Note what a process of a running trial has used.

        Args:
            number: The trial.
            since: When the process began it, in seconds since 1970.
            joules: What it has used since then, by source.
        """
        trial = self._running.get(number)
        if trial is not None:
            trial.energy[since] = joules

    def note_training(self, number: int, seconds: float) -> None:
        """Note for how long the process of a running trial has trained it."""
        trial = self._running.get(number)
        if trial is not None:
            trial.trained_for(seconds)

    def note_nodes(self, number: int, nodes: Sequence[str]) -> None:
        """Note on which nodes a running trial's processes are, by name."""
        trial = self._running.get(number)
        if trial is not None:
            trial.ran_on(nodes)

    def note_room(self, has_room: Callable[[Collection[str]], bool]) -> None:
        """Set who tells whether trials find room without some nodes; until then all are needed."""
        self._nodes.has_room = has_room

    def note_threads(self, threads: int) -> None:
        """Note how many threads each of a trial's processes has, to repeat a trial bit by bit."""
        keep_fact(self._optuna, attributes.THREADS, threads)

    def note_alike(self, values: Mapping[str, Any]) -> None:
        """Keep what all trials have alike; say what has changed since an earlier run."""
        keep_alike(self._optuna, values)

    def note_setup(self, setup: Setup) -> None:
        """Note who decides in this run and what its trials get, to tell how much is left."""
        keep_setup(self._optuna, setup)

    def note_start(self, start: Start) -> None:
        """Note how this run was started, to tell with what a study can be repeated."""
        key = attributes.next_start_key(self._optuna.user_attrs)
        self._optuna.set_user_attr(key, start.kept())

    def note_runs(self, runs: Mapping[str, str]) -> None:
        """Note the ids of the study's own runs in tracking services, by the logger's name."""
        keep_fact(self._optuna, attributes.RUNS, dict(runs))

    def fail(self, error: StudyError) -> None:
        """End the whole study because of an error that every trial would meet."""
        self._limits.fail(error)

    def close(self, reason: str = "the study was interrupted") -> StudyResult:
        """End the trials that still run as interrupted, release the record, return the result."""
        self.lack = self._outage.exhausted() or self._record.problem
        early = self._limits.seconds_left() or 0.0
        saved = round(early, 1) if self.out_of_time and early > 0 else None
        keep_fact(self._optuna, attributes.EARLY, saved)
        self.interrupted = bool(self._running or self.lack) or not self.finished
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
    def fatal(self) -> StudyError | None:
        """The error that has ended the study, if one has."""
        return self._limits.fatal

    @property
    def finished(self) -> bool:
        """Whether no further trial will start."""
        ends = self.fatal is not None or self._limits.reached() is not None
        return ends or self.out_of_time or self.all_started

    @property
    def leaves_to_next_job(self) -> bool:
        """Whether the job had no time left for any further trial."""
        return self.out_of_time and self._limits.job_ends_first

    @property
    def held(self) -> bool:
        """Whether no trial starts for now, because the machines lack something."""
        return self._outage.lasts

    @property
    def nodes_at_fault(self) -> tuple[NodeVerdict, ...]:
        """What is known of slow and broken nodes."""
        return self._nodes.verdicts

    @property
    def left_out(self) -> frozenset[str]:
        """The nodes, by name or address, that get no trials now."""
        return self._nodes.left_out

    def avoided_by(self, number: int) -> frozenset[str]:
        """The nodes on which a trial does not begin: those, and one on which it has failed."""
        return self._nodes.avoided(number)

    @property
    def leaving(self) -> int:
        """How many trials still run on nodes that get no more."""
        left_out = self._nodes.left_out
        return sum(trial.node in left_out for trial in self._running.values())

    @property
    def has_running(self) -> bool:
        """Whether a trial has begun and not ended."""
        return bool(self._running)

    @property
    def all_started(self) -> bool:
        """Whether all trials have started that were planned."""
        settled = self._nothing_left or not self.scheduler.judge.pauses
        return settled and not self._queue.more and not self._queue.waiting

    @property
    def has_waiting(self) -> bool:
        """Whether the next trial is planned already (default, grid's point, resumed one)."""
        return self._queue.waiting

    @property
    def total(self) -> int:
        """Trials that the study runs in all."""
        return self._queue.total

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
        """Number of the completed trial that the search algorithm would use, if it has a view.

        An earlier run may have deleted the checkpoints of trials that were not the best then.
        """
        kept = [t.number for t in self.result().trials if t.checkpoint is not None]
        return self._advisor.recommendation(kept)

    def _keep_verdicts(self, verdicts: Sequence[NodeVerdict]) -> None:
        keep_fact(self._optuna, attributes.NODES, [vars(verdict) for verdict in verdicts])

    # -- which trial comes next --------------------------------------------------------------

    def _plan(self, proposal: Mapping[str, Any] | None) -> bool:
        """Make sure that the queue has a next trial; tell whether it does."""
        if not self._queue.waiting:
            self._unpause()
        if self._queue.waiting:
            return True
        if not self._queue.more:
            return False
        if proposal is None:
            proposal = self._advisor.proposal()
        if proposal is not None:
            self._queue.plan_next(proposal)
        return True

    def _lacks_time(self) -> bool:
        """Whether the next trial could come nowhere before the study has to end.

        The first one of a run begins all the same: a job that is too short must not keep all from
        going on.
        """
        left = self._limits.seconds_left()
        if left is None or self._begun == 0 or not (self._queue.more or self._queue.waiting):
            return False
        planned = self._queue.next_candidate() if self._queue.waiting else None
        start = planned or Candidate(self._queue.next_number)
        self.out_of_time = self._outlook.seconds_needed(start) > left
        return self.out_of_time

    def _unpause(self) -> None:
        """Queue the paused trial that goes on now, if any, or the copy that takes its place."""
        number = self.scheduler.judge.resume(self._queue.more, bool(self._running))
        if number is None:
            return
        self._paused.plan(number)
        model = self.scheduler.judge.successor(number)
        if model is None:
            return
        beginning = self._paused.beginning(model, self._running.get(model))
        if beginning is not None:  # otherwise it goes on itself
            self._begin()
            reason = f"{self.scheduler.name}: a copy of trial {model} goes on in its place"
            self.tell(number, TrialState.STOPPED, reason)
            self._paused.plan_copy(model, beginning)

    def _avoid(self, params: Mapping[str, Any]) -> bool:
        """Whether the algorithm cares for failures, and trials beside these values have failed."""
        return self.algorithm.avoids and fails_nearby(self.space, params, self._memory.known())

    def _begin(self) -> RunningTrial:
        """Take the queue's next trial."""
        trial = self._queue.next(self._avoid)
        number = trial.assignment.number
        trial.earlier = self._memory.begun(trial)
        if trial.checkpoint is not None:
            trial.metrics = self._last_metrics.get(number, {})
        self._running[number] = trial
        self._begun += 1
        self._paused.begun(number)
        self.scheduler.judge.began(number)
        return trial
