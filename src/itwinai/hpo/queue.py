"""Which trial comes next: those known beforehand first, then what the sampler proposes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.hpo import attributes
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialResult, TrialState


class TrialQueue:
    """Numbers a study's trials and queues the planned ones with Optuna.

    Args:
        study: The Optuna study; trials that wait in it already are kept.
        space: What is tuned.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace) -> None:
        self._study = study
        self._space = space
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
        """Queue a new study's first trials: the default configuration, then a grid's points."""
        plans = [] if default is None else [(default, True)]
        plans += [(point, False) for point in points]
        for params, is_default in plans[:most]:
            self._enqueue(params, attributes.Plan(self._take_number(), is_default=is_default))

    def plan_again(self, trials: Iterable[TrialResult]) -> None:
        """Queue the interrupted ones of an earlier run, each under its number."""
        for trial in trials:
            if trial.state is TrialState.INTERRUPTED and trial.number not in self._waiting:
                self._enqueue(trial.params, attributes.Plan.to_continue(trial))

    def plan_next(self, params: Mapping[str, Any]) -> None:
        """Queue values from outside the sampler."""
        self._enqueue(params, attributes.Plan(self._take_number()))

    def next(self) -> tuple[optuna.Trial, attributes.Plan, dict[str, Any]]:
        """Take the next trial: Optuna's, what was planned of it, and all its values."""
        trial = self._study.ask()
        plan = attributes.Plan.read(trial.user_attrs)
        if plan.number is None:
            plan = attributes.Plan(self._take_number())
        self._waiting.discard(plan.number)
        params = self._space.suggest(trial, plan.given)
        # The number is written last: a trial without one was never handed out.
        trial.set_user_attr(attributes.NUMBER, plan.number)
        return trial, plan, params

    def _take_number(self) -> int:
        self.next_number += 1
        return self.next_number - 1

    def _enqueue(self, params: Mapping[str, Any], plan: attributes.Plan) -> None:
        space = self._space
        inside = {name: params[name] for name in params if space[name].contains(params[name])}
        self._study.enqueue_trial(space.encode(inside), plan.attributes(params))
        self._waiting.add(plan.number)


def _waiting(trials: Iterable[FrozenTrial]) -> set[int | None]:
    return {attributes.number_of(t) for t in trials if t.state == OptunaState.WAITING}
