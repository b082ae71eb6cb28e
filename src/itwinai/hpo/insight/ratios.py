"""What studies have really trained, as a multiple of what their rungs alone let one expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Epochs trained over epochs expected, in studies of so many trials.

    Attributes:
        trials: Trials of a study.
        median: Half of the studies were below.
        low: 5 % of them were.
        high: 95 % of them were.
    """

    trials: int
    median: float
    low: float
    high: float


#: By scheduler, and ", random" where the search learns nothing; ``asha, patient`` keeps at least
#: half at a rung, as ``auto`` does. Measured by ``benchmarks/plan_ratios.py``.
RATIOS: Mapping[str, tuple[Ratio, ...]] = {
    "asha, patient": (
        Ratio(10, 1.29, 0.86, 1.81),
        Ratio(24, 1.44, 1.14, 1.72),
        Ratio(50, 1.4, 1.18, 1.67),
        Ratio(100, 1.38, 1.15, 1.65),
    ),
    "asha": (
        Ratio(10, 1.44, 0.81, 2.29),
        Ratio(24, 1.61, 1.07, 2.43),
        Ratio(50, 1.64, 1.06, 2.51),
        Ratio(100, 1.7, 1.1, 2.49),
    ),
    "hyperband": (
        Ratio(10, 1.22, 1.01, 1.54),
        Ratio(24, 1.3, 0.99, 1.61),
        Ratio(50, 1.38, 1.03, 1.68),
        Ratio(100, 1.35, 1.17, 1.55),
    ),
    "median": (
        Ratio(10, 0.82, 0.57, 1.05),
        Ratio(24, 0.75, 0.54, 0.98),
        Ratio(50, 0.74, 0.5, 1.03),
        Ratio(100, 0.73, 0.48, 0.99),
    ),
    "bohb": (
        Ratio(10, 1.2, 0.82, 1.69),
        Ratio(24, 1.12, 0.92, 1.35),
        Ratio(50, 1.03, 0.85, 1.38),
    ),
    "asha, patient, random": (
        Ratio(10, 1.25, 0.86, 1.71),
        Ratio(24, 1.11, 0.8, 1.67),
        Ratio(50, 1.03, 0.75, 1.49),
        Ratio(100, 1.0, 0.79, 1.32),
    ),
    "asha, random": (
        Ratio(10, 1.36, 0.88, 2.15),
        Ratio(24, 1.22, 0.88, 1.95),
        Ratio(50, 1.17, 0.76, 1.87),
        Ratio(100, 1.1, 0.74, 1.63),
    ),
    "hyperband, random": (
        Ratio(10, 1.2, 0.82, 1.69),
        Ratio(24, 1.12, 0.95, 1.33),
        Ratio(50, 1.09, 0.9, 1.32),
        Ratio(100, 1.03, 0.9, 1.25),
    ),
    "median, random": (
        Ratio(10, 0.63, 0.43, 0.95),
        Ratio(24, 0.52, 0.33, 0.81),
        Ratio(50, 0.48, 0.28, 0.74),
        Ratio(100, 0.44, 0.24, 0.67),
    ),
}
