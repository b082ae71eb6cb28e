"""Where in the search space the good trials lie: all values at once, one by one, and in pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from itwinai.hpo.display.summary import name_of
from itwinai.hpo.display.words import number, plural
from itwinai.hpo.insight import Importance
from itwinai.hpo.record import StudyResult
from itwinai.hpo.report import charts
from itwinai.hpo.report.parts import (
    MOST_POINTS,
    Chart,
    Row,
    Scored,
    Section,
    Table,
    best_first,
    point_of,
    said,
    states_of,
    thinned,
    told,
    value_of,
    values_of,
)
from itwinai.hpo.search.multifidelity.encoding import Encoder
from itwinai.hpo.space import Choice, Parameter
from itwinai.hpo.trial import TrialResult

#: Lines that the eye can follow, and categories that are written beside their axis at most.
_LINES, _LABELS = 300, 8
#: Hyper-parameters that are drawn, the most important ones, and those of them in pairs.
_AXES, _SLICES, _PAIRED = 12, 8, 3


def parallel(result: StudyResult, matters: Sequence[Importance]) -> Section:
    """All values of a trial at once."""
    shown, notes = thinned(result, _LINES)
    names = _most_important(result, matters, _AXES)
    metric = said(result.metric)
    axes = [*map(said, names), f"{metric} ({result.mode})"]
    rows = list(_lines(result, shown, names, axes))
    pairs = list(zip(axes, names, strict=False))
    ends = [row for axis, name in pairs for row in _ends(result.space[name], axis)]
    marks = [row for axis, name in pairs for row in _marks(result, axis, name)]
    caption = "A line for each trial through its values; the last axis is its rank, the best on top"
    return Section(
        key="parallel",
        title="Parallel coordinates",
        lead=_spread(result, shown, names),
        notes=[*notes, *_left_out(result, names), *_outside(result, shown, names)],
        charts=[Chart(caption, charts.parallel(axes, ends, marks), rows)] if len(shown) > 1 else [],
        data=_table(result, shown),
    )


def slices(result: StudyResult, matters: Sequence[Importance]) -> Section:
    """The metric against single values, and values against each other."""
    shown, notes = thinned(result, MOST_POINTS)
    names = _most_important(result, matters, _SLICES)
    fields = {name: f"p{place}" for place, name in enumerate(names)}
    groups = _groups(result, shown)
    rows = [
        point_of(result, trial, value)
        | {"g": groups[trial.number]}
        | {f: _place(trial, name) for name, f in fields.items()}
        for trial, value in _in_drawing_order(result, shown, groups)
    ]
    drawn = [_slice(result, shown, name, fields[name], rows) for name in names]
    pairs = [(a, b) for i, a in enumerate(names[:_PAIRED]) for b in names[i + 1 : _PAIRED]]
    drawn += [_pair(result, a, b, fields, rows) for a, b in pairs]
    return Section(
        key="slices",
        title="Slices",
        lead=_best_region(result, shown, names),
        notes=[
            *notes,
            *_left_out(result, names),
            "Colours and shapes are those of the history, and of the parallel coordinates where "
            "two hyper-parameters stand against each other.",
        ],
        charts=drawn if rows else [],
        data=_table(result, shown),
    )


def _table(result: StudyResult, shown: Scored) -> Table:
    """One row per trial with its values."""
    names = list(map(said, result.space))
    rows = [
        [name_of(trial), trial.state.value, number(value), *(v.get(n, "-") for n in names)]
        for trial, value in shown
        for v in [values_of(trial)]
    ]
    return Table("Values of the trials", ["trial", "state", said(result.metric), *names], rows)


def _spread(result: StudyResult, shown: Scored, names: Sequence[str]) -> str:
    top = [trial for trial, _ in _tenth(result, shown)]
    words = [_range_of(name, [_place(trial, name) for trial in top]) for name in names]
    known = ", ".join(filter(None, words[:_PAIRED]))
    if not known or len(top) < 2:
        return "There are too few trials yet to see where the good ones lie."
    return f"The best tenth of what is drawn ({plural(len(top), 'trial')}) lies at {known}."


def _best_region(result: StudyResult, shown: Scored, names: Sequence[str]) -> str:
    best = result.best
    if best is None or not names:
        return "There is nothing to draw yet."
    known = [f"{said(n)} = {values_of(best)[said(n)]}" for n in names if n in best.params][:_PAIRED]
    return f"The best trial ({best.number}) is at {', '.join(known)}; each point is one trial."


def _range_of(name: str, values: Sequence[float | str | None]) -> str:
    known = [value for value in values if value is not None]
    numbers = [value for value in known if not isinstance(value, str)]
    if not known:
        return ""
    if len(numbers) == len(known) and min(numbers) < max(numbers):
        return f"{said(name)} from {number(min(numbers), 3)} to {number(max(numbers), 3)}"
    common, count = Counter(map(str, known)).most_common(1)[0]
    return f"{said(name)} = {said(common)} ({count} of {len(known)})"


def _left_out(result: StudyResult, names: Sequence[str]) -> Iterator[str]:
    more = len(result.space) - len(names)
    if more:
        yield f"The {len(names)} most important hyper-parameters are drawn, {more} are not."


def _lines(
    result: StudyResult, shown: Scored, names: Sequence[str], axes: Sequence[str]
) -> Iterator[Row]:
    encoder, order = Encoder(result.space), list(result.space)
    ranks = _ranks(result, shown)
    groups = _groups(result, shown)
    looks = {charts.BEST: (3.0, 1.0), charts.TOP: (1.6, 0.75), charts.OTHERS: (1.0, 0.25)}
    for trial, _ in _in_drawing_order(result, shown, groups):
        point, group = encoder.encode(trial.params), groups[trial.number]
        width, opacity = looks[group]
        text = told(result, trial)
        places = [
            float(point[order.index(n)]) if _is_inside(result, trial, n) else None for n in names
        ]
        for index, (axis, place) in enumerate(
            zip(axes, [*places, ranks[trial.number]], strict=True)
        ):
            if place is not None:
                row = {"n": trial.number, "a": axis, "p": round(place, 4), "i": index}
                yield row | {"g": group, "w": width, "o": opacity, "t": text}


def _is_inside(result: StudyResult, trial: TrialResult, name: str) -> bool:
    """Whether a trial has a value that its axis has; a default may lie outside the space."""
    return name in trial.params and result.space[name].contains(trial.params[name])


def _outside(result: StudyResult, shown: Scored, names: Sequence[str]) -> Iterator[str]:
    there = [
        name_of(trial)
        for trial, _ in shown
        if any(n in trial.params and not _is_inside(result, trial, n) for n in names)
    ]
    if there:
        yield f"Values outside the search space are not drawn: some of {', '.join(there)}."


def _in_drawing_order(result: StudyResult, shown: Scored, groups: Mapping[int, str]) -> Scored:
    """Order trials so that the better is drawn later, and the best above all."""
    order = [charts.OTHERS, charts.TOP, charts.BEST]
    worst_first = best_first(result, shown)[::-1]
    return sorted(worst_first, key=lambda pair: order.index(groups[pair[0].number]))


def _ends(domain: Parameter, axis: str) -> list[Row]:
    if isinstance(domain, Choice):
        return []
    ends = [(-0.05, domain.at(0.0)), (1.05, domain.at(1.0))]
    return [{"a": axis, "p": place, "t": number(value, 3)} for place, value in ends]


def _marks(result: StudyResult, axis: str, name: str) -> list[Row]:
    labels = _categories(result, name) or []
    if len(labels) > _LABELS:
        return []
    return [
        {"a": axis, "p": (index + 0.5) / len(labels), "t": str(label)}
        for index, label in enumerate(labels)
    ]


def _categories(result: StudyResult, name: str) -> list[float | str] | None:
    """The values of a choice as its axis has them, None of a range."""
    domain = result.space[name]
    if not isinstance(domain, Choice):
        return None
    return [value_of({name: category}, name) for category in domain.categories]


def _ranks(result: StudyResult, shown: Scored) -> dict[int, float]:
    """Places of the trials on the last axis, the best at the top."""
    ranked = best_first(result, shown)
    return {t.number: 1 - i / max(1, len(ranked) - 1) for i, (t, _) in enumerate(ranked)}


def _groups(result: StudyResult, shown: Scored) -> dict[int, str]:
    groups = {trial.number: charts.OTHERS for trial, _ in shown}
    groups |= {trial.number: charts.TOP for trial, _ in _tenth(result, shown)}
    best = result.best
    return groups if best is None else groups | {best.number: charts.BEST}


def _tenth(result: StudyResult, shown: Scored) -> Scored:
    return best_first(result, shown)[: -(-len(shown) // 10)]


def _most_important(result: StudyResult, matters: Sequence[Importance], most: int) -> list[str]:
    known = [importance.name for importance in matters]
    return [*known, *(name for name in result.space if name not in known)][:most]


def _slice(result: StudyResult, shown: Scored, name: str, field: str, rows: Sequence[Row]) -> Chart:
    axis, metric = _axis(result, name, field, rows), said(result.metric)
    spec = charts.slice_of(axis, states_of(shown), [value for _, value in shown], metric)
    return Chart(f"{metric} against {axis.name}", spec, rows)


def _pair(
    result: StudyResult, a: str, b: str, fields: Mapping[str, str], rows: Sequence[Row]
) -> Chart:
    first, second = (_axis(result, name, fields[name], rows) for name in (a, b))
    return Chart(f"{first.name} and {second.name}", charts.pair(first, second), rows)


def _axis(result: StudyResult, name: str, field: str, rows: Sequence[Row]) -> charts.Axis:
    """The axis of a hyper-parameter; logarithmic if the range is, and no value prevents it."""
    values = [row[field] for row in rows if isinstance(row[field], int | float)]
    log = bool(getattr(result.space[name], "log", False)) and min(values, default=0) > 0
    decades = _decades(min(values), max(values)) if log else ()
    return charts.Axis(field, said(name), _categories(result, name), decades)


def _decades(low: float, high: float) -> Sequence[float]:
    """Powers of ten within a range, or its ends if there is only one."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    inside = [10.0**exponent for exponent in range(first, last + 1)]
    return inside if len(inside) > 1 else [low, high]


def _place(trial: TrialResult, name: str) -> float | str | None:
    return value_of(trial.params, name) if name in trial.params else None
