"""Ray Tune's schedulers count whole epochs: of parts they hear nothing."""

from __future__ import annotations

import math
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from hand_driven import MakeStudy, ask
from ray.tune.schedulers import FIFOScheduler

from itwinai.hpo.engine.adapters import StudyScheduler
from itwinai.hpo.engine.machines import Machines
from itwinai.hpo.engine.resources import TrialResources
from itwinai.hpo.engine.slot import ASSIGNMENT


class Hearing(FIFOScheduler):  # type: ignore[misc]
    """Notes the epochs that it hears of."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[float, int]] = []

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.heard.append((result["epoch"], result["training_iteration"]))
        return str(super().on_trial_result(tune_controller, trial, result))


def outcome(epochs: float) -> dict[str, Any]:
    """What a slot tells Tune."""
    return {
        "event": "reported",
        "epoch": epochs,
        "training_iteration": math.floor(epochs),
        "steps": None,
        "metrics": [("validation_loss", 0.5)],
        "saved": None,
        "saved_epochs": 0,
        "energy": None,
        "notes": [],
    }


def test_a_scheduler_of_rays_hears_whole_epochs_alone(make_study: MakeStudy) -> None:
    hearing = Hearing()
    study = make_study(scheduler=hearing)
    scheduler = StudyScheduler(study, Machines(TrialResources(1, {"CPU": 1}, 1)))
    trial: Any = SimpleNamespace(config={ASSIGNMENT: asdict(ask(study))})
    for epochs in (0.5, 1, 1.5, 2):
        assert scheduler.on_trial_result(None, trial, outcome(epochs)) == "CONTINUE"
    assert hearing.heard == [(1, 1), (2, 2)]
    assert study.result().trials[0].at == (0.5, 1, 1.5, 2)
