"""Schedulers: who trains on, who stops early.

``judge`` says what a scheduler is, ``rungs``, ``rules``, ``population`` and ``pruner`` are the
rules, ``table`` has their names and options.
"""

from itwinai.hpo.schedulers.judge import Judge, Report, Verdict
from itwinai.hpo.schedulers.table import (
    SCHEDULERS,
    Scheduler,
    Setting,
    build_scheduler,
)

__all__ = [
    "SCHEDULERS",
    "Judge",
    "Report",
    "Scheduler",
    "Setting",
    "Verdict",
    "build_scheduler",
]
