"""Telling Optuna how a trial ended."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.objectives import Objective
from itwinai.hpo.record import attributes
from itwinai.hpo.trial import TrialState

#: How Optuna names our final states; all others are its FAIL.
_IN_OPTUNA = {
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.PAUSED: OptunaState.PRUNED,
}


def tell_optuna(
    study: optuna.Study, number: int, state: TrialState, metrics: Mapping[str, float]
) -> bool:
    """Close a trial of an Optuna study; a completed one's values are those of the last epoch.

    Returns:
        Whether the sampler has anything left to propose.
    """
    facts = study.user_attrs[attributes.FACTS]["objectives"]
    values = [Objective(**objective).value(metrics) for objective in facts]
    try:
        study.tell(
            number,
            values=[v for v in values if v is not None] if state is TrialState.COMPLETED else None,
            state=_IN_OPTUNA.get(state, OptunaState.FAIL),
        )
    except RuntimeError:
        # A sampler that has run out (Optuna's grid, its brute force) calls study.stop(), which
        # Optuna allows in its own loop alone; by then the trial is closed.
        if not study.get_trials(deepcopy=False)[number].state.is_finished():
            raise
        return False
    return True
