"""Telling Optuna how a trial ended.

Its samplers learn from completed trials alone, so one that found nothing by its own fault is told
as completed with the worst of values, an infinite one: otherwise they would go where trials fail
for ever. What happened is in our own part of the record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.objectives import Objective
from itwinai.hpo.record import attributes
from itwinai.hpo.trial import POOR, TrialState

#: How Optuna names our final states; all others are its FAIL.
_IN_OPTUNA = {
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.PAUSED: OptunaState.PRUNED,
    **dict.fromkeys(POOR, OptunaState.COMPLETE),
}


def tell_optuna(
    study: optuna.Study, number: int, state: TrialState, metrics: Mapping[str, float]
) -> bool:
    """Close a trial of an Optuna study; a completed one's values are those of the last epoch.

    Returns:
        Whether the sampler has anything left to propose.
    """
    facts = study.user_attrs[attributes.FACTS]["objectives"]
    objectives = [Objective(**objective) for objective in facts]
    try:
        study.tell(
            number,
            values=_values(objectives, state, metrics),
            state=_IN_OPTUNA.get(state, OptunaState.FAIL),
        )
    except RuntimeError:
        # A sampler that has run out (Optuna's grid, its brute force) calls study.stop(), which
        # Optuna allows in its own loop alone; by then the trial is closed.
        if not study.get_trials(deepcopy=False)[number].state.is_finished():
            raise
        return False
    return True


def _values(
    objectives: Sequence[Objective], state: TrialState, metrics: Mapping[str, float]
) -> list[float] | None:
    if state in POOR:
        return [math.inf if objective.mode == "min" else -math.inf for objective in objectives]
    if state is not TrialState.COMPLETED:
        return None
    values = [objective.value(metrics) for objective in objectives]
    return [value for value in values if value is not None]
