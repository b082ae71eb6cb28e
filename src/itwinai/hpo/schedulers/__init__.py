"""Schedulers: who trains on, who stops early.

``judge`` says what a scheduler is, ``rungs``, ``rules``, ``population`` and ``pruner`` are the
rules, ``table`` has their names and options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.schedulers.judge import Judge, Report, Verdict
    from itwinai.hpo.schedulers.table import (
        SCHEDULERS,
        AshaOptions,
        Scheduler,
        Setting,
        build_scheduler,
    )

__all__ = [
    "SCHEDULERS",
    "AshaOptions",
    "Judge",
    "Report",
    "Scheduler",
    "Setting",
    "Verdict",
    "build_scheduler",
]

__getattr__ = lazily(
    __name__,
    {
        "judge": "Judge Report Verdict",
        "table": "SCHEDULERS AshaOptions Scheduler Setting build_scheduler",
    },
)
