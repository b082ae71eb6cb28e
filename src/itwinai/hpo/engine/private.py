"""The one place that reads what Ray gives no public way to.

A scheduler object does not tell its grace period and maximum; a study needs both to refuse a
contradiction before it starts. ``tests/hpo/test_ray_private.py`` fails when Ray renames them.
"""

from __future__ import annotations

from typing import Any


def limits_of(scheduler: Any) -> tuple[float | None, float | None]:
    """Return a Ray Tune scheduler's grace period and maximum, None where it has none."""
    grace = getattr(scheduler, "_grace_period", None)
    brackets = getattr(scheduler, "_brackets", None)
    if grace is None and isinstance(brackets, list) and brackets:
        rungs = getattr(brackets[0], "_rungs", [])
        grace = rungs[-1][0] if rungs and isinstance(rungs[-1], tuple) else None
    maximum = getattr(scheduler, "_max_t", None) or getattr(scheduler, "_max_t_attr", None)
    return grace, maximum
