"""The charts in the grammar of Vega-Lite.

No text of a study becomes part of an expression or a field's name: names and values are data.
Colours of text and axes come from the style sheet, so that they follow the reader's theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itwinai.hpo.objectives import Mode
from itwinai.hpo.trial import TrialState

Spec = dict[str, Any]

#: Colours that can be told apart on white and on black, and by those who see colours differently
#: (Okabe and Ito, "Color universal design", 2008); shapes say the same without colour.
_BLUE, _ORANGE, _GREY = "#2f7fc1", "#d55e00", "#8c8c8c"
_LOOKS: dict[TrialState, tuple[str, str]] = {
    TrialState.COMPLETED: (_BLUE, "circle"),
    TrialState.STOPPED: (_GREY, "cross"),
    TrialState.RUNNING: ("#009e73", "triangle-right"),
    TrialState.PAUSED: ("#56b4e9", "square"),
    TrialState.INTERRUPTED: ("#b58900", "triangle-down"),
    TrialState.DIVERGED: ("#cc79a7", "diamond"),
    TrialState.FAILED: (_ORANGE, "triangle-up"),
    TrialState.OUT_OF_MEMORY: ("#a63603", "triangle-left"),
    TrialState.LOST: ("#7f3b08", "stroke"),
    TrialState.HUNG: ("#e08214", "arrow"),
}
#: Values whose largest is so many times the smallest are drawn on a logarithmic scale.
_WIDE = 30.0

_SHAPES = ["diamond", "circle", "cross"]
#: Axes of small charts have few ticks.
_FEW: Spec = {"tickCount": 4, "labelOverlap": True}

BEST, TOP, OTHERS = "the best", "the best tenth", "the others"
ON_FRONT, BEATEN = "on the front", "beaten by another"
_ORDER: Spec = {"domain": [BEST, TOP, OTHERS]}
_FRONT: Spec = {"domain": [ON_FRONT, BEATEN]}


@dataclass(frozen=True)
class Axis:
    """The axis of a hyper-parameter.

    Attributes:
        field: Its field in the rows.
        name: What it is called.
        categories: Its values in their order; None: numbers.
        decades: Where a logarithmic scale is labelled; none if it is linear.
    """

    field: str
    name: str
    categories: Sequence[float | str] | None = None
    decades: Sequence[float] = ()

    @property
    def channel(self) -> Spec:
        """The axis in the grammar of Vega-Lite."""
        if self.categories is not None:
            axis = {"labelLimit": 90, "labelAngle": 0, "labelOverlap": True}
            order = {"sort": list(self.categories), "axis": axis}
            return {"field": self.field, "type": "nominal", "title": self.name, **order}
        if not self.decades:
            return _quantitative(self.field, self.name, scale={"zero": False}, axis=_FEW)
        log = {"type": "log", "nice": False}
        ticks: Spec = {**_FEW, "values": list(self.decades)}
        return _quantitative(self.field, self.name, scale=log, axis=ticks)


def history(states: Sequence[TrialState], values: Sequence[float], metric: str) -> Spec:
    """Values of trials in their order, and the best so far; rows of n, v, s, b, t."""
    x = _counted("n", "trial")
    y = _quantitative("v", metric, scale=scale_of(values))
    best = {
        "transform": [{"filter": "isValid(datum.b)"}],
        "mark": {"type": "line", "interpolate": "step-after", "color": _ORANGE},
        "encoding": {"x": x, "y": {**y, "field": "b"}},
    }
    return _framed(layer=[best, _points(x, y, states)])


def curves(
    states: Sequence[TrialState], values: Sequence[float], metric: str, rungs: Sequence[float]
) -> Spec:
    """Values of trials at each report; rows of n, e, v, s, w (how bold), l (whether last), t."""
    x = _counted("e", "epoch")
    y = _quantitative("v", metric, scale=scale_of(values))
    lines = {
        "mark": {"type": "line", "clip": True},
        "encoding": {
            "x": x,
            "y": y,
            "color": _colour(states),
            "detail": {"field": "n"},
            "strokeWidth": {"field": "w", "type": "quantitative", "scale": None},
            "opacity": {"field": "o", "type": "quantitative", "scale": None},
        },
    }
    ends = {**_points(x, y, states), "transform": [{"filter": "datum.l"}]}
    rules = {
        "data": {"values": [{"e": rung} for rung in rungs]},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": _GREY},
        "encoding": {"x": {"field": "e", "type": "quantitative"}},
    }
    return _framed(layer=[*([rules] if rungs else []), lines, ends], height=340)


def parallel(
    axes: Sequence[str], ends: Sequence[Mapping[str, Any]], marks: Sequence[Mapping[str, Any]]
) -> Spec:
    """A line for each trial through its place on each axis; rows of n, a, p, g, o, w, t.

    Args:
        axes: The axes' names.
        ends: What stands at the ends of an axis of numbers, rows of a, p, t.
        marks: What stands beside an axis of categories, the same.
    """
    x = {
        "field": "a",
        "type": "ordinal",
        "sort": list(axes),
        "title": None,
        "scale": {"padding": 0.3},
        "axis": {"grid": True, "labelAngle": -30, "labelLimit": 140},
    }
    y = _quantitative("p", None, axis=None, scale={"domain": [-0.08, 1.08], "nice": False})
    lines = {
        "mark": {"type": "line", "tooltip": True},
        "encoding": {
            "x": x,
            "y": y,
            "detail": {"field": "n"},
            "color": _groups(),
            "strokeWidth": {"field": "w", "type": "quantitative", "scale": None},
            "opacity": {"field": "o", "type": "quantitative", "scale": None},
            "order": {"field": "i", "type": "quantitative"},
            "tooltip": {"field": "t", "type": "nominal"},
        },
    }
    texts = [
        {
            "data": {"values": list(labels)},
            "mark": {"type": "text", "fontSize": 11, "limit": 90, **where},
            "encoding": {"x": x, "y": y, "text": {"field": "t", "type": "nominal"}},
        }
        for labels, where in ((ends, {}), (marks, {"align": "left", "dx": 5}))
        if labels
    ]
    return _framed(layer=[lines, *texts], height=360)


def importance(count: int) -> Spec:
    """Bars of two readings for each hyper-parameter; rows of a, v, r, t."""
    share = {"field": "v", "type": "quantitative", "title": "share of the variance (total index)"}
    name = {"field": "a", "type": "nominal", "sort": None, "title": None}
    return _framed(
        mark={"type": "bar", "tooltip": True},
        encoding={
            "y": {**name, "axis": {"labelLimit": 160}},
            "yOffset": {"field": "r", "type": "nominal", "sort": None},
            "x": {**share, "scale": {"domain": [0, 1]}},
            "color": {
                "field": "r",
                "type": "nominal",
                "title": None,
                "sort": None,
                "scale": {"range": [_BLUE, _GREY]},
            },
            "tooltip": {"field": "t", "type": "nominal"},
        },
        height=40 * count,
    )


def slice_of(
    axis: Axis, states: Sequence[TrialState], values: Sequence[float], metric: str
) -> Spec:
    """The metric against one hyper-parameter; rows as of :func:`history`, with its field."""
    y = _quantitative("v", metric, scale=scale_of(values), axis=_FEW)
    return _framed(**_points(axis.channel, y, states, legend=False), height=200)


def pair(first: Axis, second: Axis) -> Spec:
    """Two hyper-parameters against each other; rows with their fields, g, t."""
    return _framed(
        mark={"type": "point", "filled": True, "size": 45, "opacity": 0.75},
        encoding={
            "x": first.channel,
            "y": second.channel,
            "color": {**_groups(), "legend": None},
            "shape": {**_groups(), "legend": None, "scale": _ORDER | {"range": _SHAPES}},
            "tooltip": {"field": "t", "type": "nominal"},
        },
        height=220,
    )


def pareto(names: Sequence[str], values: Sequence[Sequence[float]], mode: Mode) -> Spec:
    """Two objectives against each other, and the front; rows of x, y, f, t.

    Args:
        names: Of the two.
        values: Of each all that are drawn.
        mode: Of the first one: between two trials of the front the steps go through what the one
            reaches that is good enough in it.
    """
    x, y = (
        _quantitative(field, name, scale=scale_of(of))
        for field, name, of in zip("xy", names, values, strict=True)
    )
    front = {"field": "f", "type": "nominal", "title": None}
    points = {
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8},
        "encoding": {
            "x": x,
            "y": y,
            "tooltip": {"field": "t", "type": "nominal"},
            "color": {**front, "scale": _FRONT | {"range": [_ORANGE, _GREY]}},
            "shape": {**front, "scale": _FRONT | {"range": ["diamond", "circle"]}},
        },
    }
    line = {
        "transform": [{"filter": "datum.f === 'on the front'"}],
        "mark": {
            "type": "line",
            "interpolate": "step-after" if mode == "min" else "step-before",
            "color": _ORANGE,
        },
        "encoding": {"x": x, "y": y, "order": {"field": "x", "type": "quantitative"}},
    }
    return _framed(layer=[line, points], height=340)


def slots(states: Sequence[TrialState], unit: str, count: int) -> Spec:
    """A bar for each attempt in its slot; rows of x, y (times), k (slot), s, t."""
    return _framed(
        mark={"type": "bar", "tooltip": True, "height": {"band": 0.85}},
        encoding={
            "x": _quantitative("x", f"{unit} since the first trial began", scale={"nice": False}),
            "x2": {"field": "y"},
            "y": {"field": "k", "type": "ordinal", "title": "slot"},
            "color": _colour(states),
            "tooltip": {"field": "t", "type": "nominal"},
        },
        height=count * (24 if count < 20 else 8),
    )


def busy(unit: str) -> Spec:
    """How many slots were in use at each time; rows of x, v."""
    return _framed(
        mark={"type": "area", "interpolate": "step-after", "color": _BLUE, "opacity": 0.7},
        encoding={
            "x": _quantitative("x", f"{unit} since the first trial began", scale={"nice": False}),
            "y": _quantitative("v", "slots in use", scale={"zero": True}),
        },
        height=180,
    )


def races(values: Sequence[float], metric: str, names: Sequence[str]) -> Spec:
    """The best value so far of several studies; rows of n, b, a."""
    return _framed(
        mark={"type": "line", "interpolate": "step-after", "tooltip": True},
        encoding={
            "x": _counted("n", "trial"),
            "y": _quantitative("b", f"best {metric} so far", scale=scale_of(values)),
            "color": {"field": "a", "type": "nominal", "title": None, "sort": list(names)},
            "strokeDash": {"field": "a", "type": "nominal", "legend": None, "sort": list(names)},
        },
    )


def scale_of(values: Sequence[float]) -> Spec:
    """The scale of a metric: logarithmic where a linear one would hide most values."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low > 0 and high / low > _WIDE:
        return {"type": "log", "nice": False}
    return {"zero": False}


def _framed(**content: Any) -> Spec:
    frame = {"width": "container", "height": 280, "autosize": {"type": "fit-x", "resize": True}}
    return {**frame, **content}


def _points(x: Spec, y: Spec, states: Sequence[TrialState], legend: bool = True) -> Spec:
    looks = {"color": _colour(states), "shape": _shape(states)}
    if not legend:
        looks = {channel: {**look, "legend": None} for channel, look in looks.items()}
    return {
        "mark": {"type": "point", "size": 40, "filled": True, "opacity": 0.8},
        "encoding": {
            "x": x,
            "y": y,
            **looks,
            "tooltip": {"field": "t", "type": "nominal"},
        },
    }


def _quantitative(field: str, title: str | None, **rest: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **rest}


def _counted(field: str, title: str) -> Spec:
    """An axis of whole numbers."""
    whole = {"format": "d", "tickMinStep": 1}
    return _quantitative(field, title, scale={"nice": False, "zero": False}, axis=whole)


def _colour(states: Sequence[TrialState]) -> Spec:
    return _by_state(states, [_LOOKS[state][0] for state in states])


def _shape(states: Sequence[TrialState]) -> Spec:
    return _by_state(states, [_LOOKS[state][1] for state in states])


def _by_state(states: Sequence[TrialState], looks: Sequence[str]) -> Spec:
    scale = {"domain": [state.value for state in states], "range": list(looks)}
    return {"field": "s", "type": "nominal", "title": None, "scale": scale}


def _groups() -> Spec:
    colours = {"range": [_ORANGE, _BLUE, _GREY]}
    return {"field": "g", "type": "nominal", "title": None, "scale": _ORDER | colours}
