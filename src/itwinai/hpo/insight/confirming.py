"""Whether a study's winner is better than the default: a test on reruns from fresh seeds.

The value that a study recorded of its best trial is too good, because it was chosen for being good
(the winner's curse); only reruns tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from itwinai.hpo.objectives import Mode

#: Reruns of each configuration after which the test looks.
LOOKS = (3, 5, 8)

#: One-sided p-values: below the first a gain is claimed at any look, above the second the test
#: gives up. With three looks 2.5 % of all claims are false where there is no gain, as simulated in
#: ``benchmarks/confirm.py``.
_CLAIM, _GIVE_UP = 0.011, 0.3

#: Confidence of the interval.
_CONFIDENCE = 0.95

Verdict = Literal["better", "no significant gain", "not decided"]


@dataclass(frozen=True)
class Gain:
    """What a configuration gains over another one on fresh seeds.

    Attributes:
        verdict: What the test says.
        mean: How much better the mean is, in units of the metric; negative if it is worse.
        low: Lower end of the 95 % interval of that (Welch); minus infinity of a single rerun.
        high: Its upper end.
        reruns: Reruns of each of the two that the test has seen.
    """

    verdict: Verdict
    mean: float
    low: float
    high: float
    reruns: int


def sequential_gain(
    candidate: Sequence[float],
    default: Sequence[float],
    mode: Mode,
    looks_at: Sequence[int] = LOOKS,
    candidates: int = 1,
) -> Gain | None:
    """Test after some numbers of reruns whether a candidate is better than the default.

    A one-sided Welch test at each look (Welch 1947): it claims a gain below p = .011, gives up
    above .3, and otherwise goes on to the next look.

    Args:
        candidate: Values of the candidate's reruns, in the order of their seeds.
        default: The same of the default configuration.
        mode: In which direction the metric is better.
        looks_at: Reruns of each after which it looks, increasing.
        candidates: Candidates that are tested: a claim needs a p-value so many times lower
            (Bonferroni).

    Returns:
        What the test says at the first look that decides, or at the last one that there are enough
        reruns for; None before the first.
    """
    ready = min(len(candidate), len(default))
    gain = None
    for look in [look for look in looks_at if look <= ready]:
        gain = _at(look, candidate[:look], default[:look], mode, candidates)
        if gain.verdict != "not decided":
            break
    return gain


def looks(most: int) -> list[int]:
    """The numbers of reruns after which the test looks, the last of them ``most``."""
    return [*(look for look in LOOKS if look < most), most]


def _at(
    look: int, candidate: Sequence[float], default: Sequence[float], mode: Mode, candidates: int
) -> Gain:
    sign = 1.0 if mode == "max" else -1.0
    new, old = sign * np.asarray(candidate), sign * np.asarray(default)
    mean = float(new.mean() - old.mean())
    p, low, high = _welch(new, old, mean)
    verdict: Verdict = "not decided"
    if p * candidates < _CLAIM:
        verdict = "better"
    elif p > _GIVE_UP:
        verdict = "no significant gain"
    return Gain(verdict, mean, low, high, look)


def _welch(
    new: np.ndarray[Any, Any], old: np.ndarray[Any, Any], mean: float
) -> tuple[float, float, float]:
    """One-sided p-value, and the two-sided interval of the difference."""
    if len(new) < 2:
        return 1.0, -math.inf, math.inf
    if not new.std() and not old.std():  # the seed makes no difference
        return (0.0 if mean > 0 else 1.0), mean, mean
    from scipy import stats  # takes a second, which a study that starts does not need

    p = float(stats.ttest_ind(new, old, equal_var=False, alternative="greater").pvalue)
    interval = stats.ttest_ind(new, old, equal_var=False).confidence_interval(_CONFIDENCE)
    return p, float(interval.low), float(interval.high)
