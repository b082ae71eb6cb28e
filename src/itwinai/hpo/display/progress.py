"""What a user sees while a study runs: a live table on a terminal, otherwise a line per trial."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.live import Live

from itwinai.hpo.display.tally import Tally
from itwinai.hpo.display.view import Snapshot, ended_line, live_table, starting
from itwinai.hpo.record import NodeVerdict, StudyResult, attributes
from itwinai.hpo.study import RunningTrial, Study
from itwinai.hpo.trial import TrialResult, TrialState


class StudyProgress:
    """Shows how a study goes.

    Args:
        console: Where to; a terminal gets a live table, anything else plain lines.
        clock: Tells the seconds that have passed.

    Example:
        >>> progress = StudyProgress()  # doctest: +SKIP
        >>> study = Study(..., listener=progress.update)  # doctest: +SKIP
        >>> with progress.follow(study, slots=8):  # doctest: +SKIP
        ...     run_trials(study, program, resources)
        ...     result = study.close()
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console()
        self._clock = clock
        self._now: Snapshot | None = None
        self._tally: Tally | None = None
        self._trials: dict[int, TrialResult] = {}
        self._began = 0.0
        self._total: Callable[[], int] = lambda: 0
        self._nodes: Callable[[], tuple[NodeVerdict, ...]] = lambda: ()
        self._first_heard: float | None = None
        # The table is drawn by a thread of its own.
        self._lock = threading.RLock()

    @contextmanager
    def follow(self, study: Study, slots: int | None = None) -> Iterator[None]:
        """Show a study as long as the context lasts.

        Args:
            study: The study, before its first trial; its listener is :meth:`update`.
            slots: Trials that will run at the same time, if known.
        """
        result = study.result()
        self._trials = {trial.number: trial for trial in result.trials}
        self._tally = Tally(result)
        self._began, self._first_heard = self._clock(), None
        self._total = lambda: study.total
        self._nodes = lambda: study.nodes_at_fault
        budget = study.configuration.time_budget_s
        if budget is not None:  # of all runs together
            budget = max(0.0, budget - result.cost.elapsed)
        self._now = Snapshot(result, study.total, slots, budget=budget)
        if self._console.is_interactive:
            with self._table():
                yield
        else:
            self._say(starting(slots))
            yield

    def update(self, trial: RunningTrial, state: TrialState) -> None:
        """Take a trial's start, report or end: the listener of a :class:`Study`."""
        if self._now is None or self._tally is None:
            return
        with self._lock:
            before = self._trials.pop(trial.assignment.number, None)
            seen = _seen(trial, state, before)
            self._trials[seen.number] = seen  # the latest comes last
            take = self._tally.heard if state is TrialState.RUNNING else self._tally.ended
            take(seen)
            known = before.epochs if before else trial.assignment.epochs
            gained = max(0, seen.epochs - known)
            self._now = replace(
                self._now,
                epochs=self._now.epochs + gained,
                first=self._now.first if self._now.epochs else gained or 1,
                total=self._total(),  # a population's copies add to it
                over=self._now.over or (state is TrialState.INTERRUPTED and not trial.again),
            )
            if self._first_heard is None and (gained or state is not TrialState.RUNNING):
                self._first_heard = self._clock()
        if state is not TrialState.RUNNING and not self._console.is_interactive:
            self._say(ended_line(self._moment(self._tally.result), seen))

    def snapshot(self) -> Snapshot:
        """The study as it stands.

        Raises:
            RuntimeError: If no study is followed yet.
        """
        if self._tally is None:
            raise RuntimeError("StudyProgress follows no study yet")
        with self._lock:
            every = tuple(self._trials.values())
            return self._moment(replace(self._tally.result, trials=every, nodes=self._nodes()))

    def _moment(self, result: StudyResult) -> Snapshot:
        """The study as it stands, with what is to be seen of its trials."""
        assert self._now is not None
        assert self._tally is not None
        clock = self._clock()
        return replace(
            self._now,
            result=result,
            elapsed=clock - self._began,
            heard=None if self._first_heard is None else clock - self._first_heard,
            done=self._tally.done,
            epochs_left=self._tally.epochs_left(self._now.total),
        )

    @contextmanager
    def _table(self) -> Iterator[None]:
        live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=4)
        live.start(refresh=True)
        try:
            yield
        finally:
            self._end()
            live.stop()

    def _end(self) -> None:
        with self._lock:
            self._now = replace(self.snapshot(), over=True)

    def _draw(self) -> RenderableType:
        return live_table(self.snapshot(), self._console.height)

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def _seen(trial: RunningTrial, state: TrialState, before: TrialResult | None) -> TrialResult:
    """Add what is new of a trial to what was known of it."""
    known = zip(before.at, before.history, strict=True) if before else ()
    reports = {at: metrics for at, metrics in known if at <= trial.epochs}
    if trial.metrics:
        reports[trial.epochs] = trial.metrics
    # Optuna copies all attributes at every look, so look only when there is news.
    attrs = trial.optuna.user_attrs if before is None or state is not TrialState.RUNNING else {}
    return TrialResult(
        number=trial.assignment.number,
        # A trial whose end is decided is not running any more, though its slot may not know yet.
        state=trial.ending[0] if trial.ending and state is TrialState.RUNNING else state,
        params=trial.assignment.params,
        history=tuple(reports.values()),
        at=tuple(reports),
        reason=attributes.End.read(attrs).reason,
        is_default=trial.plan.is_default,
        is_audited=trial.plan.is_audited,
        spared=trial.spared,
        parent=trial.plan.parent,
    )
