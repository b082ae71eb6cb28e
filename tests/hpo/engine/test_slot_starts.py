"""What a slot's start costs: none is thrown away, and no process loads what it does not need."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from itwinai.hpo.engine.adapters import StudyScheduler
from itwinai.hpo.engine.slot import ASSIGNMENT


@pytest.mark.parametrize(("status", "chosen"), [(Trial.PENDING, False), (Trial.PAUSED, True)])
def test_only_a_paused_trial_is_given_the_next_free_slot(status: str, chosen: bool) -> None:
    objective = SimpleNamespace(metric="validation_loss", mode="min")
    study: Any = SimpleNamespace(
        scheduler=SimpleNamespace(ray=FIFOScheduler()),
        configuration=SimpleNamespace(objectives=[objective]),
        avoided_by=lambda number: frozenset(),
    )
    machines: Any = None  # asked only of trials that avoid a node
    trial = SimpleNamespace(status=status, trial_id="t", config={ASSIGNMENT: {"number": 0}})
    controller = SimpleNamespace(get_trials=lambda: [trial])
    assert (StudyScheduler(study, machines).choose_trial_to_run(controller) is trial) is chosen


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [("engine.group", "ray.tune"), ("retraining.planned", "ray"), ("launch", "ray")],
)
def test_no_process_loads_what_it_does_not_need(module: str, unneeded: str) -> None:
    """Ray Tune is a second and a half of each worker's start, Ray half as much of a command's."""
    look = f"import sys, itwinai.hpo.{module}; print({unneeded!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
