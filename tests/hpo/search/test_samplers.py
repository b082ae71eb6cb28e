"""What Optuna's samplers make of a study's trials."""

from __future__ import annotations

from typing import Any

import pytest
from hand_driven import MakeStudy, ask, report, run_trial

from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialState

#: Of a single parameter a genetic algorithm draws each value anew.
SPACE = {name: {"type": "uniform", "lower": 0, "upper": 1} for name in "abcd"}


def run(study: Study, trials: int, best: float = 0.3) -> list[dict[str, Any]]:
    """Run so many trials of one epoch, whose loss is the distance from a value of all numbers."""
    points = []
    for _ in range(trials):
        trial = ask(study)
        report(study, trial, [sum((value - best) ** 2 for value in trial.params.values())])
        study.tell(trial.number, TrialState.COMPLETED)
        points.append(trial.params)
    return points


@pytest.mark.parametrize("algorithm", ["ga", "nsga3"])
def test_a_generation_is_a_quarter_of_the_study_also_where_nobody_says_how_large_that_is(
    make_study: MakeStudy, algorithm: str
) -> None:
    said = make_study(SPACE, 1, name="said", algorithm=algorithm, num_samples=20)
    unsaid = make_study(SPACE, 1, name="unsaid", algorithm=algorithm, num_samples=None)
    assert run(said, 20) == run(unsaid, 20)


def test_bohb_may_model_parameters_jointly(make_study: MakeStudy) -> None:
    joint = {"name": "bohb", "multivariate": True, "n_startup_trials": 4}
    study = make_study(algorithm=joint, scheduler="bohb", epochs=9, num_samples=12)
    for _ in range(12):
        run_trial(study, [0.5] * 9)
    assert len(study.close().trials) == 12
