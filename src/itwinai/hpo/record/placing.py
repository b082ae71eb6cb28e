"""A trial as samplers see it: a point of the space as it is now.

They learn of what all trials have in the space that is searched now. A trial with another range,
which has become wider since, or with a value outside, as a default configuration may have, would
make them draw that hyper-parameter at random from then on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from itwinai.hpo.record import attributes
from itwinai.hpo.space import Parameter, SearchSpace


class Places:
    """Finds the places of trials in a space.

    Args:
        space: The space as it is now.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        #: Finished trials, which change no more, by number.
        self._placed: dict[int, FrozenTrial] = {}

    def of(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a trial as one of the space; itself if it is one, or has not finished.

        A number beyond the end of a range is taken for the end. One that has no place, as a
        category that the space does not have, has taught nothing.
        """
        known = self._placed.get(trial.number)
        if known is not None:
            return known
        if not trial.state.is_finished():
            return trial
        placed = self._placed[trial.number] = self._place(trial)
        return placed

    def _place(self, trial: FrozenTrial) -> FrozenTrial:
        given = trial.user_attrs.get(attributes.GIVEN, {})
        known = self.distributions
        lacks = any(name not in trial.params for name in given)
        if not lacks and all(known[n] == d for n, d in trial.distributions.items()):
            return trial
        placed = copy.copy(trial)
        values = self._space.decode(trial.params) | self._space.restore(given)
        point = self._space.nearest(self._space.existing(values))
        if point is None:
            placed.state, placed.values = TrialState.FAIL, None
            return placed
        placed.params = {**self._space.encode(point), **trial.params}
        placed.distributions = {name: known[name] for name in placed.params}
        return placed

    @cached_property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """How Optuna describes the domains."""
        return {name: _distribution(parameter) for name, parameter in self._space.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    name: Any = "value"
    trial = FixedTrial({name: parameter.encode(parameter.at(0.5))})
    parameter.suggest(trial, name)
    return trial.distributions[name]
