"""Which trial comes next: those known beforehand first, then what the sampler proposes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.record import attributes
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.copying import copy_checkpoint, perturbed
from itwinai.hpo.study.outlook import Candidate
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.study.telling import tell_optuna
from itwinai.hpo.trial import Assignment, TrialResult, TrialState

#: Proposals in a row that break a constraint, after which a feasible point is drawn at random, or
#: that are avoided, after which the next one is taken.
_TRIES = 10


class TrialQueue:
    """Numbers a study's trials and queues the planned ones with Optuna.

    Args:
        study: The Optuna study; trials that wait in it already are kept.
        space: What is tuned.
        seeds: Of the trainings; also of the points that are drawn where the sampler's own break the
            constraints, and of the changes to copied values.
        total: Trials that the study runs in all, copies aside.
        audit: The first so many trials run to the last epoch whatever their scheduler says.
        directory_of: Gives a trial's folder.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        seeds: attributes.Seeds,
        total: int,
        audit: int,
        directory_of: Callable[[int], Path],
    ) -> None:
        self._study = study
        self._space = space
        self._seeds = seeds
        self._audit = audit
        self._directory_of = directory_of
        trials = study.get_trials(deepcopy=False)
        self._rng = np.random.default_rng([seeds.entropy, len(trials)])
        self._waiting = _waiting(trials)
        numbers = [n for n in map(attributes.number_of, trials) if n is not None]
        #: The first number that is still free.
        self.next_number = max(numbers, default=-1) + 1
        #: Trials that the study runs in all.
        self.total = total + _copies(trials)

    @property
    def waiting(self) -> bool:
        """Whether the next trial is planned already."""
        return bool(self._waiting)

    @property
    def more(self) -> bool:
        """Whether there are new trials to propose."""
        return self.next_number < self.total

    def run_out(self) -> None:
        """Hear that the sampler has nothing left to propose."""
        self.total = min(self.total, self.next_number)

    def next_candidate(self) -> Candidate | None:
        """Which planned trial comes next, and from where; None if none is planned."""
        waiting = self._study.get_trials(deepcopy=False, states=(OptunaState.WAITING,))
        plans = (attributes.Plan.read(trial.user_attrs) for trial in waiting)
        starts = (Candidate(p.number, p.epochs) for p in plans if p.number is not None)
        return next(starts, None)

    def plan_first(
        self, default: Mapping[str, Any] | None, points: Iterable[Mapping[str, Any]]
    ) -> None:
        """Queue a new study's first trials: the default configuration, then given points."""
        plans = [] if default is None else [(default, True)]
        plans += [(self._feasible(point), False) for point in points]
        for params, is_default in plans[: self.total]:
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
        self, model: int, params: Mapping[str, Any], checkpoint: Path, epochs: float
    ) -> None:
        """Queue a copy of a trial: with its values, a little changed, from its checkpoint."""
        number = self._take_number()
        copy = copy_checkpoint(checkpoint, self._directory_of(number))
        plan = attributes.Plan(number, checkpoint=copy, epochs=epochs, parent=model)
        self._enqueue(perturbed(self._space, params, self._rng), plan)
        self.total += 1

    def next(self, avoid: Callable[[Mapping[str, Any]], bool]) -> RunningTrial:
        """Take the next trial.

        Args:
            avoid: Whether a proposal had better be replaced by another one, if there is one.
        """
        for _ in range(_TRIES):
            trial = self._study.ask()
            plan = attributes.Plan.read(trial.user_attrs)
            params = self._space.suggest(trial, self._space.restore(plan.given))
            feasible = self._space.feasible(params)
            if plan.number is not None or (feasible and not avoid(params)):
                return self._begun(trial, plan, params)
            # It has no number, so it was never handed out. The sampler learns what is avoided.
            state = TrialState.FAILED if feasible else TrialState.INTERRUPTED
            tell_optuna(self._study, trial.number, state, {})
        self.plan_next(params if feasible else self._space.sample(self._rng) or params)
        return self.next(avoid)

    def _begun(
        self, trial: optuna.Trial, plan: attributes.Plan, params: dict[str, Any]
    ) -> RunningTrial:
        number = self._take_number() if plan.number is None else plan.number
        self._waiting.discard(number)
        if number < self._audit:
            plan = replace(plan, is_audited=True)
            trial.set_user_attr(attributes.AUDITED, True)
        # The number is written last: a trial without one was never handed out.
        trial.set_user_attr(attributes.NUMBER, number)
        assignment = Assignment(
            number=number,
            params=params,
            directory=str(self._directory_of(number)),
            checkpoint=plan.checkpoint,
            epochs=plan.epochs,
            seed=self._seeds.of_trial(number),
        )
        return RunningTrial(assignment, plan, trial)

    def _feasible(self, point: Mapping[str, Any]) -> Mapping[str, Any]:
        """A point that may leave values out; completed where what is proposed could break rules."""
        if not self._space.constraints:
            return point
        return self._space.sample(self._rng, point) or point

    def _take_number(self) -> int:
        self.next_number += 1
        return self.next_number - 1

    def _enqueue(self, params: Mapping[str, Any], plan: attributes.Plan) -> None:
        space = self._space
        self._study.enqueue_trial(space.encode(params), plan.attributes(space.keep(params)))
        self._waiting.add(plan.number)


def _waiting(trials: Iterable[FrozenTrial]) -> set[int | None]:
    return {attributes.number_of(t) for t in trials if t.state == OptunaState.WAITING}


def _copies(trials: Iterable[FrozenTrial]) -> int:
    begun = (t for t in trials if t.state != OptunaState.WAITING)
    return len({attributes.number_of(t) for t in begun if attributes.PARENT in t.user_attrs})
