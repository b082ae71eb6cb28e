"""The search space: its YAML form, Ray Tune's objects, and what is refused."""

from __future__ import annotations

import datetime
import math
from typing import Any

import optuna
import pytest
from naming import named
from ray import tune

from itwinai.errors import ConfigurationError
from itwinai.hpo.space import Choice, Float, Integer, SearchSpace

FORMS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "uniform", "lower": 0, "upper": 1}, Float(0.0, 1.0)),
    ({"type": "quniform", "lower": 0, "upper": 1, "q": 0.25}, Float(0.0, 1.0, step=0.25)),
    ({"type": "loguniform", "lower": 1e-4, "upper": 0.1}, Float(1e-4, 0.1, log=True)),
    ({"type": "qloguniform", "lower": 1, "upper": 9, "q": 2}, Float(1.0, 9.0, True, 2.0)),
    ({"type": "randint", "lower": 2, "upper": 6}, Integer(2, 5)),
    ({"type": "qrandint", "lower": 0, "upper": 64, "q": 16}, Integer(0, 64, step=16)),
    ({"type": "lograndint", "lower": 1, "upper": 101}, Integer(1, 100, log=True)),
    ({"type": "qlograndint", "lower": 2, "upper": 10, "q": 4}, Integer(2, 10, True, 4)),
    ({"type": "choice", "categories": ["a", 1, None, True]}, Choice(("a", 1, None, True))),
    ({"type": "choice", "categories": [[1, 2], {"k": [3]}]}, Choice(([1, 2], {"k": [3]}))),
    ({"grid_search": [16, 32]}, Choice((16, 32), exhaustive=True)),
]


def parse(form: Any) -> Any:
    return SearchSpace.parse({"p": form})["p"]


def refusal(form: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(form)
    return str(caught.value)


def proposals(form: Any, count: int = 60) -> list[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = SearchSpace.parse({"p": form})
    return [space.suggest(study.ask(), {})["p"] for _ in range(count)]


@pytest.mark.parametrize(("form", "domain"), FORMS, ids=[str(form) for form, _ in FORMS])
def test_every_type_is_read_and_its_description_reads_back(
    form: dict[str, Any], domain: Any
) -> None:
    assert parse(form) == domain
    assert parse(domain.describe()) == domain


@pytest.mark.parametrize("form", [form for form, _ in FORMS], ids=named)
def test_every_proposal_lies_in_the_domain_and_survives_the_record(form: dict[str, Any]) -> None:
    domain = parse(form)
    for value in proposals(form):
        assert domain.contains(value)
        assert domain.decode(domain.encode(value)) == value


def test_numbers_written_as_strings_are_numbers() -> None:
    # PyYAML reads 1e-4, without a dot, as a string.
    assert parse({"type": "loguniform", "lower": "1e-4", "upper": "1e-1"}) == Float(
        1e-4, 0.1, log=True
    )
    assert parse({"type": "qrandint", "lower": "0", "upper": "8", "q": "2"}) == Integer(
        0, 8, step=2
    )


def test_the_upper_bound_of_randint_is_exclusive() -> None:
    assert set(proposals({"type": "randint", "lower": 0, "upper": 3})) == {0, 1, 2}


def test_the_upper_bound_of_qrandint_is_inclusive() -> None:
    assert set(proposals({"type": "qrandint", "lower": 0, "upper": 4, "q": 2})) == {0, 2, 4}


def test_a_randint_of_one_value_is_that_value() -> None:
    assert set(proposals({"type": "randint", "lower": 3, "upper": 4}, 3)) == {3}


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ({"type": "quniform", "lower": 0.1, "upper": 0.5, "q": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"type": "quniform", "lower": 0.05, "upper": 0.3, "q": 0.1}, [0.05, 0.15, 0.25]),
        ({"type": "quniform", "lower": -0.7, "upper": 0.1, "q": 0.3}, [-0.7, -0.4, -0.1]),
        ({"type": "quniform", "lower": -0.3, "upper": 0.1, "q": 0.1}, [-0.3, -0.2, -0.1, 0.0, 0.1]),
        ({"type": "qloguniform", "lower": 1, "upper": 6, "q": 2}, [1, 3, 5]),
        ({"type": "qrandint", "lower": 1, "upper": 9, "q": 3}, [1, 4, 7]),
        ({"type": "qlograndint", "lower": 1, "upper": 30, "q": 10}, [1, 11, 21]),
        ({"type": "randint", "lower": 0, "upper": 3}, [0, 1, 2]),
        ({"type": "choice", "categories": ["b", "a"]}, ["b", "a"]),
    ],
    ids=named,
)
def test_a_grid_holds_exactly_the_values_that_can_be_proposed(
    form: dict[str, Any], values: list[Any]
) -> None:
    assert parse(form).grid() == values
    assert set(proposals(form)) == set(values)


def test_zero_is_a_step_however_it_was_reckoned() -> None:
    domain = parse({"type": "quniform", "lower": -0.3, "upper": 0.3, "q": 0.1})
    assert all(map(domain.contains, (0, 0.0, -0.3 + 3 * 0.1)))
    assert domain.canonical(-0.3 + 3 * 0.1) == 0.0
    assert not domain.contains(0.001)


def test_the_first_of_several_steps_is_the_lower_end_in_all_its_digits() -> None:
    domain = parse({"type": "quniform", "lower": 1 / 3, "upper": 2, "q": 0.1})
    assert domain.grid()[0] == 1 / 3
    assert all(map(domain.contains, domain.grid()))


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
def test_a_continuous_range_has_no_grid(kind: str) -> None:
    assert parse({"type": kind, "lower": 1, "upper": 2}).grid() is None


@pytest.mark.parametrize(
    ("form", "inside", "outside"),
    [
        ({"type": "uniform", "lower": 0, "upper": 1}, [0, 0.5, 1], [-0.1, 1.1, "0.5", True]),
        ({"type": "quniform", "lower": 0, "upper": 1, "q": 0.1}, [0.3, 1], [0.35]),
        ({"type": "randint", "lower": 0, "upper": 9}, [0, 8, 3.0], [9, 2.5, False, None]),
        ({"type": "qrandint", "lower": 0, "upper": 8, "q": 4}, [4], [6]),
        ({"type": "choice", "categories": ["a", [1]]}, ["a", [1]], ["b", [2], "[1]x"]),
    ],
    ids=named,
)
def test_a_domain_knows_its_values(
    form: dict[str, Any], inside: list[Any], outside: list[Any]
) -> None:
    domain = parse(form)
    assert [value for value in inside if not domain.contains(value)] == []
    assert [value for value in outside if domain.contains(value)] == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_lies_in_no_range(value: float) -> None:
    assert not parse({"type": "randint", "lower": 0, "upper": 9}).contains(value)
    assert not parse({"type": "uniform", "lower": 0, "upper": 9}).contains(value)


@pytest.mark.parametrize(
    ("ray_domain", "domain"),
    [
        (tune.uniform(0, 1), Float(0.0, 1.0)),
        (tune.quniform(0, 1, 0.1), Float(0.0, 1.0, step=0.1)),
        (tune.quniform(0, 10, 1), Float(0.0, 10.0, step=1.0)),
        (tune.loguniform(1e-4, 1e-1), Float(1e-4, 0.1, log=True)),
        (tune.qloguniform(2, 8, 2), Float(2.0, 8.0, True, 2.0)),
        (tune.randint(0, 10), Integer(0, 9)),
        (tune.qrandint(0, 10, 5), Integer(0, 10, step=5)),
        (tune.lograndint(1, 10), Integer(1, 9, log=True)),
        (tune.qlograndint(1, 9, 2), Integer(2, 8, True, 2)),
        (tune.choice(["a", "b"]), Choice(("a", "b"))),
        (tune.grid_search([1, 2]), Choice((1, 2), exhaustive=True)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ray_tune_domains_are_read(ray_domain: Any, domain: Any) -> None:
    assert parse(ray_domain) == domain


def test_steps_of_a_ray_tune_domain_are_the_multiples_that_ray_draws() -> None:
    domain = tune.qrandint(1, 30, 8)
    assert set(parse(domain).grid()) == set(domain.sample(size=200))


def test_our_own_domains_pass_through() -> None:
    assert parse(Integer(1, 3)) == Integer(1, 3)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            {"type": "loguniforn", "lower": 1, "upper": 2},
            "search_space.p.type='loguniforn': unknown; did you mean 'loguniform'?",
        ),
        ({"type": "zzz"}, "search_space.p.type='zzz': unknown; known types: uniform, quniform,"),
        ({"type": ["uniform"]}, "search_space.p.type=['uniform']: unknown"),
        ({"lower": 0, "upper": 1}, "search_space.p.type=None: unknown"),
        (
            {"type": "uniform", "lower": 1, "upper": 1},
            "search_space.p: the range from 1 to 1 is empty; lower must be below upper",
        ),
        ({"type": "loguniform", "lower": 2, "upper": 1}, "the range from 2 to 1 is empty"),
        (
            {"type": "randint", "lower": 3, "upper": 3},
            "search_space.p: the range from 3 up to, not including, 3 is empty",
        ),
        ({"type": "qrandint", "lower": 5, "upper": 3, "q": 2}, "the range from 5 to 3 is empty"),
        (
            {"type": "quniform", "lower": 0, "upper": 1, "q": 2},
            "search_space.p: not one step of 2 fits between 0 and 1",
        ),
        (
            {"type": "uniform", "lower": 0, "upper": math.inf},
            "search_space.p.upper=inf: a range must be finite",
        ),
        ({"type": "uniform", "lower": "nan", "upper": 1}, "p.lower='nan': a range must be finite"),
        ({"type": "uniform", "lower": "low", "upper": 1}, "p.lower='low': expected a number"),
        ({"type": "uniform", "lower": None, "upper": 1}, "p.lower=None: expected a number"),
        (
            {"type": "loguniform", "lower": 0, "upper": 1},
            "search_space.p: a logarithmic range needs lower above 0, got 0. Use a small positive",
        ),
        ({"type": "lograndint", "lower": 0, "upper": 5}, "needs lower above 0, got 0"),
        ({"type": "quniform", "lower": 0, "upper": 1, "q": 0}, "p.q=0: a step must be above 0"),
        ({"type": "qrandint", "lower": 0, "upper": 9, "q": 0.5}, "range must be integers"),
        ({"type": "qrandint", "lower": 0, "upper": 9, "q": 1.5}, "range must be integers"),
        ({"type": "randint", "lower": 0.5, "upper": 9}, "range must be integers"),
        (
            {"type": "uniform", "low": 0, "upper": 1},
            "p.low: unknown key; did you mean 'lower'?",
        ),
        ({"type": "uniform", "lower": 0}, "search_space.p.upper: this key is required"),
        (
            {"type": "uniform", "lower": 0, "upper": 1, "q": 1},
            "search_space.p.q: unknown key; ",
        ),
        ({"type": "choice", "categories": [1], "exhaustive": True}, "p.exhaustive: unknown key"),
        (
            {"type": "choice", "categories": []},
            "search_space.p.categories=[]: a choice needs a list of at least one value",
        ),
        (
            {"type": "choice", "categories": "abc"},
            "categories='abc': a choice needs a list",
        ),
        ({"grid_search": []}, "p.grid_search=[]: a choice needs a list of at"),
        (
            {"type": "choice", "categories": [datetime.date(2020, 1, 1)]},
            "Object of type date is not JSON serializable. Choices are numbers",
        ),
        ([1, 2], "search_space.p=[1, 2]: expected a mapping such as {type: uniform, lower: 0"),
        (tune.randn(), "expected a mapping"),
    ],
    ids=named,
)
def test_a_wrong_form_is_refused_with_what_is_wrong(form: Any, message: str) -> None:
    assert message in refusal(form)


@pytest.mark.parametrize("forms", [{}, None, ["lr"]], ids=named)
def test_an_empty_space_is_refused_with_an_example(forms: Any) -> None:
    with pytest.raises(ConfigurationError, match="at least one hyper-parameter is needed"):
        SearchSpace.parse(forms)


def test_a_given_value_outside_the_space_is_kept_and_the_sampler_is_not_asked() -> None:
    space = SearchSpace.parse(
        {
            "x": {"type": "uniform", "lower": 0, "upper": 1},
            "y": {"type": "randint", "lower": 0, "upper": 5},
        }
    )
    trial = optuna.create_study().ask()
    values = space.suggest(trial, {"x": 7.0})
    assert values["x"] == 7.0
    assert list(trial.params) == ["y"]


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "a..b", "\ud800"])
def test_what_could_not_be_called_so_is_no_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name"):
        SearchSpace.parse({name: {"type": "bool"}})


@pytest.mark.parametrize(
    "forms", [{"a": {"b": 1}, "a.b": 2}, {"a.b": 2, "a": {"b": 1}}, {1: True, "1": False}]
)
def test_a_name_that_is_there_twice_is_refused(forms: dict[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match="this name is there twice"):
        SearchSpace.parse(forms)
