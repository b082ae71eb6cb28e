"""Tables for people: of studies and trials, as the reading commands show them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from itwinai.errors import one_line, visible
from itwinai.hpo.display.words import number
from itwinai.hpo.insight import Spent, total
from itwinai.hpo.record import ListedStudy, StudyResult
from itwinai.hpo.trial import TrialResult
from itwinai.io.files import shortest

#: Columns of what is no terminal: rows shall not be folded there.
_WIDE = 10_000

#: Between two columns, and at both edges.
_GAP, _EDGES = 2, 2

#: A longer text, as a path or a reason, may be folded.
_LONGEST = 20

#: Where a column's name may be broken.
_PIECES = re.compile(r"[^-_. ]*[-_. ]|[^-_. ]+")


def show(*tables: Listing | Text) -> None:
    """Write to standard output: to a terminal in its width, to anything else unfolded."""
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, Text))


def table_of_studies(studies: Iterable[ListedStudy]) -> Listing:
    """One row per study."""
    rows = [
        [
            shortest(study.directory.absolute()),
            study.state,
            "" if study.problem else str(study.trials),
            study.metric,
            "-" if study.best is None else number(study.best),
            one_line(study.problem, longest=100),
        ]
        for study in studies
    ]
    return table(["study", "state", "trials", "metric", "best", "problem"], rows)


def table_of_trials(result: StudyResult, trials: Iterable[TrialResult], title: str = "") -> Listing:
    """One row per trial."""
    trials = list(trials)
    metrics = [objective.metric for objective in result.objectives]
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [
        [
            f"{trial.number}{' (default)' if trial.is_default else ''}",
            trial.state.value,
            number(trial.epochs),
            *(_number(trial.metric(metric)) for metric in metrics),
            *(number(trial.params[n]) if n in trial.params else "-" for n in names),
            one_line(trial.reason, longest=100),
        ]
        for trial in trials
    ]
    return table(["trial", "state", "epochs", *metrics, *names, "reason"], rows, title)


def table_of_spent(spent: Mapping[Path, Spent]) -> Listing:
    """One row per study, by its folder, and one of all."""
    rows = [[shortest(path.absolute()), *_hours(one)] for path, one in spent.items()]
    head = ["study", "trials", "epochs", "hours", "trial-hours", "core-hours", "GPU-hours"]
    energy = ["kWh by RAPL", "kWh by NVML", "kWh estimated"]
    return table([*head, *energy], [*rows, ["all", *_hours(total(spent.values()))]])


def _hours(spent: Spent) -> list[str]:
    known = spent.unknown == 0
    held = (spent.core_hours, spent.gpu_hours)
    return [
        *(str(spent.trials), number(spent.epochs)),
        *(number(hours, 3) for hours in (spent.hours, spent.trial_hours)),
        *(number(hours, 3) if known else "?" for hours in held),
        *(number(kwh, 3) if kwh else "" for kwh in (spent.rapl_kwh, spent.nvml_kwh)),
        number(spent.estimated_kwh, 3) if known else "?",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Listing:
    """Make a table without the columns that are empty in all rows."""
    used = [i for i in range(len(head)) if not rows or any(row[i] for row in rows)]
    shown = [[visible(row[i]) for i in used] for row in rows]
    return Listing([visible(head[i]) for i in used], shown, title)


@dataclass(frozen=True)
class Listing:
    """A table that folds no number: where it has no room, columns at its right are left out."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the columns that fit, and the names of the others."""
        columns = [[name, *(row[i] for row in self.rows)] for i, name in enumerate(self.head)]
        fit = len(columns)
        while fit > 1 and sum(map(_least, columns[:fit])) > _room(options.max_width, fit):
            fit -= 1
        made = Table(
            box=SIMPLE_HEAD,
            title=self.title or None,
            title_justify="left",
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        widths = _widths(columns[:fit], _room(options.max_width, fit))
        for (name, *_), width in zip(columns, widths, strict=False):
            made.add_column(Text(_broken(name, width)), overflow="fold", width=width)
        for row in self.rows:
            made.add_row(*map(Text, row[:fit]))
        yield made
        if fit < len(columns):
            missing = ", ".join(self.head[fit:])
            yield Text(f"no room for {missing}: a wider terminal has it, or '| less -S'")


def _room(width: int, columns: int) -> int:
    """What is left of a width for the texts of so many columns."""
    return width - _GAP * (columns - 1) - _EDGES


def _least(column: Sequence[str]) -> int:
    """The width that folds no value and no part of the name, but for those that are long."""
    name, *values = column
    return min(max(map(cell_len, [*_PIECES.findall(name), *values]), default=1), _LONGEST)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths for columns that have room in all: the widest give way, down to their least."""
    least = [_least(column) for column in columns]
    widths = [max(map(cell_len, column)) for column in columns]
    while sum(widths) > room:
        spare = [i for i, width in enumerate(widths) if width > least[i]]
        if not spare:
            break
        widths[max(spare, key=lambda i: widths[i])] -= 1
    return widths


def _broken(name: str, width: int) -> str:
    """A column's name in lines of a width, broken between its parts."""
    lines = [""]
    for piece in _PIECES.findall(name):
        if cell_len(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)
