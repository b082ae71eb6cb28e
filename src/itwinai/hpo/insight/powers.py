"""What studies have really let go on, as a power of what rungs alone let one expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Power:
    """To which power the shares that go on were raised, in studies of so many trials.

    Attributes:
        trials: Trials of a study.
        median: Half of the studies were below; below 1, more trials went on than in random order.
        low: 5 % of them were.
        high: 95 % of them were.
    """

    trials: int
    median: float
    low: float
    high: float


#: By scheduler, with ", random" where the search learns nothing and ", tpe" where it learns from
#: what ``tpe`` does; ``asha, patient`` keeps at least half at a rung, as ``auto`` does. Measured by
#: ``benchmarks/plan_tables.py``.
POWERS: Mapping[str, tuple[Power, ...]] = {
    "asha, patient": (
        Power(10, 0.46, 0.0, 1.19),
        Power(24, 0.42, 0.02, 0.96),
        Power(50, 0.43, 0.14, 0.8),
        Power(100, 0.47, 0.18, 0.83),
    ),
    "asha": (
        Power(10, 0.6, 0.19, 1.07),
        Power(24, 0.62, 0.29, 0.98),
        Power(50, 0.63, 0.31, 1.0),
        Power(100, 0.61, 0.38, 0.88),
    ),
    "hyperband": (
        Power(10, 0.66, 0.33, 0.94),
        Power(24, 0.58, 0.27, 0.99),
        Power(50, 0.55, 0.29, 0.91),
        Power(100, 0.56, 0.41, 0.73),
    ),
    "median": (
        Power(10, 0.025, 0.0, 0.072),
        Power(24, 0.028, 0.0, 0.074),
        Power(50, 0.033, 0.003, 0.073),
        Power(100, 0.037, 0.009, 0.076),
    ),
    "bohb": (
        Power(10, 0.69, 0.15, 1.34),
        Power(24, 0.81, 0.49, 1.14),
        Power(50, 0.94, 0.54, 1.22),
        Power(100, 0.92, 0.49, 1.29),
    ),
    "asha, patient, random": (
        Power(10, 0.72, 0.37, 1.16),
        Power(24, 0.88, 0.4, 1.27),
        Power(50, 0.97, 0.54, 1.37),
        Power(100, 1.01, 0.66, 1.31),
    ),
    "asha, random": (
        Power(10, 0.74, 0.37, 1.09),
        Power(24, 0.84, 0.5, 1.08),
        Power(50, 0.87, 0.54, 1.19),
        Power(100, 0.92, 0.61, 1.26),
    ),
    "hyperband, random": (
        Power(10, 0.69, 0.15, 1.34),
        Power(24, 0.81, 0.53, 1.08),
        Power(50, 0.86, 0.59, 1.15),
        Power(100, 0.93, 0.63, 1.19),
    ),
    "median, random": (
        Power(10, 0.05, 0.0, 0.11),
        Power(24, 0.08, 0.032, 0.133),
        Power(50, 0.105, 0.038, 0.172),
        Power(100, 0.108, 0.058, 0.186),
    ),
    "asha, patient, tpe": (
        Power(10, 0.72, 0.37, 1.16),
        Power(24, 0.66, 0.29, 1.15),
        Power(50, 0.6, 0.19, 1.0),
        Power(100, 0.54, 0.29, 0.8),
    ),
    "asha, tpe": (
        Power(10, 0.74, 0.37, 1.09),
        Power(24, 0.8, 0.45, 1.11),
        Power(50, 0.67, 0.41, 1.0),
        Power(100, 0.58, 0.35, 0.85),
    ),
    "hyperband, tpe": (
        Power(10, 0.69, 0.15, 1.34),
        Power(24, 0.7, 0.4, 1.08),
        Power(50, 0.67, 0.44, 0.94),
        Power(100, 0.64, 0.48, 0.81),
    ),
    "median, tpe": (
        Power(10, 0.05, 0.0, 0.11),
        Power(24, 0.054, 0.01, 0.103),
        Power(50, 0.047, 0.014, 0.089),
        Power(100, 0.034, 0.003, 0.077),
    ),
}
