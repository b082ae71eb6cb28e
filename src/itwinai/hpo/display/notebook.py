"""A study in a notebook: the summary's answer, and the best trials with their learning curves.

Its HTML runs nothing, loads nothing, and takes the colours of the page that it stands on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path

from itwinai.confidential import hidden, masked
from itwinai.errors import one_line, visible
from itwinai.hpo.display.sparks import Sparks
from itwinai.hpo.display.summary import lines_of, name_of, score
from itwinai.hpo.display.words import number
from itwinai.hpo.record import StudyResult
from itwinai.hpo.record import load_study as read_study
from itwinai.hpo.trial import TrialResult, TrialState

#: Trials that are listed, the best first.
_LISTED = 10
#: What the summary says that is shown.
_SAID = ("study", "ended", "best", "front", "default", "confirmed", "epochs")
#: A curve's size in pixels, and what is left free around it.
_WIDTH, _HEIGHT, _MARGIN = 100, 20, 2
_CELL = 'style="text-align:left"'


class ShownStudy(StudyResult):
    """A study's result that shows itself in a notebook."""

    def _repr_html_(self) -> str:
        return f"<div>{table_of_lines(_answer(self))}{_trials(self)}</div>"


def shown(result: StudyResult) -> StudyResult:
    """The same result, which shows itself in a notebook."""
    return ShownStudy(**{field.name: getattr(result, field.name) for field in fields(result)})


def load_study(path: str | Path) -> StudyResult:
    """Read a study's result from its folder, also while the study runs.

    In a notebook it shows itself as a table.

    Args:
        path: The study's folder, ``<storage_path>/<name>``, or its ``record.log``.

    Raises:
        StudyError: If there is no record, or it is not one of ours.
    """
    return shown(read_study(path))


def table_of_lines(lines: Iterable[tuple[str, str]]) -> str:
    """Labels and what is said of them, as a table of HTML."""
    rows = [f"<tr><th {_CELL}>{_text(label)}</th>{_cell(said)}</tr>" for label, said in lines]
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _answer(result: StudyResult) -> Iterable[tuple[str, str]]:
    """What the summary says of the outcome."""
    topic = ""
    for label, said in lines_of(result):
        topic = label or topic
        if topic in _SAID:
            yield label, said


def _trials(result: StudyResult) -> str:
    """The best trials."""
    trials = sorted(result.trials, key=lambda trial: _rank(result, trial))[:_LISTED]
    metrics = [objective.metric for objective in result.objectives]
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    head = ["trial", "state", "epochs", *metrics, "curve", *names]
    sparks = Sparks(result, trials)
    rows = [
        _row(trial, metrics, _svg(sparks.shares(trial), trial.at, result.epochs), names)
        for trial in trials
    ]
    caption = f"the best {len(trials)} of {len(result.trials)} trials"
    cells = "".join(f'<th scope="col" {_CELL}>{_text(name)}</th>' for name in head)
    return (
        f"<table><caption {_CELL}>{caption}</caption><thead><tr>{cells}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(trial: TrialResult, metrics: Sequence[str], curve: str, names: Sequence[str]) -> str:
    params = hidden(trial.params)
    before = [name_of(trial), trial.state.value, number(trial.epochs)]
    before += [score(trial, metric) for metric in metrics]
    after = [number(params[name], 3) if name in params else "-" for name in names]
    cells = [*map(_cell, before), f"<td {_CELL}>{curve}</td>", *map(_cell, after)]
    return f"<tr>{''.join(cells)}</tr>"


def _rank(result: StudyResult, trial: TrialResult) -> tuple[bool, bool, float]:
    """The recommended trial, those trained to the end, the others; each by the primary metric."""
    loss = result.objectives[0].loss(trial.metrics)
    known = loss if loss is not None and math.isfinite(loss) else math.inf
    is_best = result.best is not None and trial.number == result.best.number
    return not is_best, trial.state is not TrialState.COMPLETED, known


def _svg(shares: Sequence[float], at: Sequence[float], epochs: int) -> str:
    """A learning curve; the scale is that of all that are listed."""
    begin = min(1, *at) if at else 1
    span = max(epochs, 2, *at) - begin
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    points = [
        f"{_MARGIN + width * (place - begin) / span:.1f},{_MARGIN + height * (1 - share):.1f}"
        for place, share in zip(at, shares, strict=True)
        if math.isfinite(share)
    ]
    if not points:
        return "-"
    # A line of no length is drawn as a point where its ends are round.
    path = f"M{points[0]} L{' '.join(points)}"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{len(points)} reports">'
        f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.5" '
        'stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


def _cell(text: str) -> str:
    return f"<td {_CELL}>{_text(text)}</td>"


def _text(text: str) -> str:
    return escape(visible(masked(one_line(text))))
