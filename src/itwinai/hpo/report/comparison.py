"""Several studies side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from itwinai.hpo.display.summary import duration
from itwinai.hpo.display.words import number
from itwinai.hpo.insight import WinnerEstimate
from itwinai.hpo.record import StudyResult, state_of
from itwinai.hpo.report import charts
from itwinai.hpo.report.answer import estimated
from itwinai.hpo.report.parts import Chart, Section, Table, said
from itwinai.hpo.report.trials import best_so_far

Known = tuple[str, StudyResult, WinnerEstimate | None]


def comparison(results: Sequence[StudyResult], winners: Sequence[WinnerEstimate | None]) -> Section:
    """Set studies beside each other, and draw those that have the first one's metric."""
    known = list(zip(_names(results), results, winners, strict=True))
    alike = [entry for entry in known if entry[1].objectives[0] == results[0].objectives[0]]
    rows = [{**row, "a": name} for name, result, _ in alike for row in best_so_far(result)]
    metric = said(results[0].metric)
    spec = charts.races([row["b"] for row in rows], metric, [name for name, _, _ in alike])
    others = len(known) - len(alike)
    return Section(
        key="comparison",
        title="Side by side",
        lead=_lead(alike),
        notes=[
            *([f"{others} with another metric than {metric} are not drawn."] if others else []),
            *_unestimated(alike),
        ],
        tables=[_table(known)],
        charts=[Chart(f"Best completed {metric} so far", spec, rows)] if rows else [],
        data=Table(
            f"Best completed {metric} so far",
            ["study", "trial", "best so far"],
            [[row["a"], str(row["n"]), number(row["b"])] for row in rows],
        ),
    )


def _lead(alike: Sequence[Known]) -> str:
    expected = [(w.expected, name) for name, _, w in alike if w and w.expected is not None]
    if len(expected) < 2:
        return "There are not two studies here that can be compared yet."
    objective = alike[0][1].objectives[0]
    ordered = sorted(expected, key=lambda pair: pair[0].value, reverse=objective.mode == "max")
    (best, name), *others = ordered
    near = [
        other
        for one, other in others
        if (one.lower <= best.upper if objective.mode == "min" else one.upper >= best.lower)
    ]
    whose = f"interval of {near[0]} overlaps" if len(near) == 1 else "others' intervals overlap"
    rest = f"; the {whose}, so that this is not proven"
    return (
        f"{name} is expected to be the best, with {said(objective.metric)} {estimated(best)}"
        f"{rest if near else ''}."
    )


def _unestimated(alike: Sequence[Known]) -> Iterator[str]:
    names = [name for name, _, winner in alike if winner is None or winner.expected is None]
    if names:
        yield f"Not compared, as too few of their trials have reported: {', '.join(names)}."


def _table(known: Sequence[Known]) -> Table:
    head = [
        "study",
        "state",
        "metric",
        "recorded",
        "expected",
        "trials",
        "epochs",
        "slots held",
    ]
    rows = [
        [
            name,
            state_of(result),
            f"{said(result.metric)} ({result.mode})",
            "-" if winner is None else number(winner.recorded),
            "-" if winner is None or winner.expected is None else estimated(winner.expected),
            str(len(result.trials)),
            number(result.cost.epochs),
            duration(result.cost.seconds),
        ]
        for name, result, winner in known
    ]
    return Table("The studies", head, rows)


def _names(results: Sequence[StudyResult]) -> list[str]:
    """The studies' names, with a number where two have the same."""
    names = [said(result.name) for result in results]
    return [
        f"{name} ({index})" if names.count(name) > 1 else name
        for index, name in enumerate(names, start=1)
    ]
