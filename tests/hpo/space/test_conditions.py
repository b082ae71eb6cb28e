"""Spaces with conditions, constraints, constants, defaults, nested names and first points."""

from __future__ import annotations

from typing import Any

import jsonschema
import numpy as np
import optuna
import pytest
from hand_driven import MakeStudy, ask

from itwinai.errors import ConfigurationError
from itwinai.hpo.search.algorithms import grid_points
from itwinai.hpo.space import Choice, Float, Integer, SearchSpace
from itwinai.hpo.space.schema import space_schema as json_schema

LR = {"type": "float", "lower": 1e-3, "upper": 1.0, "log": True}
OPTIMIZER = {"type": "choice", "categories": ["sgd", "adam"]}
MOMENTUM = {"type": "float", "lower": 0, "upper": 0.9, "only_if": {"optimizer": ["sgd"]}}
NESTEROV = {"type": "bool", "only_if": {"momentum_on": [True]}}
CONDITIONAL: dict[str, Any] = {"momentum": MOMENTUM, "lr": LR, "optimizer": OPTIMIZER}


def draws(space: SearchSpace, count: int = 200) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(count)]
    return [point for point in points if point is not None]


def refusal(forms: dict[str, Any], constraints: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigurationError) as caught:
        SearchSpace.parse(forms).constrained(constraints)
    return str(caught.value)


# -- forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "domain"),
    [
        ({"type": "float", "lower": 0, "upper": 1}, Float(0.0, 1.0)),
        ({"type": "float", "lower": 0, "upper": 1, "step": 0.5}, Float(0.0, 1.0, step=0.5)),
        (LR, Float(1e-3, 1.0, log=True)),
        ({"type": "int", "lower": 1, "upper": 4}, Integer(1, 4)),
        ({"type": "int", "lower": 0, "upper": 9, "step": 4}, Integer(0, 8, step=4)),
        ({"type": "bool"}, Choice((False, True))),
        ({"type": "constant", "value": [1, 2]}, Choice(([1, 2],))),
        (7, Choice((7,))),
        ("relu", Choice(("relu",))),
        (None, Choice((None,))),
    ],
    ids=str,
)
def test_our_own_forms_are_read_and_read_back(form: Any, domain: Any) -> None:
    space = SearchSpace.parse({"p": form})
    assert space["p"] == domain
    assert SearchSpace.parse(space.describe())["p"] == domain


def test_nested_mappings_are_dotted_names() -> None:
    nested = {"model": {"width": {"type": "int", "lower": 1, "upper": 9}, "head": {"bias": True}}}
    flat = {"model.width": {"type": "int", "lower": 1, "upper": 9}, "model.head.bias": True}
    assert dict(SearchSpace.parse(nested)) == dict(SearchSpace.parse(flat))


@pytest.mark.parametrize(
    "domain",
    [
        Float(1e-3, 1.0, log=True),
        Float(0.0, 1.0, step=0.25),
        Float(1.0, 9.0, log=True, step=2.0),
        Integer(1, 9),
        Integer(1, 9, log=True),
        Integer(8, 248, log=True, step=16),
        Integer(8, 248, log=True, step=40),
        Choice(("a", "b")),
    ],
    ids=str,
)
def test_a_position_leads_back_to_its_value(domain: Any) -> None:
    for position in np.linspace(0, 1, 21):
        value = domain.at(position)
        assert domain.contains(value)
        assert domain.at(domain.position(value)) == pytest.approx(value)
    assert 0 <= domain.position(domain.at(0)) < domain.position(domain.at(1)) <= 1


@pytest.mark.parametrize("domain", [Float(0.0, 1.0, step=0.25), Integer(2, 10, step=2)], ids=str)
def test_equal_parts_of_the_positions_are_those_of_the_steps(domain: Any) -> None:
    values = [domain.at(position) for position in np.linspace(0.02, 0.98, 25)]
    assert values == [value for value in domain.grid() for _ in range(5)]


# -- conditions --------------------------------------------------------------------------------


def test_a_child_exists_only_for_its_parents_values() -> None:
    space = SearchSpace.parse(CONDITIONAL)
    assert list(space) == ["lr", "optimizer", "momentum"]
    points = draws(space)
    assert {point["optimizer"] for point in points} == {"sgd", "adam"}
    assert all(("momentum" in point) == (point["optimizer"] == "sgd") for point in points)


def test_a_grandchild_exists_only_where_its_parent_does() -> None:
    forms = {
        "nesterov": NESTEROV,
        "momentum_on": {"type": "bool", "only_if": {"optimizer": ["sgd"]}},
        "optimizer": OPTIMIZER,
    }
    for point in draws(SearchSpace.parse(forms)):
        assert ("momentum_on" in point) == (point["optimizer"] == "sgd")
        assert ("nesterov" in point) == point.get("momentum_on", False)


def test_conditions_survive_the_description() -> None:
    space = SearchSpace.parse(CONDITIONAL)
    again = SearchSpace.parse(space.describe())
    assert (dict(again), again.conditions) == (dict(space), space.conditions)


@pytest.mark.parametrize("algorithm", ["auto", "tpe", "random", "ga"])
def test_a_study_proposes_and_records_only_what_exists(
    make_study: MakeStudy, algorithm: str
) -> None:
    study = make_study(space=CONDITIONAL, algorithm=algorithm, num_samples=12)
    handed_out = [ask(study).params for _ in range(12)]
    assert {params["optimizer"] for params in handed_out} == {"sgd", "adam"}
    for params in handed_out:
        assert ("momentum" in params) == (params["optimizer"] == "sgd")
    assert [trial.params for trial in study.result().trials] == handed_out


def test_a_grid_has_each_existing_combination_once() -> None:
    forms = {
        "optimizer": OPTIMIZER,
        "momentum": {**MOMENTUM, "step": 0.45},
        "width": {"type": "int", "lower": 1, "upper": 2},
    }
    points = grid_points(SearchSpace.parse(forms))
    assert len(points) == 2 * 3 + 2
    assert sum(point["optimizer"] == "adam" for point in points) == 2


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        (
            {"m": {**MOMENTUM, "only_if": {"optimiser": ["sgd"]}}, "optimizer": OPTIMIZER},
            "search_space.m.only_if.optimiser: no such parameter in the search space; did you mean",
        ),
        (
            {"m": {**MOMENTUM, "only_if": {"lr": [0.1]}}, "lr": LR},
            "search_space.m.only_if.lr: a condition needs a parent with a list of values",
        ),
        (
            {"m": {**MOMENTUM, "only_if": {"optimizer": ["sdg"]}}, "optimizer": OPTIMIZER},
            "'optimizer' never has the value 'sdg', so the condition could never hold",
        ),
        (
            {
                "a": {"type": "bool", "only_if": {"b": [True]}},
                "b": {"type": "bool", "only_if": {"a": [True]}},
            },
            "search_space: a, b depend on one another; a parent must not depend on its child",
        ),
    ],
    ids=["unknown", "continuous", "never", "circle"],
)
def test_a_condition_that_cannot_work_is_refused(forms: dict[str, Any], message: str) -> None:
    assert message in refusal(forms)


# -- constraints -------------------------------------------------------------------------------

SIZES = {
    "batch": {"type": "int", "lower": 1, "upper": 64},
    "width": {"type": "int", "lower": 1, "upper": 64},
}


@pytest.mark.parametrize("algorithm", ["auto", "tpe", "random", "qmc", "nsga2"])
def test_no_trial_breaks_a_constraint(make_study: MakeStudy, algorithm: str) -> None:
    constraints = ["batch * width <= 256", "batch % 2 == 0"]
    study = make_study(space=SIZES, constraints=constraints, algorithm=algorithm, num_samples=25)
    for _ in range(25):
        params = ask(study).params
        assert params["batch"] * params["width"] <= 256
        assert params["batch"] % 2 == 0
    assert [trial.number for trial in study.result().trials] == list(range(25))


@pytest.mark.parametrize("algorithm", ["random", "mfgp", "tpe"])
def test_what_a_point_leaves_out_breaks_no_constraint(
    make_study: MakeStudy, algorithm: str
) -> None:
    points = [{"width": width} for width in (16, 24, 32)]
    study = make_study(
        space=SIZES, constraints=["batch * width <= 256"], points=points, algorithm=algorithm
    )
    first = [ask(study).params for _ in range(3)]
    assert [params["width"] for params in first] == [16, 24, 32]
    assert all(params["batch"] * params["width"] <= 256 for params in first)


def test_a_point_that_nothing_completes_is_refused(make_study: MakeStudy) -> None:
    with pytest.raises(ConfigurationError, match=r"study.points\[1\]: nothing that it leaves out"):
        make_study(
            space=SIZES, constraints=["batch * width > 64"], points=[{"width": 2}, {"width": 1}]
        )


def test_a_constraint_on_what_does_not_exist_holds() -> None:
    space = SearchSpace.parse(CONDITIONAL).constrained(["momentum < lr"])
    assert space.feasible({"optimizer": "adam", "lr": 0.01})
    assert not space.feasible({"optimizer": "sgd", "lr": 0.01, "momentum": 0.5})


def test_a_grid_leaves_out_what_breaks_a_constraint() -> None:
    forms = {name: {**form, "upper": 4} for name, form in SIZES.items()}
    points = grid_points(SearchSpace.parse(forms).constrained(["batch <= width"]))
    assert len(points) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch * width <", "'batch * width <': not an expression"),
        ("batch * wdth < 9", "'wdth' is not in the search space; did you mean 'width'?"),
        ("__import__('os')", "only comparisons, arithmetic, and, or, not and in are allowed"),
        ("batch.__class__ == 1", "'batch.__class__' is not in the search space"),
        ("[x for x in batch]", "are allowed, got ListComp"),
    ],
)
def test_a_constraint_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    assert message in refusal(SIZES, (text,))


def test_constraints_that_nothing_meets_are_refused(make_study: MakeStudy) -> None:
    with pytest.raises(ConfigurationError, match="no point of the search space was found"):
        make_study(space=SIZES, constraints=["batch > 9999"])


# -- defaults and points -----------------------------------------------------------------------


def test_a_default_of_the_space_replaces_the_trainers_own(make_study: MakeStudy) -> None:
    space = {"x": {"type": "uniform", "lower": 0, "upper": 1, "default": 0.125}}
    first = ask(make_study(space=space, default={"x": 0.5}))
    assert first.params == {"x": 0.125}


def test_the_default_has_no_value_for_what_does_not_exist(make_study: MakeStudy) -> None:
    default = {"lr": 0.1, "optimizer": "adam", "momentum": 0.5}
    assert ask(make_study(space=CONDITIONAL, default=default)).params == {
        "lr": 0.1,
        "optimizer": "adam",
    }


def test_points_come_first_and_what_they_leave_out_is_proposed(make_study: MakeStudy) -> None:
    points = [{"batch": 8, "width": 4}, {"batch": 16}]
    study = make_study(space=SIZES, points=points, default={"batch": 1, "width": 1})
    params = [ask(study).params for _ in range(4)]
    assert params[0] == {"batch": 1, "width": 1}
    assert params[1] == points[0]
    assert params[2]["batch"] == 16
    assert 1 <= params[2]["width"] <= 64


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"bach": 8}, r"study.points\[0\].bach: not in the search space; did you mean 'batch'"),
        ({"batch": 99}, r"study.points\[0\].batch=99 lies outside the search space"),
        ({"batch": 8, "width": 64}, r"study.points\[0\]: breaks one of study.constraints"),
    ],
    ids=["name", "value", "constraint"],
)
def test_a_point_that_cannot_be_run_is_refused(
    make_study: MakeStudy, point: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_study(space=SIZES, points=[point], constraints=["batch * width <= 256"])


# -- the schema --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forms", "valid"),
    [
        (CONDITIONAL, True),
        ({"model": {"width": SIZES["width"]}, "act": "relu"}, True),
        ({"x": {"grid_search": [1, 2]}}, True),
        ({"x": {"type": "uniform", "lower": 0}}, False),
        ({"x": {"type": "uniform", "lower": 0, "upper": 1, "q": 1}}, False),
        ({"x": {"type": "unifrom", "lower": 0, "upper": 1}}, False),
    ],
    ids=str,
)
def test_the_schema_accepts_what_the_space_does(forms: dict[str, Any], valid: bool) -> None:
    found = list(jsonschema.Draft202012Validator(json_schema()).iter_errors(forms))
    assert (not found) == valid


def test_the_record_of_a_conditional_study_opens_with_plain_optuna(make_study: MakeStudy) -> None:
    study = make_study(space=CONDITIONAL)
    params = [ask(study).params for _ in range(4)]
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(study.directory / "record.log"))
    )
    plain = optuna.load_study(study_name="study", storage=storage)
    assert [trial.params for trial in plain.trials] == params
