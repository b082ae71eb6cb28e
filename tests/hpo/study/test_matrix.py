"""Every algorithm with every scheduler, on flat and conditional spaces, for one and two objectives.

Each combination either finds something better than the median random point of an analytic task, or
is refused with the stated reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from hand_driven import simulate

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import MemoryRecord
from itwinai.hpo.schedulers import SCHEDULERS
from itwinai.hpo.search import ALGORITHMS
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.choosing import PAIRS
from itwinai.hpo.study.contract import refusal, table
from itwinai.hpo.trial import TrialState

EPOCHS = 9
FLAT: dict[str, Any] = {
    "lr": {"type": "qloguniform", "lower": 1e-3, "upper": 1.0, "q": 1e-3},
    "width": {"type": "qrandint", "lower": 8, "upper": 64, "q": 8},
    "activation": {"type": "choice", "categories": ["relu", "tanh"]},
}
CONDITIONAL: dict[str, Any] = {
    "lr": FLAT["lr"],
    "optimizer": {"type": "choice", "categories": ["sgd", "adam"]},
    "momentum": {"type": "float", "lower": 0, "upper": 0.9, "only_if": {"optimizer": ["sgd"]}},
}
#: A grid needs few values.
GRID = {"lr": {"type": "choice", "categories": [1e-3, 1e-2, 1e-1, 1.0]}}
SPACES = {"flat": FLAT, "conditional": CONDITIONAL}
OPTIONS: dict[str, dict[str, Any]] = {
    "threshold": {"worst": 4.0},
    "pasha": {"grace_period": 1},
    "pbt": {"interval": 3},
    "bohb": {"grace_period": 1},
}


def loss(params: Mapping[str, Any]) -> float:
    """Best at lr 0.03; a little better with tanh, or with sgd and much momentum."""
    value = (math.log10(params["lr"]) + 1.5) ** 2
    value += 0.2 * (params.get("activation") == "relu")
    return value + 0.2 * (0.9 - params.get("momentum", 0.0))


def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    size = params.get("width", 32) / 64 + params["lr"]
    return {"loss": loss(params) + 1 / epoch, "size": size}


def scheduler_of(name: str) -> dict[str, Any] | str:
    return {"name": name, **OPTIONS[name]} if name in OPTIONS else name


def stated_refusal(algorithm: str, scheduler: str, objectives: int) -> str | None:
    """Why a combination is refused; ``auto`` becomes what goes with the other."""
    if algorithm == "auto":
        algorithm = scheduler if scheduler in PAIRS else "mfgp" if objectives == 1 else "tpe"
    if scheduler == "auto":
        scheduler = algorithm if algorithm in PAIRS else "asha"
    return refusal(algorithm, scheduler, objectives, primary=False)


def combinations() -> list[Any]:
    """All; where a Gaussian process searches, a few suffice for every day."""
    slow = [("auto", name) for name in SCHEDULERS if name != "asha"]
    slow += [("gp", name) for name in SCHEDULERS if name != "asha"]
    return [
        pytest.param(*pair, marks=[pytest.mark.exhaustive] if pair in slow else [])
        for pair in product(["auto", *ALGORITHMS], ["auto", *SCHEDULERS])
    ]


@pytest.mark.parametrize("kind", list(SPACES))
@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize(("algorithm", "scheduler"), combinations())
def test_it_beats_the_median_random_point_or_is_refused(
    tmp_path: Path, algorithm: str, scheduler: str, objectives: int, kind: str
) -> None:
    forms = SPACES[kind] | (GRID if algorithm == "grid" else {})
    if algorithm == "grid" and kind == "conditional":
        forms["momentum"] = {**forms["momentum"], "step": 0.9}
    space = SearchSpace.parse(forms)
    configuration = StudyConfiguration(
        storage_path=tmp_path,
        metric=["loss", "size"][:objectives],
        mode=["min", "min"][:objectives],
        algorithm=algorithm,
        scheduler=scheduler_of(scheduler),
        num_samples=None if algorithm == "grid" else 16,
        seed=1,
        keep_checkpoints="all",
    )
    reason = stated_refusal(algorithm, scheduler, objectives)
    if reason is not None:
        with pytest.raises(ConfigurationError) as caught:
            plan_study(configuration, space, EPOCHS, default=None)
        assert str(caught.value) == reason
        return
    plan = plan_study(configuration, space, EPOCHS, default=None)
    result = simulate(plan.open(record=MemoryRecord()), curve)
    rng = np.random.default_rng(0)
    random = [space.sample(rng) for _ in range(200)]
    assert result.best is not None
    assert loss(result.best.params) < median(loss(params) for params in random if params)
    assert result.best.state is TrialState.COMPLETED
    assert result.front


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "search.md").read_text()
    assert table() in page
