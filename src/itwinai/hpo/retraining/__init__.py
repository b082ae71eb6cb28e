"""A study's training outside the study: repeated, confirmed, or tried to see what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.retraining.planned import planned_cost
    from itwinai.hpo.retraining.proving import confirm
    from itwinai.hpo.retraining.repeating import Rerun, rerun
    from itwinai.hpo.retraining.subject import Studied, Subject

__all__ = ["Rerun", "Studied", "Subject", "confirm", "planned_cost", "rerun"]

__getattr__ = lazily(
    __name__,
    {
        "proving": "confirm",
        "planned": "planned_cost",
        "repeating": "Rerun rerun",
        "subject": "Studied Subject",
    },
)
