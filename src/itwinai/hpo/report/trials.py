"""What the trials reached: over the study, over their epochs, and in several objectives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from itwinai.hpo.display.summary import name_of
from itwinai.hpo.display.words import number, plural
from itwinai.hpo.insight.remaining import GOES_ON
from itwinai.hpo.record import StudyResult
from itwinai.hpo.report import charts
from itwinai.hpo.report.parts import (
    MOST_POINTS,
    Chart,
    Row,
    Section,
    Table,
    final,
    or_dash,
    point_of,
    said,
    scored,
    states_of,
    thinned,
    told,
)
from itwinai.hpo.trial import TrialResult, TrialState

#: Curves that the eye can follow, points of a curve, and epochs that are marked as rungs.
_CURVES, _STEPS, _RUNGS = 150, 80, 12


def history(result: StudyResult) -> Section:
    """How the values went, trial by trial."""
    shown, notes = thinned(result, MOST_POINTS)
    bests = dict(_best_so_far(result))
    rows = [
        point_of(result, trial, value) | {"b": bests.get(trial.number)} for trial, value in shown
    ]
    metric = said(result.metric)
    spec = charts.history(states_of(shown), [value for _, value in shown], metric)
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
                [
                    name_of(t),
                    t.state.value,
                    number(t.epochs),
                    number(v),
                    or_dash(bests.get(t.number)),
                ]
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
    spec = charts.curves(states_of(shown), [row["v"] for row in rows], metric, rungs)
    caption = f"{metric} at each report; the best trial is drawn bold, dashed lines are rungs"
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
        {"x": x, "y": y, "f": label[t.number in front], "t": told(result, t)} for t, x, y in drawn
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
        charts=[Chart(" and ".join(names), charts.pareto(names, values, first.mode), rows)]
        if rows
        else [],
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


def _progress(result: StudyResult, bests: Mapping[int, float]) -> str:
    if not bests:
        return "No trial has trained to the end yet, so there is no best so far."
    values = list(bests.values())
    changes = [
        n for (n, v), before in zip(bests.items(), [None, *values], strict=False) if v != before
    ]
    ended = [trial for trial in result.trials if trial.state not in GOES_ON]
    later = sum(trial.number > changes[-1] for trial in ended)
    since = f"{plural(later, 'later trial')} brought nothing better" if later else "at the end"
    return (
        f"The best completed {said(result.metric)} went from {number(values[0])} to "
        f"{number(values[-1])}, with its last improvement at trial {changes[-1]}; {since}."
    )


def _stops(result: StudyResult) -> str:
    stopped = [trial for trial in result.trials if trial.state is TrialState.STOPPED]
    done = [trial for trial in result.trials if trial.state is TrialState.COMPLETED]
    whole = sum(trial.epochs >= result.epochs for trial in done)
    full = f"{plural(whole, 'trial')} trained all {plural(result.epochs, 'epoch')}"
    if whole < len(done):
        full += f", {plural(len(done) - whole, 'training')} ended before that"
    if not stopped:
        return f"{full}, and none was stopped early."
    mean = sum(trial.epochs for trial in stopped) / len(stopped)
    were = "1 was" if len(stopped) == 1 else f"{len(stopped)} were"
    return f"{full}, and {were} stopped early, after {mean:.1f} epochs on average."


def _rungs_note(rungs: Sequence[float]) -> Iterator[str]:
    if rungs:
        yield f"Trials were stopped at these epochs above all: {', '.join(map(number, rungs))}."


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
    pairs = zip(trial.at, values, strict=True)
    known = [(e, v) for e, v in pairs if v is not None and math.isfinite(v)]
    step = max(1, -(-len(known) // _STEPS))
    look = {"w": 3.5, "o": 1.0} if is_best else {"w": 1.2, "o": 0.5}
    for epoch, value in [*known[:-1:step], *known[-1:]]:
        point = {"n": trial.number, "e": epoch, "v": value, "s": trial.state.value, **look}
        yield point | ({"l": True, "t": told(result, trial)} if epoch == known[-1][0] else {})


def _curve_summary(result: StudyResult, trial: TrialResult) -> list[str]:
    objective = result.objectives[0]
    values = [v for v in map(objective.value, trial.history) if v is not None and math.isfinite(v)]
    choose = min if result.mode == "min" else max
    three = [values[0], choose(values), values[-1]] if values else [None] * 3
    return [name_of(trial), trial.state.value, number(trial.epochs), *map(or_dash, three)]


def _rungs(result: StudyResult) -> list[float]:
    ends = Counter(t.epochs for t in result.trials if t.state is TrialState.STOPPED)
    return sorted(epoch for epoch, _ in ends.most_common(_RUNGS))
