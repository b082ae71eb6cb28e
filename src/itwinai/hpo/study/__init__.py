"""One study: asked for trials, told of their epochs, and deciding who goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.study.advisor import candidates_of
    from itwinai.hpo.study.checks import (
        check_audit,
        check_direction,
        check_foreign,
        check_points,
        check_secrets,
        check_storage,
    )
    from itwinai.hpo.study.choosing import AUTO, choose
    from itwinai.hpo.study.contract import check_combination
    from itwinai.hpo.study.disk import check_room
    from itwinai.hpo.study.keeping import delete_superseded
    from itwinai.hpo.study.opening import check_existing
    from itwinai.hpo.study.running import Listener, RunningTrial
    from itwinai.hpo.study.study import Study
    from itwinai.hpo.study.total import check_total, total_trials
    from itwinai.hpo.study.warm_start import load_source

__all__ = [
    "AUTO",
    "Listener",
    "RunningTrial",
    "Study",
    "candidates_of",
    "check_audit",
    "check_combination",
    "check_direction",
    "check_existing",
    "check_foreign",
    "check_points",
    "check_room",
    "check_secrets",
    "check_storage",
    "check_total",
    "choose",
    "delete_superseded",
    "load_source",
    "total_trials",
]

__getattr__ = lazily(
    __name__,
    {
        "study": "Study",
        "advisor": "candidates_of",
        "running": "Listener RunningTrial",
        "checks": "check_audit check_direction check_foreign check_points check_secrets "
        "check_storage",
        "total": "check_total total_trials",
        "choosing": "AUTO choose",
        "contract": "check_combination",
        "disk": "check_room",
        "keeping": "delete_superseded",
        "opening": "check_existing",
        "warm_start": "load_source",
    },
)
