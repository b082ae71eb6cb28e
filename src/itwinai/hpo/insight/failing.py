"""Regions of the search space in which trials fail."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.stats import fisher_exact

from itwinai.confidential import is_secret
from itwinai.hpo.insight.finding import Finding, changed, ended, ranged
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import Choice, Float, Integer, Parameter
from itwinai.hpo.trial import POOR, TrialResult

#: Failures that there must be, the share of them that lies in the region, and the level of the
#: test over all sides of all hyper-parameters.
_FEWEST, _SHARE, _LEVEL = 3, 0.8, 0.01
#: Values that are tried as the edge of a region, about.
_EDGES = 20

Side = Literal["from", "up to", "being"]


@dataclass(frozen=True)
class _Region:
    """Where a hyper-parameter is on one side of a value, or is this value."""

    name: str
    side: Side
    value: Any

    def holds(self, trial: TrialResult) -> bool:
        """Whether a trial lies in it."""
        if self.name not in trial.params:
            return False
        own = trial.params[self.name]
        if self.side == "being":
            return bool(own == self.value)
        return _is_number(own) and _beyond(self, own)

    def __str__(self) -> str:
        word = {"from": ">=", "up to": "<=", "being": "="}[self.side]
        value = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{self.name} {word} {value}"


@dataclass(frozen=True)
class _Count:
    """Trials in a region and outside."""

    region: _Region
    failed_in: int
    all_in: int
    failed: int
    every: int

    @property
    def chance(self) -> float:
        """Fisher's exact probability that so many failures lie there by chance (one-sided)."""
        good_in = self.all_in - self.failed_in
        failed_out = self.failed - self.failed_in
        good_out = self.every - self.all_in - failed_out
        table = np.array([[self.failed_in, good_in], [failed_out, good_out]])
        return float(fisher_exact(table, alternative="greater").pvalue)


def failing_regions(result: StudyResult) -> Iterator[Finding]:
    """Find the region, of one hyper-parameter, in which most failures lie, if it is no chance."""
    trials = ended(result)
    failed = [trial for trial in trials if trial.state in POOR]
    if len(failed) < _FEWEST:
        return
    sides = sum(_sides(domain) for domain in result.space.values())
    counts = [_counted(region, trials) for region in _regions(result, failed)]
    likely = [count for count in counts if count.failed_in >= _SHARE * count.failed]
    count = min(likely, key=lambda count: (count.chance, count.all_in), default=None)
    if count is not None and count.chance * sides < _LEVEL:
        yield _finding(result, trials, count)


def _sides(domain: Parameter) -> int:
    """Comparisons that are made for a hyper-parameter."""
    return len(domain.categories) if isinstance(domain, Choice) else 2


def _regions(result: StudyResult, failed: Sequence[TrialResult]) -> Iterator[_Region]:
    """The regions that failed trials bound, and that hold enough of them."""
    for name, domain in result.space.items():
        if isinstance(domain, Choice):
            shown = not any(is_secret(name, value) for value in domain.categories)
            yield from (_Region(name, "being", value) for value in domain.categories if shown)
            continue
        known = [trial.params[name] for trial in failed if name in trial.params]
        values = sorted(value for value in known if _is_number(value))
        yield from (_Region(name, "from", value) for value in _edges(values))
        yield from (_Region(name, "up to", value) for value in _edges(values[::-1]))


def _edges(values: Sequence[Any]) -> Sequence[Any]:
    """The first of some values, as many as may lie outside a region; some of them if many."""
    outside = math.floor(len(values) * (1 - _SHARE) + 1e-9)
    return values[: outside + 1][:: 1 + outside // _EDGES]


def _counted(region: _Region, trials: Sequence[TrialResult]) -> _Count:
    inside = [trial for trial in trials if region.holds(trial)]
    failed_in = sum(trial.state in POOR for trial in inside)
    failed = sum(trial.state in POOR for trial in trials)
    return _Count(region, failed_in, len(inside), failed, len(trials))


def _finding(result: StudyResult, trials: Sequence[TrialResult], count: _Count) -> Finding:
    region, best = count.region, result.best
    spent = sum(trial.epochs for trial in trials if region.holds(trial) and trial.state in POOR)
    evidence = (
        f"{count.failed_in} of {count.failed} failed trials have {region}; there {count.failed_in} "
        f"of {count.all_in} trials failed, elsewhere {count.failed - count.failed_in} of "
        f"{count.every - count.all_in}."
    )
    holds_best = best is not None and region.holds(best)
    after = None if holds_best else _without(result.space[region.name], region, trials)
    return Finding(
        kind="failing region",
        evidence=evidence,
        cost=f"{count.failed_in} trials and their {spent} epochs came to nothing.",
        remedy=_remedy(region, holds_best),
        patch={} if after is None else changed(region.name, result.space[region.name], after),
    )


def _remedy(region: _Region, holds_best: bool) -> str:
    if holds_best:
        return f"Find out why trials fail with {region}: the best trial lies there, too."
    return f"Leave {region} out, in a new study, or mend what makes trials fail there."


def _without(domain: Parameter, region: _Region, trials: Sequence[TrialResult]) -> Parameter | None:
    """The domain without the region; None if nothing would be left of it."""
    if isinstance(domain, Choice):
        left = tuple(value for value in domain.categories if value != region.value)
        return replace(domain, categories=left) if len(left) > 1 else None
    if not isinstance(domain, Float | Integer):
        return None
    outside = [t.params[region.name] for t in trials if region.name in t.params]
    outside = [v for v in outside if domain.contains(v) and not _beyond(region, v)]
    if not outside:
        return None
    # The good value that is next to the region is known to be one.
    lower = domain.lower if region.side == "from" else min(outside)
    upper = max(outside) if region.side == "from" else domain.upper
    if isinstance(domain, Float) and domain.step is None:
        lower, upper = (float(f"{bound:.4g}") for bound in (lower, upper))
    return ranged(domain, lower, upper) if lower < upper else None


def _is_number(value: Any) -> bool:
    """Whether a value is a number; a default may be anything."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _beyond(region: _Region, value: Any) -> bool:
    return bool(value >= region.value if region.side == "from" else value <= region.value)
