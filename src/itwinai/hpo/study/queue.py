"""Which trial comes next: those known beforehand first, then what the sampler proposes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.record import attributes
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialResult

#: Proposals in a row that break a constraint, after which a feasible point is drawn at random.
_TRIES = 10


class TrialQueue:
    """Numbers a study's trials and queues the planned ones with Optuna.

    Args:
        study: The Optuna study; trials that wait in it already are kept.
        space: What is tuned.
        rng: Draws points where the sampler's own break the constraints.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace, rng: np.random.Generator) -> None:
        self._study = study
        self._space = space
        self._rng = rng
        trials = study.get_trials(deepcopy=False)
        self._waiting = _waiting(trials)
        numbers = [n for n in map(attributes.number_of, trials) if n is not None]
        #: The first number that is still free.
        self.next_number = max(numbers, default=-1) + 1

    @property
    def waiting(self) -> bool:
        """Whether the next trial is planned already."""
        return bool(self._waiting)

    def plan_first(
        self, default: Mapping[str, Any] | None, points: Iterable[Mapping[str, Any]], most: int
    ) -> None:
        """Queue a new study's first trials: the default configuration, then given points."""
        plans = [] if default is None else [(default, True)]
        plans += [(point, False) for point in points]
        for params, is_default in plans[:most]:
            self._enqueue(params, attributes.Plan(self._take_number(), is_default=is_default))

    def plan_again(self, trials: Iterable[TrialResult]) -> None:
        """Queue trials that are to go on, each under its number."""
        for trial in trials:
            if trial.number not in self._waiting:
                self._enqueue(trial.params, attributes.Plan.to_continue(trial))

    def plan_next(self, params: Mapping[str, Any]) -> None:
        """Queue values from outside the sampler."""
        self._enqueue(params, attributes.Plan(self._take_number()))

    def plan_copy(
        self, params: Mapping[str, Any], parent: int, checkpoint: str | None, epochs: int
    ) -> int:
        """Queue a trial that goes on from a copy of another one's checkpoint; return its number."""
        plan = attributes.Plan(
            self._take_number(), checkpoint=checkpoint, epochs=epochs, parent=parent
        )
        self._enqueue(params, plan)
        assert plan.number is not None
        return plan.number

    def next(self) -> tuple[optuna.Trial, attributes.Plan, dict[str, Any]]:
        """Take the next trial: Optuna's, what was planned of it, and all its values."""
        for _ in range(_TRIES):
            trial = self._study.ask()
            plan = attributes.Plan.read(trial.user_attrs)
            params = self._space.suggest(trial, plan.given)
            if plan.number is not None or self._space.feasible(params):
                return self._hand_out(trial, plan, params)
            # It has no number, so it was never handed out.
            self._study.tell(trial.number, state=OptunaState.FAIL)
        self.plan_next(self._space.sample(self._rng) or params)
        return self.next()

    def _hand_out(
        self, trial: optuna.Trial, plan: attributes.Plan, params: dict[str, Any]
    ) -> tuple[optuna.Trial, attributes.Plan, dict[str, Any]]:
        if plan.number is None:
            plan = attributes.Plan(self._take_number())
        self._waiting.discard(plan.number)
        # The number is written last: a trial without one was never handed out.
        trial.set_user_attr(attributes.NUMBER, plan.number)
        return trial, plan, params

    def _take_number(self) -> int:
        self.next_number += 1
        return self.next_number - 1

    def _enqueue(self, params: Mapping[str, Any], plan: attributes.Plan) -> None:
        space = self._space
        known = {name: value for name, value in params.items() if name in space}
        inside = {name: value for name, value in known.items() if space[name].contains(value)}
        self._study.enqueue_trial(space.encode(inside), plan.attributes(known))
        self._waiting.add(plan.number)


def _waiting(trials: Iterable[FrozenTrial]) -> set[int | None]:
    return {attributes.number_of(t) for t in trials if t.state == OptunaState.WAITING}
