"""Algorithms and schedulers: by name, by mapping, as objects, and what is refused."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from naming import named
from ray.tune.schedulers import (
    ASHAScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
)
from ray.tune.schedulers.pb2 import PB2
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import plan_study
from itwinai.hpo.objectives import Objective
from itwinai.hpo.schedulers import Report, Scheduler, Setting
from itwinai.hpo.schedulers import build_scheduler as build_from_setting
from itwinai.hpo.search import Algorithm, Task
from itwinai.hpo.search import build_algorithm as build_from_task
from itwinai.hpo.space import SearchSpace

SPACE = SearchSpace.parse({"x": {"type": "uniform", "lower": 0, "upper": 1}})
STEPS = SearchSpace.parse(
    {
        "x": {"type": "quniform", "lower": 0, "upper": 1, "q": 0.5},
        "y": {"type": "choice", "categories": ["a", "b"]},
    }
)
EXHAUSTIVE = SearchSpace.parse({"x": {"grid_search": [1, 2]}})


def build_algorithm(value: Any, space: SearchSpace, seed: int | None) -> Algorithm:
    return build_from_task(value, Task(space, epochs=10, seed=seed))


def build_scheduler(value: Any, epochs: int) -> Scheduler:
    return build_from_setting(value, Setting(epochs, (Objective("loss", "min"),)))


class MySearcher(Searcher):  # type: ignore[misc]
    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        return {"x": 0.5}


def algorithm_refusal(value: Any, space: SearchSpace = SPACE) -> str:
    with pytest.raises(ConfigurationError) as caught:
        build_algorithm(value, space, 1)
    return str(caught.value)


def scheduler_refusal(value: Any, epochs: int = 10) -> str:
    with pytest.raises(ConfigurationError) as caught:
        build_scheduler(value, epochs)
    return str(caught.value)


# -- algorithms --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sampler"),
    [("random", optuna.samplers.RandomSampler), ("tpe", optuna.samplers.TPESampler)],
)
def test_an_algorithm_is_built_from_its_name_or_a_mapping(name: str, sampler: type) -> None:
    for value in (name, {"name": name}):
        algorithm = build_algorithm(value, SPACE, 1)
        assert algorithm.name == name
        assert isinstance(algorithm.sampler, sampler)
        assert algorithm.points is None
        assert algorithm.searcher is None


def test_the_options_of_a_mapping_take_effect() -> None:
    def second_proposals(startup: int) -> set[float]:
        """Proposals after one trial: all alike only where the model proposes."""
        found = set()
        for seed in range(4):
            value = {"name": "tpe", "n_startup_trials": startup, "n_ei_candidates": 1000}
            study = optuna.create_study(sampler=build_algorithm(value, SPACE, seed).sampler)
            for x in (0.5, 0.0, 0.05, 0.9, 1.0):
                study.enqueue_trial({"x": x})
                trial = study.ask()
                study.tell(trial, abs(SPACE.suggest(trial, {})["x"] - 0.5))
            found.add(round(SPACE.suggest(study.ask(), {})["x"], 1))
        return found

    assert second_proposals(startup=1) == {0.5}
    assert len(second_proposals(startup=100)) > 1


def test_a_grid_lists_every_combination_in_order() -> None:
    points = build_algorithm("grid", STEPS, None).points
    assert points is not None
    assert [(point["x"], point["y"]) for point in points] == [
        (x, y) for x in (0.0, 0.5, 1.0) for y in ("a", "b")
    ]


def test_a_grid_accepts_grid_search() -> None:
    assert build_algorithm("grid", EXHAUSTIVE, None).points == ({"x": 1}, {"x": 2})


def test_an_optuna_sampler_is_taken_as_it_is() -> None:
    sampler = optuna.samplers.NSGAIISampler(seed=1)
    algorithm = build_algorithm(sampler, SPACE, 1)
    assert algorithm.sampler is sampler
    assert algorithm.name == "NSGAIISampler"


def test_a_ray_searcher_is_taken_as_it_is() -> None:
    searcher = MySearcher()
    algorithm = build_algorithm(searcher, SPACE, 1)
    assert algorithm.searcher is searcher
    assert algorithm.name == "MySearcher"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("randm", "study.algorithm='randm': unknown; did you mean 'random'?"),
        ("zzz", "study.algorithm='zzz': unknown; known names: auto, grid, random, qmc, tpe"),
        ({"name": "tp"}, "study.algorithm='tp': unknown; did you mean 'tpe'?"),
        ({"n_startup_trials": 3}, "study.algorithm=None: unknown"),
        ({"name": ["tpe"]}, "study.algorithm=['tpe']: unknown"),
        (
            {"name": "tpe", "n_startup_trails": 3},
            "study.algorithm(tpe).n_startup_trails: unknown key; did you mean 'n_startup_trials'?",
        ),
        ({"name": "tpe", "n_startup_trials": 0}, "study.algorithm(tpe).n_startup_trials=0: "),
        ({"name": "random", "n_startup_trials": 3}, "study.algorithm(random).n_startup_trials"),
        (None, "study.algorithm=None: expected a name (grid, random, qmc, tpe"),
        (3, "study.algorithm=3: expected a name"),
        (MySearcher, "not its class"),
        (optuna.samplers.TPESampler, "not its class"),
    ],
    ids=named,
)
def test_an_unknown_algorithm_or_option_is_refused_with_a_hint(value: Any, message: str) -> None:
    assert message in algorithm_refusal(value)


def test_a_grid_over_a_continuous_range_is_refused() -> None:
    assert "search_space.x: a grid needs a step or a list of values. Use quniform with q" in (
        algorithm_refusal("grid")
    )


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("tpe", "tpe"),
        ({"name": "random"}, "random"),
        (optuna.samplers.RandomSampler(), "RandomSampler"),
        (MySearcher(), "MySearcher"),
    ],
    ids=named,
)
def test_grid_search_with_another_algorithm_is_refused(value: Any, name: str) -> None:
    assert algorithm_refusal(value, EXHAUSTIVE) == (
        f"search_space.x: grid_search asks for every value, but study.algorithm is '{name}'. "
        "Use algorithm: grid, or type: choice."
    )


# -- schedulers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "none"),
        ("none", "none"),
        ("asha", "asha"),
        ({"name": "asha", "grace_period": 3}, "asha"),
        ("median", "median"),
        ({"name": "median", "min_samples_required": 5}, "median"),
    ],
    ids=named,
)
def test_a_scheduler_is_built_from_its_name_or_a_mapping(value: Any, name: str) -> None:
    scheduler = build_scheduler(value, 10)
    assert scheduler.name == name
    assert scheduler.ray is None


@pytest.mark.parametrize(
    ("scheduler", "instead"),
    [
        (PopulationBasedTraining(hyperparam_mutations={"x": [1, 2]}), "scheduler: pbt"),
        (PB2(hyperparam_bounds={"x": [1, 2]}), "scheduler: pbt"),
        (HyperBandForBOHB(), "scheduler: bohb"),
        (ResourceChangingScheduler(), "study.resources_per_worker"),
    ],
    ids=named,
)
def test_a_scheduler_of_rays_that_cannot_work_is_refused(scheduler: Any, instead: str) -> None:
    message = scheduler_refusal(scheduler)
    assert message.startswith(f"study.scheduler({type(scheduler).__name__}) changes trials by")
    assert message.endswith(f"Use {instead}.")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            {"scheduler": ASHAScheduler(metric="accuracy", mode="min")},
            "study.scheduler(AsyncHyperBandScheduler).metric='accuracy' contradicts "
            "study.metric='loss'. Leave it out: the study gives its own.",
        ),
        (
            {"algorithm": OptunaSearch(metric="validation_loss", mode="max")},
            "study.algorithm(OptunaSearch).mode='max' contradicts study.mode='min'. Leave it out: "
            "the study gives its own.",
        ),
    ],
)
def test_rays_objects_learn_from_what_the_study_optimises(objects: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_study(StudyConfiguration(mode="min", **objects), SPACE, 10, None)
    assert str(caught.value) == message


def test_an_optuna_pruner_is_taken_as_it_is() -> None:
    scheduler = build_scheduler(optuna.pruners.ThresholdPruner(upper=1.0), 10)
    assert scheduler.name == "ThresholdPruner"
    verdicts = [scheduler.judge.hear(Report(0, epoch, 1.0, (0.5 * epoch,))) for epoch in (1, 2, 3)]
    assert verdicts == ["continue", "continue", "stop"]


@pytest.mark.parametrize(
    "value",
    [
        ASHAScheduler(grace_period=2),
        ASHAScheduler(max_t=10),
        MedianStoppingRule("training_iteration", grace_period=3),
        MedianStoppingRule(grace_period=3600),  # seconds
        HyperBandScheduler(max_t=10),
        HyperBandScheduler(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_ray_scheduler_is_taken_as_it_is(value: Any) -> None:
    scheduler = build_scheduler(value, 10)
    assert scheduler.ray is value
    assert scheduler.name == type(value).__name__


@pytest.mark.parametrize("epochs", [1, 2])
def test_no_scheduler_is_refused_for_a_short_training_unless_it_cannot_stop_anything(
    epochs: int,
) -> None:
    names = ["asha", "median"]
    assert [build_scheduler(name, epochs).name for name in names] == names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ahsa", "study.scheduler='ahsa': unknown; did you mean 'asha'?"),
        ("zzz", "study.scheduler='zzz': unknown; known names: auto, none, asha, median"),
        ({"name": "medain"}, "study.scheduler='medain': unknown; did you mean 'median'?"),
        ({"grace_period": 3}, "study.scheduler=None: unknown"),
        (
            {"name": "asha", "grace": 3},
            "study.scheduler(asha).grace: unknown key; did you mean 'grace_period'?",
        ),
        ({"name": "none", "grace_period": 3}, "study.scheduler(none).grace_period: unknown key"),
        ({"name": "asha", "grace_period": 0}, "study.scheduler(asha).grace_period=0: "),
        ({"name": "asha", "reduction_factor": 1}, "study.scheduler(asha).reduction_factor=1: "),
        (3, "study.scheduler=3: expected a name (none, asha, median"),
        (ASHAScheduler, "not its class"),
        (optuna.pruners.NopPruner, "not its class"),
    ],
    ids=named,
)
def test_an_unknown_scheduler_or_option_is_refused_with_a_hint(value: Any, message: str) -> None:
    assert message in scheduler_refusal(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"name": "asha", "grace_period": 10}, "asha"),
        ({"name": "median", "grace_period": 10}, "median"),
        (ASHAScheduler(grace_period=10), "AsyncHyperBandScheduler"),
        (MedianStoppingRule("training_iteration", grace_period=10), "MedianStoppingRule"),
    ],
    ids=named,
)
def test_a_grace_period_that_reaches_the_last_epoch_is_refused(value: Any, name: str) -> None:
    message = scheduler_refusal(value)
    assert f"study.scheduler({name}).grace_period=10 with epochs=10: no trial could ever" in message
    assert "Use a grace period below 10, more epochs, or scheduler: none." in message


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"name": "asha", "max_t": 5}, "asha"),
        ({"name": "median", "max_t": 5}, "median"),
        (ASHAScheduler(max_t=5), "AsyncHyperBandScheduler"),
        (HyperBandScheduler(max_t=5), "HyperBandScheduler"),
    ],
    ids=named,
)
def test_a_max_t_that_contradicts_the_epochs_is_refused(value: Any, name: str) -> None:
    assert f"study.scheduler({name}).max_t=5 contradicts epochs=10. Leave max_t out" in (
        scheduler_refusal(value)
    )


def test_a_max_t_that_agrees_with_the_epochs_is_accepted() -> None:
    assert build_scheduler({"name": "asha", "max_t": 10}, 10).name == "asha"
