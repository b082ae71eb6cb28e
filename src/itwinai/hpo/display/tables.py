"""Tables for people: of studies and trials, as the reading commands show them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itwinai.errors import one_line, visible
from itwinai.hpo.display.summary import shortest
from itwinai.hpo.display.words import number
from itwinai.hpo.insight import Spent, total
from itwinai.hpo.record import ListedStudy, StudyResult
from itwinai.hpo.trial import TrialResult

#: Columns of what is no terminal: rows shall not be folded there.
_WIDE = 10_000


def show(*tables: Table | Text) -> None:
    """Write to standard output: to a terminal in its width, to anything else unfolded."""
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, Text))


def table_of_studies(studies: Iterable[ListedStudy]) -> Table:
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


def table_of_trials(result: StudyResult, trials: Iterable[TrialResult], title: str = "") -> Table:
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


def table_of_spent(spent: Mapping[Path, Spent]) -> Table:
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


def table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Table:
    """Make a table without the columns that are empty in all rows."""
    used = [i for i in range(len(head)) if not rows or any(row[i] for row in rows)]
    made = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index in used:
        made.add_column(Text(visible(head[index])), overflow="fold")
    for row in rows:
        made.add_row(*(Text(visible(row[index])) for index in used))
    return made
