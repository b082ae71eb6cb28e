"""What a report is made of: sections, their tables and charts, and how values are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itwinai.confidential import hidden, masked
from itwinai.errors import visible
from itwinai.hpo.display import name_of, number
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialResult, TrialState

#: What is drawn of one trial, and trials with their values of the primary metric.
Row = dict[str, Any]
Scored = Sequence[tuple[TrialResult, float]]

#: Trials whose points are drawn, and whose rows are listed, at most.
MOST_POINTS = 1500
#: A message of a failure is cut off after so many characters.
_LONGEST = 2000


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A picture of some rows.

    Attributes:
        caption: What is to be seen.
        spec: The picture in the grammar of Vega-Lite, without its data.
        data: Its rows; charts that share one sequence share it in the file, too.
    """

    caption: str
    spec: Mapping[str, Any]
    data: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Command:
    """A command for the reader, and what it does."""

    purpose: str
    line: str


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        key: Its name within the page.
        title: Its heading.
        lead: What is to be seen in this study, in one sentence.
        notes: More sentences: what was left out, how to read it.
        tables: What is shown as a table.
        charts: What is drawn.
        data: The rows that are drawn, as a table that is folded away.
        commands: What the reader can do.
    """

    key: str
    title: str
    lead: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    data: Table | None = None
    commands: Sequence[Command] = ()


def said(text: object) -> str:
    """A text of the record as it may stand on a page that is passed on: nothing hidden in it."""
    text = visible(masked(str(text)))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def values_of(trial: TrialResult) -> dict[str, str]:
    """A trial's hyper-parameters as text, without what is secret."""
    return {said(name): said(number(value)) for name, value in hidden(trial.params).items()}


def value_of(params: Mapping[str, Any], name: str) -> float | str:
    """One of them as an axis has it: a number or a text."""
    value = hidden({name: params[name]})[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else said(number(value))


def final(trial: TrialResult, metric: str) -> float | None:
    """A metric's last value, or None where it is no number that can be drawn."""
    value = trial.metric(metric)
    return value if value is not None and math.isfinite(value) else None


def scored(result: StudyResult) -> list[tuple[TrialResult, float]]:
    """The trials that have a value of the primary metric, with it."""
    known = [(trial, final(trial, result.metric)) for trial in result.trials]
    return [(trial, value) for trial, value in known if value is not None]


def best_first(
    result: StudyResult, trials: Iterable[tuple[TrialResult, float]]
) -> list[tuple[TrialResult, float]]:
    """Order trials so that a trained-out one comes before others, and a better before a worse."""
    sign = 1 if result.mode == "min" else -1
    done = TrialState.COMPLETED
    return sorted(trials, key=lambda pair: (pair[0].state is not done, sign * pair[1]))


def thinned(
    result: StudyResult, most: int
) -> tuple[list[tuple[TrialResult, float]], Sequence[str]]:
    """The trials to draw where there are too many: the best fifth, and others evenly spread.

    Returns:
        The trials by number with their values, and what is to be said of those left out.
    """
    known = scored(result)
    if len(known) <= most:
        return known, ()
    ranked = best_first(result, known)
    kept = {trial.number for trial, _ in ranked[: most // 5]}
    kept |= {trial.number for trial in result.trials if trial.is_default}
    rest = [trial.number for trial, _ in known if trial.number not in kept]
    room = most - len(kept)
    kept |= {rest[index * len(rest) // room] for index in range(room)}
    note = f"{len(kept)} of {len(known)} trials are drawn: the best ones, and others evenly spread."
    return [(trial, value) for trial, value in known if trial.number in kept], (note,)


def point_of(result: StudyResult, trial: TrialResult, value: float) -> Row:
    """The row of a trial's point."""
    text = told(result, trial)
    return {"n": trial.number, "v": value, "s": trial.state.value, "t": text}


def told(result: StudyResult, trial: TrialResult) -> str:
    """What is shown of a trial when it is pointed at."""
    metrics = [f"{said(o.metric)} {or_dash(trial.metric(o.metric))}" for o in result.objectives]
    where = f"{trial.state.value} at epoch {number(trial.epochs)}"
    return f"{name_of(trial)}, {where}: {', '.join(metrics)}"


def states_of(shown: Scored) -> list[TrialState]:
    """The states that some trials have, in their order."""
    there = {trial.state for trial, _ in shown}
    return [state for state in TrialState if state in there]


def or_dash(value: float | None) -> str:
    """Write a number, or that there is none."""
    return "-" if value is None else number(value)
