"""Regions of the search space in which trials fail.

A search avoids what has failed, so that few trials lie in such a region, and where they lie is no
chance. The evidence is therefore a likelihood ratio that holds for any search, because it asks only
how a trial ended that was somewhere, and never how it came there: "universal inference" (Wasserman,
Ramdas and Balakrishnan 2020). If failures have nothing to do with the values, it is above 10 in at
most 10 % of the studies, whatever the search, and was in 2 of 2,400 simulated ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import betaln, logsumexp, xlogy

from itwinai.confidential import is_secret
from itwinai.hpo.insight.finding import Finding, changed, ended, ranged
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import Choice, Float, Integer, Parameter
from itwinai.hpo.trial import POOR, TrialResult
from itwinai.reporting import rounded

#: The ratio from which on a region is no chance.
_RATIO = 10
#: What a failing region is believed to be: of the trials in it most fail, of the others few (beta
#: distributions of the share), and it is one of these parts of a range, at either end.
_INSIDE, _ELSEWHERE = (3, 1), (1, 19)
_PARTS = tuple(n / 20 for n in range(1, 11))
#: Values that are tried as the edge of the region that is told, about.
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
        value = rounded(self.value) if isinstance(self.value, float) else str(self.value)
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
    def evidence(self) -> float:
        """Logarithm: how much likelier the failures are than if all trials failed as often."""
        failed_out = self.failed - self.failed_in
        good_out = self.every - self.all_in - failed_out
        inside = _likelihood(_INSIDE, self.failed_in, self.all_in - self.failed_in)
        elsewhere = _likelihood(_ELSEWHERE, failed_out, good_out)
        ends = np.array([self.failed, self.every - self.failed])
        return inside + elsewhere - float(xlogy(ends, ends / self.every).sum())


def _likelihood(belief: tuple[int, int], failed: int, good: int) -> float:
    """Logarithm of the probability of these ends, over a belief about the share that fails."""
    return float(betaln(belief[0] + failed, belief[1] + good) - betaln(*belief))


def failing_regions(result: StudyResult) -> Iterator[Finding]:
    """Find the region, of one hyper-parameter, in which trials fail, if it is no chance."""
    trials = ended(result)
    failed = [trial for trial in trials if trial.state in POOR]
    domains = {name: domain for name, domain in result.space.items() if _is_shown(name, domain)}
    if not failed or not domains or _evidence(domains, trials) < math.log(_RATIO):
        return
    counts = [_counted(region, trials) for region in _bounded(domains, failed)]
    count = max(counts, key=lambda count: (count.evidence, -count.all_in), default=None)
    if count is not None:
        yield _finding(result, trials, count)


def _evidence(domains: Mapping[str, Parameter], trials: Sequence[TrialResult]) -> float:
    """The mean over all regions that there may be, each hyper-parameter counting as much."""
    each = []
    for name, domain in domains.items():
        found = [_counted(region, trials).evidence for region in _possible(name, domain)]
        each.append(logsumexp(found) - math.log(len(found)))
    return float(logsumexp(each)) - math.log(len(each))


def _possible(name: str, domain: Parameter) -> Iterator[_Region]:
    """The regions that are thought of before any trial."""
    if isinstance(domain, Choice):
        yield from (_Region(name, "being", value) for value in domain.categories)
        return
    for part in _PARTS:
        yield _Region(name, "up to", domain.at(part))
        yield _Region(name, "from", domain.at(1 - part))


def _bounded(domains: Mapping[str, Parameter], failed: Sequence[TrialResult]) -> Iterator[_Region]:
    """The regions whose edge is a trial that failed; some of them if many."""
    for name, domain in domains.items():
        if isinstance(domain, Choice):
            yield from _possible(name, domain)
            continue
        known = [trial.params[name] for trial in failed if name in trial.params]
        values = sorted({value for value in known if _is_number(value)})
        step = 1 + len(values) // _EDGES
        yield from (_Region(name, "from", value) for value in values[::step])
        yield from (_Region(name, "up to", value) for value in values[::-step])


def _is_shown(name: str, domain: Parameter) -> bool:
    """Whether a hyper-parameter's values may be told."""
    return not (isinstance(domain, Choice) and any(is_secret(name, v) for v in domain.categories))


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
        cost=f"{count.failed_in} trials and their {spent:g} epochs came to nothing.",
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
    nearest = max(outside) if region.side == "from" else min(outside)
    if isinstance(domain, Float) and domain.step is None:
        short = float(f"{nearest:.4g}")
        nearest = short if domain.contains(short) and not _beyond(region, short) else nearest
    lower = domain.lower if region.side == "from" else nearest
    upper = nearest if region.side == "from" else domain.upper
    return ranged(domain, lower, upper) if lower < upper else None


def _is_number(value: Any) -> bool:
    """Whether a value is a number; a default may be anything."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _beyond(region: _Region, value: Any) -> bool:
    return bool(value >= region.value if region.side == "from" else value <= region.value)
