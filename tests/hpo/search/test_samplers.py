"""What Optuna's samplers make of a study's trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hand_driven import MakeStudy, ask, report, run_trial
from naming import named

from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialState

#: Of a single parameter a genetic algorithm draws each value anew.
SPACE = {name: {"type": "uniform", "lower": 0, "upper": 1} for name in "abcd"}


def loss_of(params: Mapping[str, Any]) -> float:
    """The distance from 0.3, of numbers within a range from 0 to 1, and from \"relu\"."""
    numbers = [min(value, 1) for value in params.values() if not isinstance(value, str)]
    return sum((number - 0.3) ** 2 for number in numbers) + (params.get("act", "relu") != "relu")


def run(study: Study, trials: int) -> list[dict[str, Any]]:
    """Run so many trials of one epoch each; return their values."""
    points = []
    for _ in range(trials):
        trial = ask(study)
        report(study, trial, [loss_of(trial.params)])
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


@pytest.mark.parametrize(
    "algorithm",
    ["tpe", {"name": "tpe", "multivariate": True}, "gp", "cmaes", "ga", "nsga2", "qmc"],
    ids=named,
)
def test_a_default_beyond_a_range_teaches_what_its_end_would(
    make_study: MakeStudy, algorithm: Any
) -> None:
    def proposals(name: str, value: float) -> list[dict[str, Any]]:
        default = dict.fromkeys(SPACE, 0.5) | {"a": value}
        settings = {"algorithm": algorithm, "num_samples": 13, "default": default}
        study = make_study(SPACE, 1, name=name, **settings)
        first, *others = run(study, 13)
        assert first == study.close().trials[0].params == default
        return others

    assert proposals("beyond", 7.5) == proposals("end", 1.0)


def test_a_default_of_another_category_does_not_keep_the_search_from_learning(
    make_study: MakeStudy,
) -> None:
    space = SPACE | {"act": {"type": "choice", "categories": ["gelu", "relu", "silu", "elu"]}}
    default = dict.fromkeys(SPACE, 0.5) | {"act": "tanh"}
    study = make_study(space, 1, algorithm="gp", num_samples=24, default=default)
    acts = [point["act"] for point in run(study, 24)]
    assert acts[0] == "tanh"
    assert acts[-8:].count("relu") >= 6


def test_points_fill_a_range_that_has_become_wider(make_study: MakeStudy) -> None:
    def space(upper: float) -> dict[str, Any]:
        return {"x": {"type": "uniform", "lower": 0, "upper": upper}}

    settings: dict[str, Any] = {"algorithm": "qmc", "epochs": 1}
    study = make_study(space(1), num_samples=4, **settings)
    run(study, 4)
    study.close()
    study = make_study(space(16), num_samples=20, resume=True, **settings)
    assert sorted(int(point["x"]) for point in run(study, 16)) == list(range(16))


def test_a_model_goes_on_in_a_range_that_has_become_wider(make_study: MakeStudy) -> None:
    wider = SPACE | {"a": {"type": "uniform", "lower": -1, "upper": 1}}
    settings: dict[str, Any] = {"algorithm": "gp", "epochs": 1}
    study = make_study(SPACE, num_samples=16, **settings)
    run(study, 16)
    before = study.close()
    study = make_study(wider, num_samples=28, resume=True, **settings)
    nearest = sorted(abs(point["a"] - 0.3) for point in run(study, 12)[-6:])
    assert nearest[3] < 0.25
    assert [t.params for t in study.close().trials[:16]] == [t.params for t in before.trials]
