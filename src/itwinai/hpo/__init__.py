"""Hyper-parameter studies: space, study, record, results and the engine that runs trials.

Nothing heavy is imported until one of these names is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itwinai.hpo.config import StudyConfiguration
    from itwinai.hpo.exporting import export_study
    from itwinai.hpo.listing import ListedStudy, list_studies, stop_study
    from itwinai.hpo.results import StudyResult, load_study
    from itwinai.hpo.schema import json_schema
    from itwinai.hpo.space import SearchSpace
    from itwinai.hpo.trial import TrialResult, TrialState

_HOMES = {
    "ListedStudy": "listing",
    "StudyConfiguration": "config",
    "StudyResult": "results",
    "export_study": "exporting",
    "json_schema": "schema",
    "list_studies": "listing",
    "load_study": "results",
    "stop_study": "listing",
    "SearchSpace": "space",
    "TrialResult": "trial",
    "TrialState": "trial",
}

__all__ = [
    "ListedStudy",
    "SearchSpace",
    "StudyConfiguration",
    "StudyResult",
    "TrialResult",
    "TrialState",
    "export_study",
    "json_schema",
    "list_studies",
    "load_study",
    "stop_study",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
