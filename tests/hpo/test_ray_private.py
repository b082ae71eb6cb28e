"""What we read of Ray without a public way to; a failure here means that Ray has renamed it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.tune.schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
)
from ray.tune.search.optuna import OptunaSearch

from itwinai.environ import environment
from itwinai.hpo import tune
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.ray_private import goal_of, limits_of, object_store_at, reread_environment


@pytest.mark.parametrize(
    ("scheduler", "limits"),
    [
        (ASHAScheduler(grace_period=3, max_t=30), (3, 30)),
        (AsyncHyperBandScheduler(grace_period=2, max_t=50, brackets=2), (2, 50)),
        (AsyncHyperBandScheduler(), (1, 100)),
        (HyperBandScheduler(max_t=27), (None, 27)),
        (MedianStoppingRule("training_iteration", grace_period=4), (4, None)),
        (MedianStoppingRule(grace_period=60), (None, None)),  # those are seconds
        (FIFOScheduler(), (None, None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_limits_of_rays_schedulers_are_known(scheduler: Any, limits: Any) -> None:
    assert limits_of(scheduler) == limits


@pytest.mark.parametrize("kind", [ASHAScheduler, HyperBandScheduler, OptunaSearch])
def test_the_goal_of_rays_objects_is_known(kind: Any) -> None:
    assert goal_of(kind(metric="accuracy", mode="max")) == ("accuracy", "max")
    assert goal_of(kind()) == (None, None)


def test_an_imported_ray_reads_its_environment_anew() -> None:
    from ray._private import ray_constants, services
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    settings = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    reread_environment()
    before = (is_token_auth_enabled(), ray_constants.ENABLE_RAY_CLUSTER)
    given = os.environ.get("RAY_AUTH_MODE")
    with environment(settings):
        reread_environment()
        assert is_token_auth_enabled()
        assert services.get_node_ip_address() == "127.0.0.1"
    assert os.environ.get("RAY_AUTH_MODE") == given
    reread_environment()
    assert (is_token_auth_enabled(), ray_constants.ENABLE_RAY_CLUSTER) == before


@pytest.mark.parametrize("shown", [False, True])
def test_an_embedded_ray_starts_no_process_that_nobody_uses(shown: bool) -> None:
    with ray_cluster(show_output=shown):
        commands = {Path(word).name for line in _of_children() for word in line}
        assert ray.get(ray.remote(lambda: 1).remote()) == 1
    assert {"gcs_server", "raylet"} < commands
    assert ("log_monitor.py" in commands) == shown
    assert not commands & {"monitor.py", "dashboard.py"}


def _of_children() -> list[list[str]]:
    return [_command(number) for number in _children_of("self")]


def _children_of(process: str) -> list[str]:
    found = Path("/proc", process, "task").glob("*/children")
    return [number for path in found for number in path.read_text().split()]


def _command(process: str) -> list[str]:
    return Path("/proc", process, "cmdline").read_text().split("\0")


def test_trials_run_in_a_process_that_ray_has_started_already(tmp_path: Path) -> None:
    def train(config: Any, trial: Any) -> None:
        trial.report({"loss": config["x"], "process": os.getpid()})

    with ray_cluster():
        (raylet,) = (n for n in _children_of("self") if Path(_command(n)[0]).name == "raylet")
        started = {int(number) for number in _children_of(raylet)}
        result = tune(
            train,
            space={"x": {"type": "uniform", "lower": 0, "upper": 1}},
            config={"x": 0.5},
            metric="loss",
            mode="min",
            num_samples=2,
            max_concurrent_trials=1,
            storage_path=tmp_path,
        )
    assert {trial.metrics["process"] for trial in result.trials} <= started


def test_what_ray_stores_is_found_in_a_file_that_can_be_mapped_once_more() -> None:
    def look(array: Any) -> tuple[Any, bytes] | None:
        found = object_store_at(array.ctypes.data)
        own = object_store_at(np.ones(3).ctypes.data)
        if found is None:
            return None
        path, offset = found
        with open(path, "rb") as file:
            file.seek(offset)
            return own, file.read(array.nbytes)

    array = np.arange(100_000)
    with ray_cluster():
        assert ray.get(ray.remote(look).remote(ray.put(array))) == (None, array.tobytes())
