"""What one trial gets of the machines."""

from __future__ import annotations

from typing import Any

import pytest

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine import TrialResources, plan_resources
from itwinai.hpo.engine.resources import this_machine


def plan(nodes: list[dict[str, float]], trials: int = 20, **settings: Any) -> TrialResources:
    return plan_resources(StudyConfiguration(**settings), nodes, trials)


@pytest.mark.parametrize(
    ("nodes", "trials", "settings", "per_worker"),
    [
        ([{"CPU": 2}], 20, {}, {"CPU": 1}),
        ([{"CPU": 64}], 20, {}, {"CPU": 8}),
        ([{"CPU": 64}], 2, {}, {"CPU": 32}),
        ([{"CPU": 64}], 20, {"max_concurrent_trials": 4}, {"CPU": 16}),
        ([{"CPU": 64}], 20, {"max_concurrent_trials": 64}, {"CPU": 3}),
        ([{"CPU": 8}], 20, {"workers_per_trial": 2}, {"CPU": 1}),
        ([{"CPU": 8}], 1, {"workers_per_trial": 2}, {"CPU": 4}),
        ([{"CPU": 16, "GPU": 4}], 20, {}, {"GPU": 1, "CPU": 4}),
        ([{"CPU": 16, "GPU": 4}], 20, {"workers_per_trial": 2}, {"GPU": 1, "CPU": 4}),
        ([{"CPU": 2, "GPU": 4}], 20, {}, {"GPU": 1, "CPU": 1}),
    ],
    ids=str,
)
def test_without_a_wish_the_machine_is_divided_evenly(
    nodes: list[dict[str, float]],
    trials: int,
    settings: dict[str, Any],
    per_worker: dict[str, float],
) -> None:
    planned = plan(nodes, trials, **settings)
    assert planned.per_worker == per_worker
    assert planned.workers == settings.get("workers_per_trial", 1)


@pytest.mark.parametrize(
    ("nodes", "trials", "workers", "cpus"),
    [
        ([{"CPU": 8}] * 4, 2, 1, 8),  # two trials of 16 would fit no node
        ([{"CPU": 6}, {"CPU": 2}], 1, 2, 3),  # both workers on the first
        ([{"CPU": 3}, {"CPU": 3}], 20, 1, 1),
        ([{"CPU": 8}] * 4, 1, 4, 8),
    ],
    ids=str,
)
def test_a_share_always_fits_on_a_node(
    nodes: list[dict[str, float]], trials: int, workers: int, cpus: int
) -> None:
    assert plan(nodes, trials, workers_per_trial=workers).per_worker == {"CPU": cpus}


def test_cores_beside_the_gpus_are_what_is_divided() -> None:
    nodes = [{"CPU": 32, "GPU": 4}, {"CPU": 32}]
    assert plan(nodes).per_worker == {"GPU": 1, "CPU": 8}


def test_a_wish_is_kept() -> None:
    planned = plan(
        [{"CPU": 8, "fast": 1}],
        resources_per_worker={"CPU": 0.5, "fast": 0.25},
        max_concurrent_trials=3,
    )
    assert planned == TrialResources(1, {"CPU": 0.5, "fast": 0.25}, 3)


@pytest.mark.parametrize(
    ("trials", "settings", "concurrent"),
    [
        (20, {}, 8),
        (3, {}, 3),
        (20, {"max_concurrent_trials": 2}, 2),
        (20, {"max_concurrent_trials": 64, "resources_per_worker": {"CPU": 4}}, 2),
        (20, {"max_concurrent_trials": 4, "resources_per_worker": {"CPU": 0}}, 4),
    ],
    ids=str,
)
def test_as_many_trials_at_once_as_fit(
    trials: int, settings: dict[str, Any], concurrent: int
) -> None:
    nodes = [{"CPU": 8.0}]
    assert plan(nodes, trials, **settings).concurrent(nodes) == concurrent


def test_more_machines_take_more_trials_of_the_same_share() -> None:
    planned = plan([{"CPU": 4.0}], 20, resources_per_worker={"CPU": 2})
    machines = [{"CPU": 4.0}, {"CPU": 3.0}, {"CPU": 1.0}]
    assert [planned.concurrent(machines[:count]) for count in (0, 1, 2, 3)] == [0, 2, 3, 3]


def test_fractions_that_add_up_fit() -> None:
    planned = plan([{"CPU": 1}], workers_per_trial=10, resources_per_worker={"CPU": 0.1})
    assert planned.per_worker == {"CPU": 0.1}


@pytest.mark.parametrize(
    ("nodes", "settings", "parts"),
    [
        ([{"CPU": 2}], {"resources_per_worker": {"CPU": 4}}, ["4 CPU each", "there is: 2 CPU"]),
        ([{"CPU": 2}], {"resources_per_worker": {"GPU": 1}}, ["1 GPU each", "there is: 0 GPU"]),
        ([{"CPU": 2}], {"workers_per_trial": 3}, ["3 worker(s) with 1 CPU each", "2 CPU"]),
        (
            [{"CPU": 2}, {"CPU": 2}],
            {"resources_per_worker": {"CPU": 3}},
            ["there is: 2 CPU; 2 CPU"],
        ),
    ],
    ids=str,
)
def test_what_no_machine_can_ever_give_is_refused(
    nodes: list[dict[str, float]], settings: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"^study\.resources_per_worker: ") as caught:
        plan(nodes, **settings)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_this_machine_has_cores() -> None:
    assert this_machine()["CPU"] >= 1
