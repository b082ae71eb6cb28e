"""What the trials reached: over the study, over their epochs, and against their values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from itwinai.hpo.display.summary import name_of, number, plural
from itwinai.hpo.insight import Importance
from itwinai.hpo.record import StudyResult
from itwinai.hpo.report import charts
from itwinai.hpo.report.parts import (
    MOST_POINTS,
    Chart,
    Section,
    Table,
    best_first,
    final,
    said,
    scored,
    thinned,
    value_of,
    values_of,
)
from itwinai.hpo.search.multifidelity.encoding import Encoder
from itwinai.hpo.space import Choice, Parameter
from itwinai.hpo.trial import TrialResult, TrialState

Row = dict[str, Any]
#: How the small charts are read.
_SLICES_NOTE = (
    "Colours and shapes are those of the history, and of the parallel coordinates where two "
    "hyper-parameters stand against each other. The data are those of the parallel coordinates.",
)
Scored = Sequence[tuple[TrialResult, float]]

#: Curves and lines that the eye can follow, points of a curve, and epochs that are marked as rungs.
_CURVES, _LINES, _STEPS, _RUNGS = 150, 300, 80, 12
#: Categories that are written beside their axis at most.
_LABELS = 8
#: Hyper-parameters that are drawn, the most important ones, and those of them in pairs.
_AXES, _SLICES, _PAIRED = 12, 8, 3


def history(result: StudyResult) -> Section:
    """How the values went, trial by trial."""
    shown, notes = thinned(result, MOST_POINTS)
    bests = dict(_best_so_far(result))
    rows = [_point(result, trial, value) | {"b": bests.get(trial.number)} for trial, value in shown]
    metric = said(result.metric)
    spec = charts.history(_states(shown), [value for _, value in shown], metric)
    caption = f"{metric} of each trial at its last epoch, and the best of the completed so far"
    return Section(
        key="history",
        title="Optimisation history",
        lead=_progress(result, bests),
        notes=notes,
        charts=[Chart(caption, spec, rows)] if rows else [],
        data=Table(
            "Trials in their order",
            ["trial", "state", "epochs", metric, "best so far"],
            [
                [name_of(t), t.state.value, str(t.epochs), number(v), _or_dash(bests.get(t.number))]
                for t, v in shown
            ],
        ),
    )


def curves(result: StudyResult) -> Section:
    """How the values went, epoch by epoch."""
    shown, notes = thinned(result, _CURVES)
    rungs = _rungs(result)
    best = result.best
    rows = [
        row
        for trial, _ in shown
        for row in _curve(result, trial, is_best=best is not None and trial.number == best.number)
    ]
    metric = said(result.metric)
    spec = charts.curves(_states(shown), [row["v"] for row in rows], metric, rungs)
    caption = f"{metric} after each epoch; the best trial is drawn bold, dashed lines are rungs"
    return Section(
        key="curves",
        title="Learning curves",
        lead=_stops(result),
        notes=[*notes, *_rungs_note(rungs)],
        charts=[Chart(caption, spec, rows)] if rows else [],
        data=Table(
            "Learning curves",
            ["trial", "state", "epochs", "first", "best", "last"],
            [_curve_summary(result, trial) for trial, _ in shown],
        ),
    )


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
        notes=[*notes, *_left_out(result, names)],
        charts=[Chart(caption, charts.parallel(axes, ends, marks), rows)] if len(shown) > 1 else [],
        data=table_of_values(result, shown),
    )


def slices(result: StudyResult, matters: Sequence[Importance]) -> Section:
    """The metric against single values, and values against each other."""
    shown, notes = thinned(result, MOST_POINTS)
    names = _most_important(result, matters, _SLICES)
    fields = {name: f"p{place}" for place, name in enumerate(names)}
    groups = _groups(result, shown)
    rows = [
        _point(result, trial, value)
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
            *_SLICES_NOTE,
        ],
        charts=drawn if rows else [],
    )


def pareto(result: StudyResult) -> Section:
    """Two objectives against each other."""
    first, second, *others = result.objectives
    front = {trial.number for trial in result.front}
    pairs = [(trial, [final(trial, o.metric) for o in (first, second)]) for trial in result.trials]
    done = [
        (t, x, y)
        for t, (x, y) in pairs
        if x is not None and y is not None and t.state is TrialState.COMPLETED
    ]
    drawn = sorted(done, key=lambda point: point[0].number not in front)[:MOST_POINTS]
    label = {True: charts.ON_FRONT, False: charts.BEATEN}
    rows = [
        {"x": x, "y": y, "f": label[t.number in front], "t": _told(result, t)} for t, x, y in drawn
    ]
    names = [f"{said(o.metric)} ({o.mode})" for o in (first, second)]
    values = [[x for _, x, _ in drawn], [y for _, _, y in drawn]]
    notes = [f"{MOST_POINTS} of them are drawn."] if len(drawn) < len(done) else []
    notes += [f"Not drawn: {', '.join(said(o.metric) for o in others)}."] if others else []
    return Section(
        key="pareto",
        title="Pareto front",
        lead=f"Of {plural(len(done), 'completed trial')} {len(front)} are on the front; each of "
        "them is a compromise.",
        notes=notes,
        charts=[Chart(" and ".join(names), charts.pareto(names, values), rows)] if rows else [],
        data=Table(
            "Completed trials",
            ["trial", *names, ""],
            [[name_of(t), number(x), number(y), label[t.number in front]] for t, x, y in drawn],
        ),
    )


def best_so_far(result: StudyResult) -> list[Row]:
    """Rows of the best value so far, of at most a few hundred trials."""
    known = list(_best_so_far(result))
    step = max(1, len(known) // 400)
    return [{"n": n, "b": value} for n, value in [*known[::step], *known[-1:]]]


def table_of_values(result: StudyResult, shown: Scored) -> Table:
    """One row per trial with its values."""
    names = list(map(said, result.space))
    rows = [
        [name_of(trial), trial.state.value, number(value), *(v.get(n, "-") for n in names)]
        for trial, value in shown
        for v in [values_of(trial)]
    ]
    return Table("Values of the trials", ["trial", "state", said(result.metric), *names], rows)


# -- what is said ---------------------------------------------------------------------------------


def _progress(result: StudyResult, bests: Mapping[int, float]) -> str:
    if not bests:
        return "No trial has trained to the end yet, so there is no best so far."
    values = list(bests.values())
    changes = [
        n for (n, v), before in zip(bests.items(), [None, *values], strict=False) if v != before
    ]
    later = len(result.trials) - 1 - changes[-1]
    since = f"the last {plural(later, 'trial')} brought nothing better" if later else "at the end"
    return (
        f"The best completed {said(result.metric)} went from {number(values[0])} to "
        f"{number(values[-1])}, with its last improvement at trial {changes[-1]}; {since}."
    )


def _stops(result: StudyResult) -> str:
    stopped = [trial for trial in result.trials if trial.state is TrialState.STOPPED]
    done = sum(trial.state is TrialState.COMPLETED for trial in result.trials)
    full = f"{plural(done, 'trial')} trained all {plural(result.epochs, 'epoch')}"
    if not stopped:
        return f"{full}, and none was stopped early."
    mean = sum(trial.epochs for trial in stopped) / len(stopped)
    return f"{full}, and {len(stopped)} were stopped early, after {mean:.1f} epochs on average."


def _rungs_note(rungs: Sequence[int]) -> Iterator[str]:
    if rungs:
        yield f"Trials were stopped at these epochs above all: {', '.join(map(str, rungs))}."


def _spread(result: StudyResult, shown: Scored, names: Sequence[str]) -> str:
    top = [trial for trial, _ in _tenth(result, shown)]
    words = [_range_of(name, [_place(trial, name) for trial in top]) for name in names]
    told = ", ".join(filter(None, words[:_PAIRED]))
    if not told or len(top) < 2:
        return "There are too few trials yet to see where the good ones lie."
    return f"The best tenth ({plural(len(top), 'trial')}) lies at {told}."


def _best_region(result: StudyResult, shown: Scored, names: Sequence[str]) -> str:
    best = result.best
    if best is None or not names:
        return "There is nothing to draw yet."
    told = [f"{said(n)} = {values_of(best)[said(n)]}" for n in names if n in best.params][:_PAIRED]
    return f"The best trial ({best.number}) is at {', '.join(told)}; each point is one trial."


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


# -- what is drawn --------------------------------------------------------------------------------


def _point(result: StudyResult, trial: TrialResult, value: float) -> Row:
    told = _told(result, trial)
    return {"n": trial.number, "v": value, "s": trial.state.value, "t": told}


def _told(result: StudyResult, trial: TrialResult) -> str:
    metrics = [f"{said(o.metric)} {_or_dash(trial.metric(o.metric))}" for o in result.objectives]
    return f"{name_of(trial)}, {trial.state.value} at epoch {trial.epochs}: {', '.join(metrics)}"


def _states(shown: Scored) -> list[TrialState]:
    there = {trial.state for trial, _ in shown}
    return [state for state in TrialState if state in there]


def _best_so_far(result: StudyResult) -> Iterator[tuple[int, float]]:
    choose = min if result.mode == "min" else max
    best: float | None = None
    for trial, value in scored(result):
        if trial.state is TrialState.COMPLETED:
            best = value if best is None else choose(best, value)
        if best is not None:
            yield trial.number, best


def _curve(result: StudyResult, trial: TrialResult, is_best: bool) -> Iterator[Row]:
    objective = result.objectives[0]
    values = [objective.value(metrics) for metrics in trial.history]
    known = [(e, v) for e, v in enumerate(values, 1) if v is not None and math.isfinite(v)]
    step = max(1, -(-len(known) // _STEPS))
    look = {"w": 3.5, "o": 1.0} if is_best else {"w": 1.2, "o": 0.5}
    for epoch, value in [*known[:-1:step], *known[-1:]]:
        point = {"n": trial.number, "e": epoch, "v": value, "s": trial.state.value, **look}
        yield point | ({"l": True, "t": _told(result, trial)} if epoch == known[-1][0] else {})


def _curve_summary(result: StudyResult, trial: TrialResult) -> list[str]:
    objective = result.objectives[0]
    values = [v for v in map(objective.value, trial.history) if v is not None and math.isfinite(v)]
    choose = min if result.mode == "min" else max
    three = [values[0], choose(values), values[-1]] if values else [None] * 3
    return [name_of(trial), trial.state.value, str(trial.epochs), *map(_or_dash, three)]


def _rungs(result: StudyResult) -> list[int]:
    ends = Counter(t.epochs for t in result.trials if t.state is TrialState.STOPPED)
    return sorted(epoch for epoch, _ in ends.most_common(_RUNGS))


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
        told = _told(result, trial)
        places = [float(point[order.index(n)]) if n in trial.params else None for n in names]
        for index, (axis, place) in enumerate(
            zip(axes, [*places, ranks[trial.number]], strict=True)
        ):
            if place is not None:
                row = {"n": trial.number, "a": axis, "p": round(place, 4), "i": index}
                yield row | {"g": group, "w": width, "o": opacity, "t": told}


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
    spec = charts.slice_of(axis, _states(shown), [value for _, value in shown], metric)
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


def _or_dash(value: float | None) -> str:
    return "-" if value is None else number(value)
