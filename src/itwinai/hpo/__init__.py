"""Hyper-parameter studies.

In wings, each of which knows only those before it: ``space``; ``search``, ``schedulers`` and
``record``; ``study``; ``insight``; ``engine`` and ``display``; ``report``. ``launch`` and
``planning`` bring them together.

Nothing heavy is imported until one of these names is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.config import StudyConfiguration
    from itwinai.hpo.display import load_study
    from itwinai.hpo.functions import FunctionTrainer, Trial, load_checkpoint, tune
    from itwinai.hpo.insight import Importance, WinnerEstimate, estimate_winner, importances
    from itwinai.hpo.record import (
        ListedStudy,
        StudyResult,
        export_study,
        list_studies,
        stop_study,
    )
    from itwinai.hpo.report import report_study
    from itwinai.hpo.retraining import confirm, rerun
    from itwinai.hpo.space import SearchSpace, json_schema
    from itwinai.hpo.trial import TrialResult, TrialState

__all__ = [
    "FunctionTrainer",
    "Importance",
    "ListedStudy",
    "SearchSpace",
    "StudyConfiguration",
    "StudyResult",
    "Trial",
    "TrialResult",
    "TrialState",
    "WinnerEstimate",
    "estimate_winner",
    "confirm",
    "export_study",
    "importances",
    "json_schema",
    "list_studies",
    "load_checkpoint",
    "load_study",
    "report_study",
    "rerun",
    "stop_study",
    "tune",
]

__getattr__ = lazily(
    __name__,
    {
        "config": "StudyConfiguration",
        "display": "load_study",
        "functions": "FunctionTrainer Trial load_checkpoint tune",
        "insight": "Importance WinnerEstimate estimate_winner importances",
        "record": "ListedStudy StudyResult export_study list_studies stop_study",
        "report": "report_study",
        "retraining": "confirm rerun",
        "space": "SearchSpace json_schema",
        "trial": "TrialResult TrialState",
    },
)
