"""What a user sees while a study runs: a live table on a terminal, otherwise a line per trial.

What is shown is a function of a :class:`Snapshot`; only :class:`StudyProgress` knows time.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from itwinai import logger
from itwinai.hpo import attributes
from itwinai.hpo.results import StudyResult
from itwinai.hpo.study import RunningTrial, Study
from itwinai.hpo.summary import OTHER_ENDS, duration, name_of, number, one_line, parameters, plural
from itwinai.hpo.trial import TrialResult, TrialState

#: Completed trials that stay in view however many others have ended since.
_BEST_SHOWN = 3

#: Lines around the rows: header and rule, "... n more", two of status, a failure, the cursor.
_OTHER_LINES = 7

#: Characters of a hyper-parameter's column at most.
_WIDEST = 20

_STYLES = {
    TrialState.RUNNING: "cyan",
    TrialState.COMPLETED: "green",
    TrialState.STOPPED: "dim",
    TrialState.DIVERGED: "yellow",
    TrialState.FAILED: "red",
    TrialState.INTERRUPTED: "yellow",
}


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment of its run.

    Attributes:
        result: The study; its trials end with the one that ended last.
        total: Trials that it runs in all.
        slots: Trials at the same time, or None if nobody knows.
        elapsed: Seconds since the run began.
        heard: Seconds since the first epoch or end of a trial; None before.
        epochs: Epochs heard of in this run; an earlier run of a resumed study does not count.
        budget: Seconds that the run may take, or None.
    """

    result: StudyResult
    total: int
    slots: int | None = None
    elapsed: float = 0.0
    heard: float | None = None
    epochs: int = 0
    budget: float | None = None

    def count(self, state: TrialState) -> int:
        """Count the trials in a state."""
        return sum(trial.state is state for trial in self.result.trials)

    @property
    def done(self) -> tuple[TrialResult, ...]:
        """The trials that have ended for good; an interrupted one goes on some day."""
        open_states = (TrialState.RUNNING, TrialState.INTERRUPTED)
        return tuple(trial for trial in self.result.trials if trial.state not in open_states)


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
        self._trials: dict[int, TrialResult] = {}
        self._began = 0.0
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
        self._began, self._first_heard = self._clock(), None
        self._now = Snapshot(result, study.total, slots, budget=study.configuration.time_budget_s)
        if self._console.is_interactive:
            with self._table():
                yield
        else:
            self._say(starting(slots))
            yield

    def update(self, trial: RunningTrial, state: TrialState) -> None:
        """Take a trial's start, epoch or end: the listener of a :class:`Study`."""
        if self._now is None:
            return
        with self._lock:
            number = trial.assignment.number
            seen = _seen(trial, state, self._trials.pop(number, None))
            self._trials[number] = seen
            is_epoch = state is TrialState.RUNNING and bool(trial.metrics)
            self._now = replace(self._now, epochs=self._now.epochs + is_epoch)
            if self._first_heard is None and (is_epoch or state is not TrialState.RUNNING):
                self._first_heard = self._clock()
        if state is not TrialState.RUNNING and not self._console.is_interactive:
            self._say(ended_line(self.snapshot(), seen))

    def snapshot(self) -> Snapshot:
        """The study as it stands.

        Raises:
            RuntimeError: If no study is followed yet.
        """
        if self._now is None:
            raise RuntimeError("StudyProgress follows no study yet")
        with self._lock:
            clock = self._clock()
            return replace(
                self._now,
                result=replace(self._now.result, trials=tuple(self._trials.values())),
                elapsed=clock - self._began,
                heard=None if self._first_heard is None else clock - self._first_heard,
            )

    @contextmanager
    def _table(self) -> Iterator[None]:
        live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=4)
        plain = sys.stdout
        live.start(refresh=True)
        try:
            # Live lets what is printed appear above the table, but only through sys.stdout.
            with _log_messages_move(plain, sys.stdout):
                yield
        finally:
            live.stop()

    def _draw(self) -> RenderableType:
        return live_table(self.snapshot(), self._console.height)

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def live_table(now: Snapshot, height: int) -> RenderableType:
    """Draw the trials that fit into ``height`` lines, and the status below them."""
    shown = visible(now.result, max(1, height - _OTHER_LINES))
    lines: list[RenderableType] = []
    if shown:
        lines.append(_rows(now.result, shown))
    if len(shown) < len(now.result.trials):
        lines.append(_line(f" ... {len(now.result.trials) - len(shown)} more", "dim"))
    failed = [trial for trial in now.result.trials if trial.state is TrialState.FAILED]
    if failed:
        lines.append(_line(f" {name_of(failed[-1])} failed: {one_line(failed[-1].reason)}", "red"))
    lines.append(_line(f" {counts(now)}", "bold"))
    lines.append(_line(f" {outlook(now)}", "bold"))
    return Group(*lines)


def visible(result: StudyResult, count: int) -> tuple[TrialResult, ...]:
    """Choose at most ``count`` trials: the running ones, the best completed, the newest ended."""
    running = [trial for trial in result.trials if trial.state is TrialState.RUNNING]
    ended = [trial for trial in result.trials if trial.state is not TrialState.RUNNING]
    complete = [trial for trial in ended if trial.state is TrialState.COMPLETED]
    best = sorted(
        complete, key=lambda t: t.metric(result.metric) or 0, reverse=result.mode == "max"
    )
    wanted = [*running, *best[:_BEST_SHOWN], *reversed(ended)]
    numbers = list(dict.fromkeys(trial.number for trial in wanted))[:count]
    by_number = {trial.number: trial for trial in wanted}
    return tuple(by_number[number] for number in sorted(numbers))


def counts(now: Snapshot) -> str:
    """Say how many trials are done, run, and ended in some other way than by completion."""
    parts = [f"{len(now.done)}/{now.total} trials done", f"{now.count(TrialState.RUNNING)} running"]
    parts += [
        f"{now.count(state)} {word}" for state, word in OTHER_ENDS.items() if now.count(state)
    ]
    return ", ".join(parts)


def outlook(now: Snapshot) -> str:
    """Say what is best, how long it took, and how long it will take."""
    if now.heard is None:
        return f"{starting(now.slots)} {duration(now.elapsed)}"
    return ", ".join([best_so_far(now.result), duration(now.elapsed), *_left(now)])


def ended_line(now: Snapshot, trial: TrialResult) -> str:
    """Describe a trial that just ended, and where the study stands, in one line."""
    parts = [
        f"{name_of(trial)} {trial.state.value} at epoch {trial.epochs}/{now.result.epochs}",
        f"{now.result.metric}={score(now.result, trial)}" if trial.epochs else "",
        "" if trial.state is TrialState.COMPLETED else f"({one_line(trial.reason)})",
        parameters(trial.params),
    ]
    study = [f"{len(now.done)}/{now.total}", best_so_far(now.result), duration(now.elapsed)]
    return "  ".join([*filter(None, parts), f"[{', '.join([*study, *_left(now)])}]"])


def starting(slots: int | None) -> str:
    """Say that nothing can be seen yet."""
    return f"starting {'slots' if slots is None else plural(slots, 'slot')} ..."


def best_so_far(result: StudyResult) -> str:
    """Name the best trial; the epoch is said if it did not reach the last."""
    best = result.best
    if best is None:
        return "best -"
    default = ", default" if best.is_default else ""
    at = "" if best.state is TrialState.COMPLETED else f" at epoch {best.epochs}"
    return f"best {score(result, best)} (trial {best.number}{default}{at})"


def seconds_left(now: Snapshot) -> float | None:
    """Estimate the rest from the mean number of epochs of a trial and the pace so far.

    Returns:
        Seconds, or None until a trial has ended and the pace is known.
    """
    if not now.done or now.heard is None or now.epochs < 2:
        return None
    mean = sum(trial.epochs for trial in now.done) / len(now.done)
    running = [trial.epochs for trial in now.result.trials if trial.state is TrialState.RUNNING]
    waiting = now.total - len(now.done) - len(running)
    epochs = max(0, waiting) * mean + sum(max(0.0, mean - done) for done in running)
    # The first epoch began the time that was heard; only the later ones took place within it.
    seconds = epochs * now.heard / (now.epochs - 1)
    return seconds if now.budget is None else min(seconds, max(0.0, now.budget - now.elapsed))


def _left(now: Snapshot) -> list[str]:
    if len(now.done) >= now.total:
        return []
    seconds = seconds_left(now)
    return ["time left -" if seconds is None else f"about {duration(seconds)} left"]


def _rows(result: StudyResult, shown: tuple[TrialResult, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, expand=True, padding=(0, 1, 0, 0))
    widths = _widths(result)
    # Fixed widths: a column that grew with its contents would jump.
    for title, width in (
        (" trial", 10),
        ("state", 11),
        ("epoch", max(5, 2 * len(str(result.epochs)) + 1)),
        (result.metric, max(10, min(20, len(result.metric)))),
    ):
        table.add_column(title, width=width, no_wrap=True)
    names = {name: name for name in widths}
    table.add_column(_aligned(names, widths), ratio=1, no_wrap=True)
    best = result.best
    for trial in shown:
        table.add_row(
            f" {trial.number}{' default' if trial.is_default else ''}",
            Text(trial.state.value, _STYLES[trial.state]),
            f"{trial.epochs}/{result.epochs}",
            score(result, trial),
            _aligned(trial.params, widths),
            style="bold" if best and trial.number == best.number else None,
        )
    return table


def _widths(result: StudyResult) -> dict[str, int]:
    """Width of each hyper-parameter, from all trials so that it does not depend on those shown."""
    widths: dict[str, int] = {}
    for trial in result.trials:
        for name, value in trial.params.items():
            widths[name] = max(widths.get(name, len(name)), len(number(value, 3)))
    return {name: min(width, _WIDEST) for name, width in widths.items()}


def _aligned(values: Mapping[str, Any], widths: Mapping[str, int]) -> Text:
    cells = (
        number(values.get(name, "-"), 3)[:width].ljust(width) for name, width in widths.items()
    )
    return Text("  ".join(cells).rstrip())


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _seen(trial: RunningTrial, state: TrialState, before: TrialResult | None) -> TrialResult:
    """Add what is new of a trial to what was known of it."""
    known = before.history if before else ()
    history = (
        (*known[: trial.epochs - 1], trial.metrics) if trial.metrics else known[: trial.epochs]
    )
    # Optuna copies all attributes at every look, so look only when there is news.
    attrs = trial.optuna.user_attrs if before is None or state is not TrialState.RUNNING else {}
    return TrialResult(
        number=trial.assignment.number,
        # A trial whose end is decided is not running any more, though its slot may not know yet.
        state=trial.ending[0] if trial.ending and state is TrialState.RUNNING else state,
        params=trial.assignment.params,
        history=history,
        reason=attrs.get(attributes.REASON, ""),
        is_default=before.is_default if before else attributes.DEFAULT in attrs,
    )


@contextmanager
def _log_messages_move(old: Any, new: Any) -> Iterator[None]:
    """Let the library's log handlers that write to one stream write to another."""
    streams = [
        h for h in logger.handlers if isinstance(h, logging.StreamHandler) and h.stream is old
    ]
    for handler in streams:
        handler.setStream(new)
    try:
        yield
    finally:
        for handler in streams:
            handler.setStream(old)
