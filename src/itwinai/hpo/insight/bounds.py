"""Ranges that hold the search back: the best values lie at an end, or a logarithm is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.finding import Finding, Range, changed, ranged
from itwinai.hpo.insight.learnt import Learnt
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import Float, Integer
from itwinai.hpo.trial import TrialResult, TrialState

Array = NDArray[np.float64]
#: The best trials that are looked at, and how many of them must lie at an end.
_TOP, _ENOUGH = 5, 3
#: What counts as lying at an end, and how far inside the model is asked beside it: shares of the
#: range.
_NEAR, _INSIDE = 0.15, 0.2
#: By so many deviations of what is known inside the end must be better: a search that has settled
#: at one end puts many trials there, also of what does not matter.
_SURE = 1.5
#: How much wider a range becomes, as a share of it.
_WIDER = 0.3
#: Ratio of the ends from which on a range is expected to be logarithmic.
_DECADES = 100


@dataclass(frozen=True)
class _End:
    """An end of a range: 0 or 1 where the range goes from 0 to 1."""

    name: str
    domain: Range
    place: float

    @property
    def word(self) -> str:
        return "upper" if self.place else "lower"

    @property
    def value(self) -> float:
        return self.domain.upper if self.place else self.domain.lower


def at_bounds(result: StudyResult, model: Learnt | None) -> Iterator[Finding]:
    """Find ends of ranges at which the best trials lie, and where the model expects more beyond."""
    completed = [t for t in result.trials if t.state is TrialState.COMPLETED and t.history]
    if model is None or len(completed) < _TOP:
        return
    top = _points(model, _best(model, completed))
    for coordinate, (name, domain) in enumerate(result.space.items()):
        if not isinstance(domain, Float | Integer) or _lacks_logarithm(domain):
            continue
        for place in (0.0, 1.0):
            near = int((np.abs(top[:, coordinate] - place) <= _NEAR).sum())
            wider = _widened(_End(name, domain, place))
            if wider is None or near < _ENOUGH or not _rises(model, top, coordinate, place):
                continue
            yield _at_bound(_End(name, domain, place), wider, near)


def without_logarithm(result: StudyResult, model: Learnt | None) -> Iterator[Finding]:
    """Find linear ranges of numbers over two decades or more."""
    completed = [t for t in result.trials if t.state is TrialState.COMPLETED and t.history]
    for coordinate, (name, domain) in enumerate(result.space.items()):
        if not isinstance(domain, Float | Integer) or not _lacks_logarithm(domain):
            continue
        support = ""
        if model is not None and len(completed) >= _TOP:
            best = _best(model, completed)
            highest = float(_points(model, best)[:, coordinate].max())
            if highest <= 0.5 and all(name in trial.params for trial in best):
                percent = max(1, math.ceil(100 * highest))
                support = f", and the best {_TOP} trials lie in the lowest {percent}% of it"
        decades = math.log10(domain.upper / domain.lower)
        yield Finding(
            kind="logarithm",
            evidence=f"{name} is searched on a linear scale from {domain.lower:g} to "
            f"{domain.upper:g}{support}.",
            cost=f"9 of 10 values that are drawn lie in the last of {decades:.1f} decades.",
            remedy=f"Search {name} on a logarithmic scale, in a new study.",
            patch=changed(name, domain, _logarithmic(domain)),
        )


def _best(model: Learnt, completed: Sequence[TrialResult]) -> list[TrialResult]:
    """The five trials that are the best by the model's mean, the best one first."""
    means, _ = model.predict([trial.params for trial in completed])
    return [completed[index] for index in np.argsort(means, kind="stable")[:_TOP]]


def _points(model: Learnt, trials: Sequence[TrialResult]) -> Array:
    """Their points (n, d); a hyper-parameter that a trial lacks is in the middle."""
    return np.array([model.encoder.encode(trial.params) for trial in trials])


def _rises(model: Learnt, top: Array, coordinate: int, place: float) -> bool:
    """Whether the best trial is sure enough to be better at an end than somewhat inside."""
    points = np.repeat(top[:1], 2, axis=0)
    points[:, coordinate] = place, abs(place - _INSIDE)
    means, deviations = model.surrogate.predict(model.encoder.columns(model.encoder.snap(points)))
    return bool(means[1] - means[0] > _SURE * deviations[1])


def _at_bound(end: _End, wider: Range, near: int) -> Finding:
    value = wider.upper if end.place else wider.lower
    return Finding(
        kind="bound",
        evidence=f"{near} of the best {_TOP} trials lie at the {end.word} bound of {end.name}, "
        f"{end.value:g}, and the model expects the metric to get better towards it.",
        cost="Better values may lie beyond, where no trial has been.",
        remedy=f"Widen {end.name} to {value:g}: a study that is extended takes them.",
        patch=changed(end.name, end.domain, wider),
    )


def _lacks_logarithm(domain: Range) -> bool:
    return not domain.log and domain.lower > 0 and domain.upper / domain.lower >= _DECADES


def _logarithmic(domain: Range) -> Range:
    return replace(domain, log=True)


def _widened(end: _End) -> Range | None:
    """The range made wider at an end; None where numbers of its sort end there.

    Shares end at 0 and at 1, and what is never negative ends at 0.
    """
    domain = end.domain
    sign = 1 if end.place else -1
    if domain.log:
        value = end.value * (domain.upper / domain.lower) ** (sign * _WIDER)
        value = float(f"{value:.2g}")
    else:
        by = _WIDER * (domain.upper - domain.lower)
        value = round(end.value + sign * by, -math.floor(math.log10(by)))
        if domain.lower >= 0:
            value = max(value, domain.lower / 2)
    if isinstance(domain, Float) and domain.lower >= 0 and domain.upper <= 1:
        value = min(value, 1.0)
    value = _on_step(domain, value, end)
    if sign * (value - end.value) <= 0:
        return None
    lower, upper = (domain.lower, value) if end.place else (value, domain.upper)
    wider = ranged(domain, lower, upper)
    return wider if wider.widens(domain) else None


def _on_step(domain: Range, value: float, end: _End) -> float:
    """Move a number beyond an end onto a step."""
    if domain.step is None:
        return value
    steps = math.floor(abs(value - end.value) / domain.step + 1e-9)
    moved = end.value + (1 if end.place else -1) * steps * domain.step
    return float(f"{moved:.15g}") if isinstance(domain, Float) else int(moved)
