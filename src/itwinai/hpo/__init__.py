"""Hyper-parameter studies: space, study, record, results and the engine that runs trials.

Nothing heavy is imported until one of these names is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itwinai.hpo.config import StudyConfiguration
    from itwinai.hpo.results import StudyResult, load_study
    from itwinai.hpo.space import SearchSpace
    from itwinai.hpo.trial import TrialResult, TrialState

_HOMES = {
    "StudyConfiguration": "config",
    "StudyResult": "results",
    "load_study": "results",
    "SearchSpace": "space",
    "TrialResult": "trial",
    "TrialState": "trial",
}

__all__ = [
    "SearchSpace",
    "StudyConfiguration",
    "StudyResult",
    "TrialResult",
    "TrialState",
    "load_study",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
