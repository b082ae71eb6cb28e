"""Where a proposal would most likely fail: beside a trial that has failed.

Optuna's samplers model what is good, and go on to propose beyond the edge of a region that fails
when the best values lie at that edge.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from itwinai.hpo.space import Choice, SearchSpace
from itwinai.hpo.trial import OPEN, POOR, TrialState

#: A trial's values, and how it ended.
Known = tuple[Mapping[str, Any], TrialState]


def fails_nearby(space: SearchSpace, params: Mapping[str, Any], trials: Collection[Known]) -> bool:
    """Tell whether the nearest trial that has ended did so by its own fault.

    Args:
        space: Gives each value its place from 0 to 1.
        params: A proposal.
        trials: All trials so far.
    """
    ended = [(known, state) for known, state in trials if state not in _NO_EVIDENCE]
    if not any(state in POOR for _, state in ended):
        return False
    _, state = min(ended, key=lambda trial: _distance(space, params, trial[0]))
    return state in POOR


#: Ends that say nothing of a trial's values.
_NO_EVIDENCE = (TrialState.RUNNING, *OPEN)


def _distance(space: SearchSpace, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Squared distance; what only one has, or lies outside the space, is as far as can be."""
    return sum(_apart(space, name, one, other) ** 2 for name in {*one, *other} if name in space)


def _apart(
    space: SearchSpace, name: str, one: Mapping[str, Any], other: Mapping[str, Any]
) -> float:
    parameter = space[name]
    if not all(name in known and parameter.contains(known[name]) for known in (one, other)):
        return 1.0
    if isinstance(parameter, Choice):
        return float(parameter.index(one[name]) != parameter.index(other[name]))
    return parameter.position(one[name]) - parameter.position(other[name])
