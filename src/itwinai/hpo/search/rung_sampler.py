"""A sampler that learns from the highest rung on which it knows enough trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.record import attempts_of, attributes


class RungSampler(BaseSampler):
    """Shows another sampler the trials' values at the highest useful epoch (BOHB, section 3.2).

    That is the highest epoch which at least ``least`` trials have reached; each of those counts
    with its value there, and once, however often it was interrupted. One that came to nothing by
    its own fault counts with the worst of values instead, wherever that was. Those of another study
    that this one was told of count with their curves, too.

    Args:
        inner: The sampler that proposes.
        least: Trials that make an epoch useful.
    """

    def __init__(self, inner: BaseSampler, least: int) -> None:
        self._inner = inner
        self._least = least
        #: The trial that is being proposed, and the view for it: all its parameters need the same.
        self._current: tuple[int, optuna.Study] | None = None

    def reseed_rng(self) -> None:
        """Pass on."""
        self._inner.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Pass on, for the view of the study."""
        return self._inner.infer_relative_search_space(self._view(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Pass on, for the view of the study."""
        return self._inner.sample_relative(self._view(study, trial), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Pass on, for the view of the study."""
        view = self._view(study, trial)
        return self._inner.sample_independent(view, trial, param_name, param_distribution)

    def _view(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        if self._current is None or self._current[0] != trial.number:
            self._current = trial.number, self._new_view(study)
        return self._current[1]

    def _new_view(self, study: optuna.Study) -> optuna.Study:
        """A study in memory whose completed trials have the values of the highest useful epoch."""
        known = [*attempts_of(study).values(), *_lessons(study)]
        curves = [(a[-1], _curve(a)) for a in known if not _is_poor(a[-1])]
        reached = Counter(step for _, curve in curves for step in curve)
        useful = [step for step, count in reached.items() if count >= self._least]
        view = optuna.create_study(direction=study.direction)
        if useful:
            rung = max(useful)
            view.add_trials(_with(t, curve[rung]) for t, curve in curves if rung in curve)
        view.add_trials(t for t in study.get_trials(deepcopy=False) if _is_poor(t))
        return view


def _lessons(study: optuna.Study) -> Iterator[list[FrozenTrial]]:
    """Trials of another study that this one was told of, each as a single attempt."""
    for trial in study.get_trials(deepcopy=False):
        if attributes.TAUGHT in trial.user_attrs:
            yield [trial]


def _is_poor(trial: FrozenTrial) -> bool:
    """Whether a trial ended without a value, by its own fault."""
    return trial.values is not None and math.isinf(trial.values[0])


def _curve(attempts: Sequence[FrozenTrial]) -> dict[int, float]:
    """A trial's values by their epochs: of earlier attempts as far as one went on with them."""
    curve: dict[int, float] = {}
    for attempt in attempts:
        begin = attributes.Plan.read(attempt.user_attrs).epochs
        kept = {step: value for step, value in curve.items() if step <= begin}
        curve = {**kept, **attempt.intermediate_values}
    return curve


def _with(trial: FrozenTrial, value: float) -> FrozenTrial:
    """A completed trial with these hyper-parameters and this value."""
    return create_trial(
        state=OptunaState.COMPLETE,
        params=trial.params,
        distributions=trial.distributions,
        value=value,
    )
