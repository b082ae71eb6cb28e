"""What a user wrote is what each trial, result and resumed study has, under any algorithm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hand_driven import MakeStudy, simulate
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from itwinai.errors import ConfigurationError
from itwinai.hpo.record import load_study
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.space.values import from_json, index_of, labels, same, to_json

ALGORITHMS = ("random", "qmc", "tpe", "gp", "mfgp", "ga", "cmaes", "grid")

#: Categories that Python, JSON or YAML could take for one another.
CHOICES: dict[str, list[Any]] = {
    "alike": [1, True, 0, False, 1.0, "1", "True", None, "None"],
    "shapes": [(8, 8), [8, 8], (16, (1, 2)), ()],
    "maps": [{1: 8}, {"1": 8}, {True: [1]}, {"a": (1, 2)}],
    "paths": [Path("/data/one"), "/data/one", Path("two")],
    "large": [2**63 - 1, 2**63 - 2, -(2**63)],
}

ANY_SPACE = {
    **{name: {"type": "choice", "categories": values} for name, values in CHOICES.items()},
    "flag": {"type": "bool"},
    "of_flag": {"type": "int", "lower": 1, "upper": 2, "only_if": {"flag": [1]}},
    "of_shape": {
        "type": "choice",
        "categories": [0.5, (0.5,)],
        "only_if": {"shapes": [(8, 8), [16, [1, 2]]]},
    },
}


def forms_of(name: str) -> dict[str, Any]:
    return {name: {"type": "choice", "categories": CHOICES[name]}}


def is_one_of(value: Any, values: list[Any]) -> bool:
    return any(same(value, one) for one in values)


def check(params: Mapping[str, Any]) -> None:
    """All values are as they were written, and those exist whose conditions hold."""
    for name, categories in CHOICES.items():
        assert is_one_of(params[name], categories), (name, params[name])
    assert same(params["flag"], True) or same(params["flag"], False)
    assert ("of_flag" in params) == params["flag"]
    has_child = is_one_of(params["shapes"], [(8, 8), (16, (1, 2))])
    assert ("of_shape" in params) == has_child
    assert not has_child or is_one_of(params["of_shape"], [0.5, (0.5,)])


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "grid"])
def test_any_value_comes_back_as_it_was_written(make_study: MakeStudy, algorithm: str) -> None:
    default = {"alike": True, "shapes": [8, 8], "maps": {"1": 8}, "paths": Path("two")}
    default |= {"large": 2**63 - 2, "flag": True, "of_flag": 2}
    point = {"alike": 1.0, "shapes": (8, 8), "maps": {1: 8}, "of_shape": (0.5,)}
    seen: dict[int, Mapping[str, Any]] = {}

    def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        check(params)
        return {"validation_loss": float(len(repr(params)))}

    settings = {"algorithm": algorithm, "num_samples": 16, "points": [point]}
    first = make_study(ANY_SPACE, epochs=2, default=default, **settings)
    killed = simulate(first, curve, reports=11)
    seen = {trial.number: trial.params for trial in killed.trials}
    resumed = make_study(ANY_SPACE, epochs=2, default=default, resume=True, **settings)
    result = simulate(resumed, curve)
    for trial in (*result.trials, *load_study(result.record.parent).trials):
        check(trial.params)
        assert trial.number not in seen or same(trial.params, seen[trial.number])
    assert same(result.trials[0].params, default)
    assert same({name: result.trials[1].params[name] for name in point}, point)


@pytest.mark.parametrize("name", CHOICES)
def test_a_grid_tries_every_value(make_study: MakeStudy, name: str) -> None:
    study = make_study(forms_of(name), epochs=1, algorithm="grid", num_samples=None)
    result = simulate(study, lambda params, epoch: {"validation_loss": 0.0})
    tried = [trial.params[name] for trial in result.trials]
    assert len(tried) == len(CHOICES[name])
    assert all(same(a, b) for a, b in zip(tried, CHOICES[name], strict=True))


def test_plain_optuna_tells_the_values_apart(make_study: MakeStudy) -> None:
    study = make_study(forms_of("alike"), epochs=1, algorithm="grid", num_samples=None)
    record = simulate(study, lambda params, epoch: {"validation_loss": 0.0}).record
    storage = JournalStorage(JournalFileBackend(str(record)))
    trials = optuna.load_study(study_name=None, storage=storage).trials
    assert len({repr(trial.params["alike"]) for trial in trials}) == len(CHOICES["alike"])


@pytest.mark.parametrize("values", CHOICES.values(), ids=CHOICES)
def test_json_and_labels_keep_each_value(values: list[Any]) -> None:
    import json

    assert all(same(from_json(json.loads(json.dumps(to_json(v)))), v) for v in values)
    given = labels(values)
    assert [index_of(label, given) for label in given] == list(range(len(values)))
    assert all(given.count(label) == 1 for label in given)


@pytest.mark.parametrize(
    ("categories", "only_if", "exists_for"),
    [
        ([(1, 2), (3, 4)], [[1, 2]], (1, 2)),
        ([[1, 2], [3, 4]], [(1, 2)], [1, 2]),
        ([False, True], [1], True),
        ([0, 1], [True], 1),
        ([1, True], [True], True),
        ([{1: 8}, {1: 16}], [{"1": 8}], {1: 8}),
        (list(np.arange(3)), [np.int64(2)], 2),
    ],
)
def test_a_condition_holds_for_the_value_that_is_meant(
    categories: list[Any], only_if: list[Any], exists_for: Any
) -> None:
    space = SearchSpace.parse(
        {
            "parent": {"type": "choice", "categories": categories},
            "child": {"type": "bool", "only_if": {"parent": only_if}},
        }
    )
    for value in space["parent"].grid() or ():
        assert space.exists("child", {"parent": value}) == same(value, exists_for)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in ("gp", "grid")])
def test_a_condition_on_a_large_range_works_by_value(make_study: MakeStudy, algorithm: str) -> None:
    space = {
        "seed": {"type": "randint", "lower": 0, "upper": 2**31},
        "x": {"type": "uniform", "lower": 0, "upper": 1, "only_if": {"seed": [7, 2**30]}},
    }
    study = make_study(
        space, epochs=1, algorithm=algorithm, points=[{"seed": 7}, {"seed": 8}, {"seed": 2**30}]
    )
    result = simulate(study, lambda params, epoch: {"validation_loss": 0.0})
    assert ["x" in trial.params for trial in result.trials[:3]] == [True, False, True]


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (
            {"n": {"type": "randint", "lower": 0, "upper": 2**63 - 1}},
            {},
            "search_space.n: samplers reckon in floating point",
        ),
        (
            {"n": {"type": "randint", "lower": 0, "upper": 2**31}},
            {"algorithm": "gp"},
            "search_space.n: gp lists all 2,147,483,648 steps of the range. Use larger steps",
        ),
        (
            {
                "lr": {"grid_search": [0.1, 0.01]},
                "n": {"type": "randint", "lower": 0, "upper": 2**31},
            },
            {"algorithm": "grid"},
            "search_space: the grid has 4,294,967,296 points",
        ),
        ({"n": {"type": "choice", "categories": [1, 2, 1]}}, {}, "1 is there twice"),
        (
            {"n": {"type": "uniform", "lower": 0, "upper": 10**400}},
            {},
            "search_space.n: a whole number of more than 300 digits",
        ),
    ],
)
def test_what_cannot_be_exact_is_refused(
    make_study: MakeStudy, space: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_study(space, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS[:-1], "pbt"])
def test_a_default_outside_its_range_is_trained_and_learnt_from(
    make_study: MakeStudy, algorithm: str
) -> None:
    space = {
        "clipping": {"type": "loguniform", "lower": 0.01, "upper": 10},
        "width": {"type": "int", "lower": 8, "upper": 64},
        "x": {"type": "uniform", "lower": 0, "upper": 1},
    }
    default = {"clipping": None, "width": np.int64(16), "x": torch.tensor([0.5])}
    scheduler = "pbt" if algorithm == "pbt" else "none"
    settings = {"algorithm": algorithm, "scheduler": scheduler, "num_samples": 14}
    study = make_study(space, epochs=2, default=default, **settings)
    result = simulate(
        study, lambda params, epoch: {"validation_loss": 1.0 if params["clipping"] is None else 2.0}
    )
    assert same(result.trials[0].params, {"clipping": None, "width": 16, "x": 0.5})
    assert result.trials[0].state.value == "completed"
    assert all(type(trial.params["width"]) is int for trial in result.trials)


def test_numbers_of_numpy_and_pytorch_are_numbers(make_study: MakeStudy) -> None:
    space = {
        "a": {"type": "uniform", "lower": np.float32(0.0), "upper": torch.tensor(1.0)},
        "b": {"type": "choice", "categories": np.arange(3), "default": np.int64(1)},
        "c": {"type": "choice", "categories": range(2, 4)},
        "d": {"type": "int", "lower": np.int64(1), "upper": 16.0},
    }
    points = [{"a": np.float64(0.5), "b": torch.tensor(2), "c": 2.0, "d": np.array([16])}]
    study = make_study(space, epochs=1, points=points)
    result = simulate(study, lambda params, epoch: {"validation_loss": 0.0})
    assert same(result.trials[0].params, {"a": 0.5, "b": 2, "c": 2, "d": 16})


def test_a_default_that_no_record_keeps_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_study({"x": {"type": "bool"}}, default={"x": object()})
    assert "config.x=<object object" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("algorithm", "objectives"),
    [(name, 1) for name in ("tpe", "gp", "cmaes", "ga", "nsga2", "mfgp")]
    + [(name, 2) for name in ("tpe", "gp", "nsga2")],
)
def test_a_search_keeps_out_of_a_region_that_fails(
    make_study: MakeStudy, algorithm: str, objectives: int
) -> None:
    space = {name: {"type": "uniform", "lower": 0, "upper": 1} for name in ("x", "y")}
    several = {"metric": ["a", "b"], "mode": ["min", "min"]}
    settings = several if objectives == 2 else {"metric": "a", "mode": "min"}
    trials = 60  # random search has 20 in there

    def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        fails = params["x"] > 2 / 3  # beside the best values
        values = {"a": (2 / 3 - params["x"]) ** 2, "b": 1 - params["x"] + params["y"] / 10}
        return {name: math.nan if fails else value for name, value in values.items()}

    study = make_study(space, epochs=1, algorithm=algorithm, num_samples=trials, **settings)
    result = simulate(study, curve, slots=1)
    assert len(result.trials) == trials
    assert sum(trial.state.value == "diverged" for trial in result.trials) <= trials // 4
