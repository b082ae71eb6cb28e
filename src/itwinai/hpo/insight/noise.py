"""How much of the best trial's lead over the default a training's seed explains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from itwinai.hpo.insight.confirmation import Confirmation, read_confirmation
from itwinai.hpo.insight.finding import Finding, alike
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialResult, TrialState

#: Repetitions beyond the first of each configuration that there must be, and the deviations of a
#: difference from which on a lead is no luck.
_FEWEST, _SURE = 3, 2.0


def luck_of_the_best(result: StudyResult) -> Iterator[Finding]:
    """Find a lead of the best trial over the default that two trainings of one may differ by.

    Known from the study's confirmation, or from trials of the same values with other seeds. Nothing
    is said of a trial that its reruns call better.
    """
    best, default = result.best, result.default
    if best is None or default is None or best.number == default.number:
        return
    lead, confirmation = result.lead(best), read_confirmation(result)
    deviation = _deviation(result, confirmation)
    proven = confirmation is not None and confirmation.proves(best.number)
    if lead is None or deviation is None or proven:
        return
    apart = math.sqrt(2) * deviation
    if lead >= _SURE * apart:
        return
    yield Finding(
        kind="noise",
        evidence=f"The best trial leads the default by {lead:.3g}, and two trainings of one "
        f"configuration differ by {apart:.3g} (one deviation) by their seeds alone.",
        cost="The best trial may be no better than the default.",
        remedy="Train both again from fresh seeds with 'itwinai hpo confirm', with more of them "
        "where that has not decided.",
    )


def _deviation(result: StudyResult, confirmation: Confirmation | None) -> float | None:
    """The deviation of a configuration's value from seed to seed; None if too few tell."""
    values = (*_rerun(result.metric, confirmation), *_repeated(result))
    groups = [group for group in values if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < _FEWEST:
        return None
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    return math.sqrt(squares / freedom)


def _rerun(metric: str, confirmation: Confirmation | None) -> list[list[float]]:
    if confirmation is None:
        return []
    arms = (*confirmation.candidates, confirmation.default)
    return [confirmation.values(arm, metric) for arm in arms]


def _repeated(result: StudyResult) -> list[list[float]]:
    """The values of completed trials that have the same hyper-parameters and other seeds."""
    completed = [trial for trial in result.trials if trial.state is TrialState.COMPLETED]
    by_seed = [{trial.seed: trial for trial in group} for group in alike(completed)]
    return [_values([*group.values()], result.metric) for group in by_seed]


def _values(trials: Sequence[TrialResult], metric: str) -> list[float]:
    values = [trial.metric(metric) for trial in trials]
    return [value for value in values if value is not None and math.isfinite(value)]
