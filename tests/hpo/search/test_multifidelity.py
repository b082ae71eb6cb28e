"""The default search: what it proposes and recommends for given learning curves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import cycle
from typing import Any, Literal

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from itwinai.errors import ConfigurationError
from itwinai.hpo.search import Observation
from itwinai.hpo.search.multifidelity import Proposer
from itwinai.hpo.search.multifidelity.curves import final_values, scale_of
from itwinai.hpo.search.multifidelity.priors import length_priors
from itwinai.hpo.space import SearchSpace

EPOCHS = 9
WHOLE = range(1, EPOCHS + 1)
LR = {"type": "float", "lower": 1e-4, "upper": 1.0, "log": True}
SPACE = SearchSpace.parse(
    {
        "lr": LR,
        "width": {"type": "int", "lower": 1, "upper": 64},
        "optimizer": {"type": "choice", "categories": ["sgd", "adam"]},
        "momentum": {"type": "float", "lower": 0, "upper": 1, "only_if": {"optimizer": ["sgd"]}},
    }
)


def loss(params: Mapping[str, Any]) -> float:
    """Best at lr 0.01 with adam."""
    return (math.log10(params["lr"]) + 2) ** 2 + (params["optimizer"] == "sgd")


def observed(
    params: Mapping[str, Any],
    epochs: int = EPOCHS,
    state: Literal["running", "completed", "stopped"] | None = None,
) -> Observation:
    curve = [loss(params) + 1 / epoch for epoch in range(1, epochs + 1)]
    return Observation(params, curve, state or ("completed" if epochs == EPOCHS else "stopped"))


def search(trials: int, epochs: Iterator[int], seed: int = 0) -> list[Observation]:
    proposer = Proposer(SPACE, EPOCHS, seed)
    seen: list[Observation] = []
    for _ in range(trials):
        seen.append(observed(proposer.propose(seen), next(epochs)))
    return seen


def always(value: int) -> Iterator[int]:
    while True:
        yield value


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("epochs", [EPOCHS, 3], ids=["complete", "stopped"])
def test_it_closes_in_on_the_best_also_from_trials_that_were_stopped(epochs: int) -> None:
    seen = search(30, always(epochs))
    late = [observation.params for observation in seen[20:]]
    assert np.median([loss(params) for params in late]) < 0.1
    assert [params["optimizer"] for params in late].count("adam") >= 6


def test_the_first_trials_cover_every_range_evenly() -> None:
    rates = [observation.params["lr"] for observation in search(8, always(3))]
    eighths = [math.floor(8 * (math.log10(rate) + 4) / 4) for rate in rates]
    assert sorted(eighths) == list(range(8))


@pytest.mark.parametrize("name", ["lr", "optim_lr", "model.learning_rate", "learningRate"])
def test_the_effect_of_a_learning_rate_is_believed_to_reach_less_far(name: str) -> None:
    space = SearchSpace.parse({name: LR, "color": LR, "lr_warmup": {**LR, "log": False}})
    rate, *others = length_priors(space)[:, 0]
    assert rate < min(others)


def test_the_same_seed_and_observations_give_the_same_proposal() -> None:
    seen = search(12, always(EPOCHS))
    first, again, other = (Proposer(SPACE, EPOCHS, seed).propose(seen) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_running_trials_keep_others_away() -> None:
    seen = search(25, always(EPOCHS))
    alone = [Proposer(SPACE, EPOCHS, seed).propose(seen) for seed in range(12)]
    running = [Observation(params, [], "running") for params in alone[:6]]
    beside = [Proposer(SPACE, EPOCHS, seed).propose([*seen, *running]) for seed in range(12)]
    places = [np.log10(params["lr"]) for params in alone[:6]]

    def nearest(proposals: list[dict[str, Any]]) -> float:
        distances = [min(abs(math.log10(p["lr"]) - x) for x in places) for p in proposals]
        return float(np.median(distances))

    assert nearest(beside) > nearest(alone)


def test_a_lucky_value_is_not_recommended_where_its_neighbours_are_worse() -> None:
    def point(lr: float, value: float) -> Observation:
        params = {"lr": lr, "width": 8, "optimizer": "adam"}
        return Observation(params, [2.0] * (EPOCHS - 1) + [value], "completed")

    good = [point(0.01 * (1 + step / 100), 0.30) for step in range(6)]
    # One of six repetitions in a worse place looks better than anything else.
    poor = [point(0.5 * (1 + step / 100), 0.60) for step in range(5)]
    lucky = [point(0.5, 0.28)]
    assert Proposer(SPACE, EPOCHS, 0).recommend([*poor, *lucky, *good]) in range(6, 12)


def test_the_same_trials_have_the_same_best_whatever_the_seed() -> None:
    values = cycle([0.10, 0.11])
    curves = [[1.0] * (EPOCHS - 1) + [next(values)] for _ in range(6)]
    points = [seen.params for seen in search(6, always(EPOCHS), seed=3)]
    near = [Observation(p, c, "completed") for p, c in zip(points, curves, strict=True)]
    assert len({Proposer(SPACE, EPOCHS, seed).recommend(near) for seed in range(12)}) == 1


def test_only_completed_trials_and_candidates_are_recommended() -> None:
    proposer = Proposer(SPACE, EPOCHS, 0)
    good, poor = {"lr": 0.01, "optimizer": "adam"}, {"lr": 1.0, "optimizer": "sgd"}
    seen = [observed({**good, "width": 1}, 3), observed({**poor, "width": 1, "momentum": 0.5})]
    assert proposer.recommend(seen) == 1
    assert proposer.recommend([seen[0]]) is None
    seen.append(observed({**good, "width": 2}))
    assert proposer.recommend(seen) == 2
    assert proposer.recommend(seen, candidates=[1]) == 1


@pytest.mark.parametrize(
    "values",
    [
        [1.0] * 12,
        [float("nan")] * 12,
        [1.0, float("inf"), float("nan"), 0.5] * 3,
        [1e300, 1e-300, 0.0, -1e300] * 3,
    ],
    ids=["constant", "diverged", "mixed", "extreme"],
)
def test_no_values_are_too_odd(values: list[float]) -> None:
    rng = np.random.default_rng(0)
    points = [SPACE.sample(rng) for _ in values]
    seen = [
        Observation(params or {}, [value], "stopped" if math.isfinite(value) else "diverged")
        for params, value in zip(points, values, strict=True)
    ]
    params = Proposer(SPACE, EPOCHS, 0).propose(seen)
    assert all(SPACE[name].contains(value) for name, value in params.items())


@pytest.mark.parametrize(
    "forms",
    [
        {"x": {"type": "choice", "categories": ["only"]}},
        {name: {"type": "choice", "categories": ["a", "b", "c"]} for name in "pqr"},
        {f"x{index}": {"type": "float", "lower": 0, "upper": 1} for index in range(30)},
        {"x": {"type": "int", "lower": 0, "upper": 100, "step": 25}, "lr": LR},
    ],
    ids=["constant", "categories", "many", "steps"],
)
def test_every_space_can_be_searched(forms: dict[str, Any]) -> None:
    space = SearchSpace.parse(forms)
    proposer = Proposer(space, EPOCHS, 0)
    seen: list[Observation] = []
    for index in range(14):
        params = proposer.propose(seen)
        assert set(params) == set(space)
        assert all(space[name].contains(value) for name, value in params.items())
        seen.append(Observation(params, [float(index % 5)] * EPOCHS, "completed"))


def test_the_linear_algebra_leaves_the_other_cores_to_the_trials() -> None:
    threads: set[int] = set()

    class Watched(dict[str, Any]):
        """Values that are looked up while a model of them is made."""

        def __getitem__(self, name: str) -> Any:
            threads.update(
                library["num_threads"]
                for library in threadpool_info()
                if library["user_api"] == "blas"
            )
            return super().__getitem__(name)

    seen = search(10, always(EPOCHS))
    seen[0] = replace(seen[0], params=Watched(seen[0].params))
    proposer = Proposer(SPACE, EPOCHS, seed=0)
    with threadpool_limits(2, user_api="blas"):
        proposer.propose(seen)
        proposer.recommend(seen)
    assert threads == {1}


def test_proposals_keep_to_the_constraints() -> None:
    space = SPACE.constrained(["width * lr <= 0.1"])
    proposer = Proposer(space, EPOCHS, 0)
    seen: list[Observation] = []
    for _ in range(15):
        params = proposer.propose(seen)
        assert space.feasible(params)
        seen.append(observed(params))


def test_a_space_without_any_feasible_point_is_said_to_be_one() -> None:
    space = SPACE.constrained(["lr > 5"])
    with pytest.raises(ConfigurationError, match="constraints"):
        Proposer(space, EPOCHS, 0).propose([])


# -- reports in the middle of epochs ---------------------------------------------------------------


def falling(base: float, *at: float) -> list[float]:
    """A value that falls by 1 in each epoch."""
    return [base + EPOCHS - place for place in at]


def test_whole_epochs_are_seen_as_ever() -> None:
    seen = search(14, cycle([EPOCHS, 2, EPOCHS, 3]))
    told = [replace(one, at=[float(n) for n in range(1, len(one.curve) + 1)]) for one in seen]
    for one, other in zip(final_values(seen, EPOCHS), final_values(told, EPOCHS), strict=True):
        assert one.tobytes() == other.tobytes()
    proposer = Proposer(SPACE, EPOCHS, 0)
    assert proposer.propose(told) == proposer.propose(seen)


def test_a_part_of_an_epoch_is_no_whole_one() -> None:
    whole = [Observation({}, falling(base, *WHOLE), "completed") for base in range(12)]
    halves = [n / 2 for n in range(1, 4)]
    early = Observation({}, falling(3.0, *halves), "stopped", halves)
    values, _ = final_values([*whole, early], EPOCHS)
    scale = scale_of([*whole, early], EPOCHS)
    assert scale is not None
    # Its three reports are of one and a half epochs, from which values fall by 7.5.
    assert scale.absolute(values)[-1] == pytest.approx(3.0, abs=0.6)


def test_trials_that_report_at_other_places_tell_of_each_other() -> None:
    thirds = [n / 3 for n in range(1, 3 * EPOCHS + 1)]
    complete = [Observation({}, falling(b, *thirds), "completed", thirds) for b in range(12)]
    short = Observation({}, falling(5.0, 0.25, 0.75), "stopped", (0.25, 0.75))
    _, variances = final_values([*complete, short], EPOCHS)
    _, unknown = final_values([short], EPOCHS)
    assert variances[-1] < unknown[-1] / 3


def test_a_value_beyond_the_last_epoch_of_this_study_is_left_out() -> None:
    longer = Observation({}, falling(2.0, *WHOLE, 9.5), "completed", (*WHOLE, 9.5))
    shorter = Observation({}, falling(1.0, *WHOLE), "completed")
    values, _ = final_values([longer, shorter], EPOCHS)
    scale = scale_of([longer, shorter], EPOCHS)
    assert scale is not None
    assert scale.absolute(values).tolist() == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize("trials", [20, 80])
def test_places_that_differ_cost_no_certainty(trials: int) -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(size=trials + 10)
    complete = [
        Observation({}, [level + 1 / at for at in WHOLE], "completed") for level in levels[trials:]
    ]

    def variance(places: list[float]) -> float:
        stopped = [
            Observation({}, [level + 1, level + 1 / at], "stopped", (1, at))
            for level, at in zip(levels, places, strict=False)
        ]
        return float(final_values([*stopped, *complete], EPOCHS)[1][:trials].mean())

    together, apart = [1.5] * trials, list(np.linspace(1.1, 1.9, trials))
    assert variance(apart) < 2 * variance(together)
