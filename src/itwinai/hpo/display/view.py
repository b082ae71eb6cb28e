"""A running study at one moment: as a table, as a status, as a line about a trial that ended.

All of it is a function of a :class:`Snapshot`; nothing here knows what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from itwinai.errors import one_line
from itwinai.hpo.display.sparks import WIDTH, Sparks
from itwinai.hpo.display.summary import (
    OTHER_ENDS,
    duration,
    name_of,
    parameters,
    score,
    scores,
)
from itwinai.hpo.display.words import number, plural
from itwinai.hpo.insight.remaining import epochs_left
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import FAILURES, TrialResult, TrialState

#: Completed trials that stay in view however many others have ended since.
_BEST_SHOWN = 3

#: Lines around the rows: header and rule, "... n more", two of status, a failure, the cursor.
_OTHER_LINES = 7

#: Characters of a hyper-parameter's column at most.
_WIDEST = 20

#: States from which a trial may go on in this run.
UNDECIDED = (TrialState.RUNNING, TrialState.PAUSED, TrialState.INTERRUPTED)

_STYLES = {
    TrialState.RUNNING: "cyan",
    TrialState.COMPLETED: "green",
    TrialState.STOPPED: "dim",
    TrialState.PAUSED: "blue",
    TrialState.DIVERGED: "yellow",
    TrialState.OUT_OF_MEMORY: "red",
    TrialState.FAILED: "red",
    TrialState.LOST: "red",
    TrialState.HUNG: "red",
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
        first: Those of the first report of the run.
        budget: Seconds that the run may take, or None.
        over: Whether the run ends, so that there is no time left to estimate.
        done: Trials that have ended for good; None: as the result tells.
        epochs_left: Epochs that are still to be trained; None: as the result tells.
    """

    result: StudyResult
    total: int
    slots: int | None = None
    elapsed: float = 0.0
    heard: float | None = None
    epochs: float = 0
    first: float = 1
    budget: float | None = None
    over: bool = False
    done: int | None = None
    epochs_left: float | None = None

    def count(self, state: TrialState) -> int:
        """Count the trials in a state."""
        return sum(trial.state is state for trial in self.result.trials)

    @property
    def count_done(self) -> int:
        """Count the trials that have ended for good; a paused or interrupted one may yet go on."""
        known = self.done
        return sum(t.state not in UNDECIDED for t in self.result.trials) if known is None else known


def live_table(now: Snapshot, height: int) -> RenderableType:
    """Draw the trials that fit into ``height`` lines, and the status below them."""
    at_fault = ", ".join(f"{verdict.node} is {verdict.kind}" for verdict in now.result.nodes)
    shown = visible(now.result, max(1, height - _OTHER_LINES - bool(at_fault)))
    lines: list[RenderableType] = []
    if shown:
        lines.append(_rows(now.result, shown))
    if len(shown) < len(now.result.trials):
        lines.append(_line(f" ... {len(now.result.trials) - len(shown)} more", "dim"))
    failed = [trial for trial in now.result.trials if trial.state in FAILURES]
    if failed:
        what = f"{name_of(failed[-1])} {OTHER_ENDS[failed[-1].state]}"
        lines.append(_line(f" {what}: {one_line(failed[-1].reason)}", "red"))
    if at_fault:
        lines.append(_line(f" {at_fault}", "red"))
    lines.append(_line(f" {counts(now)}", "bold"))
    lines.append(_line(f" {outlook(now)}", "bold"))
    return Group(*lines)


def visible(result: StudyResult, count: int) -> tuple[TrialResult, ...]:
    """Choose at most ``count`` trials: the running ones, the best completed, the newest ended."""
    running = [trial for trial in result.trials if trial.state is TrialState.RUNNING]
    ended = [trial for trial in result.trials if trial.state is not TrialState.RUNNING]
    wanted = [*running, *_best_ones(result)[:_BEST_SHOWN], *reversed(ended)]
    numbers = list(dict.fromkeys(trial.number for trial in wanted))[:count]
    by_number = {trial.number: trial for trial in wanted}
    return tuple(by_number[number] for number in sorted(numbers))


def _best_ones(result: StudyResult) -> Sequence[TrialResult]:
    if len(result.objectives) > 1:
        return result.front
    complete = [trial for trial in result.trials if trial.state is TrialState.COMPLETED]
    is_max = result.mode == "max"
    return sorted(complete, key=lambda t: t.metric(result.metric) or 0, reverse=is_max)


def counts(now: Snapshot) -> str:
    """Say how many trials are done, run, and ended in some other way than by completion."""
    parts = [
        f"{now.count_done}/{now.total} trials done",
        f"{now.count(TrialState.RUNNING)} running",
    ]
    parts += [
        f"{now.count(state)} {word}" for state, word in OTHER_ENDS.items() if now.count(state)
    ]
    return ", ".join(parts)


def outlook(now: Snapshot) -> str:
    """Say what is best, how long it took, and how long it will take."""
    if now.heard is None and not now.over:
        return f"{starting(now.slots)} {duration(now.elapsed)}"
    why = "" if len(now.result.objectives) > 1 else now.result.why_best
    parts = [best_so_far(now.result), why, duration(now.elapsed), *_left(now)]
    return ", ".join(filter(None, parts))


def recorded(result: StudyResult, runs: bool) -> Snapshot:
    """A study as its record alone tells it.

    Args:
        result: The study.
        runs: Whether it runs now.
    """
    cost = result.cost
    return Snapshot(
        result,
        result.total + result.copies,
        elapsed=cost.elapsed,
        heard=cost.elapsed if cost.epochs else None,
        epochs=cost.epochs,
        first=0,  # the first report's epochs took place within that time, too
        over=not runs,
    )


def standing(result: StudyResult) -> str:
    """Say from its record alone how far a running study is, and how long it will take."""
    now = recorded(result, runs=True)
    return ", ".join([counts(now), duration(now.elapsed), *_left(now)])


def ended_line(now: Snapshot, trial: TrialResult) -> str:
    """Describe a trial that just ended, and where the study stands, in one line."""
    parts = [
        f"{name_of(trial)} {trial.state.value} at epoch {_epoch(now.result, trial)}",
        scores(now.result, trial) if trial.epochs else "",
        "" if trial.state is TrialState.COMPLETED else f"({one_line(trial.reason)})",
        parameters(trial.params),
    ]
    study = [f"{now.count_done}/{now.total}", best_so_far(now.result), duration(now.elapsed)]
    return "  ".join([*filter(None, parts), f"[{', '.join([*study, *_left(now)])}]"])


def starting(slots: int | None) -> str:
    """Say that nothing can be seen yet."""
    return f"starting {'slots' if slots is None else plural(slots, 'slot')} ..."


def best_so_far(result: StudyResult) -> str:
    """Name the best trial; the epoch is said if it did not reach the last.

    With several objectives nothing is best, and the trials of the Pareto front are counted.
    """
    if len(result.objectives) > 1 and result.front:
        return f"{plural(len(result.front), 'trial')} on the front"
    best = result.best
    if best is None:
        return "best -"
    default = ", default" if best.is_default else ""
    at = "" if best.state is TrialState.COMPLETED else f" at epoch {number(best.epochs)}"
    return f"best {score(best, result.metric)} (trial {best.number}{default}{at})"


def seconds_left(now: Snapshot) -> float | None:
    """Estimate the rest from the epochs that are left and the pace so far.

    Returns:
        Seconds, or None until the pace is known.
    """
    if now.heard is None or now.epochs <= now.first:
        return None
    # The first report began the time that was heard; only the later ones took place within it.
    left = epochs_left(now.result, now.total) if now.epochs_left is None else now.epochs_left
    seconds = left * now.heard / (now.epochs - now.first)
    return seconds if now.budget is None else min(seconds, max(0.0, now.budget - now.elapsed))


def _left(now: Snapshot) -> list[str]:
    if now.over or now.count_done >= now.total:
        return []
    seconds = seconds_left(now)
    return ["time left -" if seconds is None else f"about {duration(seconds)} left"]


def _rows(result: StudyResult, shown: tuple[TrialResult, ...]) -> Table:
    metrics = [objective.metric for objective in result.objectives]
    table = Table(box=SIMPLE_HEAD, show_edge=False, expand=True, padding=(0, 1, 0, 0))
    widths = _widths(result)
    # Fixed widths: a column that grew with its contents would jump.
    for title, width in (
        (" trial", 10),
        ("state", 13),
        ("epoch", max(5, *(len(_epoch(result, trial)) for trial in shown), _width(result))),
        ("curve", WIDTH),
        *((metric, _metric_width(metric, shown)) for metric in metrics),
    ):
        table.add_column(title, width=width, no_wrap=True)
    names = {name: name for name in widths}
    table.add_column(_aligned(names, widths), ratio=1, no_wrap=True)
    best, sparks = {trial.number for trial in _marked(result)}, Sparks(result, shown)
    for trial in shown:
        table.add_row(
            f" {trial.number}{' default' if trial.is_default else ''}",
            Text(trial.state.value, _STYLES[trial.state]),
            _epoch(result, trial),
            sparks.of(trial),
            *(score(trial, metric) for metric in metrics),
            _aligned(trial.params, widths),
            style="bold" if trial.number in best else None,
        )
    return table


def _metric_width(metric: str, shown: tuple[TrialResult, ...]) -> int:
    """Width of a metric's column, in which no value is cut off."""
    values = [len(score(trial, metric)) for trial in shown]
    return max(10, min(20, len(metric)), *values)


def _epoch(result: StudyResult, trial: TrialResult) -> str:
    """How far a trial has come of its training."""
    return f"{number(trial.epochs)}/{result.epochs}"


def _width(result: StudyResult) -> int:
    """Width of what :func:`_epoch` writes in the end."""
    return 2 * len(str(result.epochs)) + 1


def _marked(result: StudyResult) -> Sequence[TrialResult]:
    if len(result.objectives) > 1:
        return result.front
    return [] if result.best is None else [result.best]


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
