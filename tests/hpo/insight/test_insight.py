"""What is concluded from a study: what its best trial is worth, and which parameters matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_driven import Curve, ask, build_study, report, simulate

from itwinai.hpo import StudyResult, estimate_winner, importances, load_study, report_study

SPACE = {
    "lr": {"type": "loguniform", "lower": 1e-4, "upper": 1.0},
    "width": {"type": "randint", "lower": 8, "upper": 257},
    "act": {"type": "choice", "categories": ["relu", "tanh"]},
}
DEFAULT = {"lr": 0.5, "width": 16, "act": "tanh"}
EPOCHS = 9


def truth(params: Mapping[str, Any]) -> float:
    """The loss without luck: best at lr 0.01 with relu; the width does not matter."""
    return 0.5 + 0.3 * (math.log10(params["lr"]) + 2) ** 2 + 0.2 * (params["act"] == "tanh")


def lucky() -> Callable[[Mapping[str, Any], int], dict[str, float]]:
    """A training whose last value is the truth and luck of its own."""
    rng = np.random.default_rng(0)
    luck: dict[str, float] = {}

    def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        mine = luck.setdefault(repr(sorted(params.items())), rng.normal(0, 0.1))
        return {"validation_loss": truth(params) + mine + 1 / epoch - 1 / EPOCHS}

    return curve


def by_luck(seed: int) -> Curve:
    """Trainings that no hyper-parameter makes better or worse."""
    rng, luck = np.random.default_rng(seed), dict[float, float]()
    return lambda p, e: {"score": luck.setdefault(p["lr"], rng.normal()) - 1 / e}


def negated(curve: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
    return lambda params, epoch: {"score": -curve(params, epoch)["validation_loss"]}


def studied(folder: Path, trials: int = 24, **settings: Any) -> StudyResult:
    study = build_study(
        folder, SPACE, EPOCHS, DEFAULT, num_samples=trials, scheduler="asha", **settings
    )
    curve = lucky() if settings.get("mode", "min") == "min" else negated(lucky())
    result = simulate(study, curve)
    return load_study(result.record)


def test_the_winner_is_expected_to_do_worse_than_it_was_seen_to(tmp_path: Path) -> None:
    winner = estimate_winner(studied(tmp_path, 60))
    assert winner is not None
    assert winner.expected is not None
    true = truth(winner.trial.params)
    assert winner.recorded < true
    assert abs(winner.expected.value - true) < abs(winner.recorded - true)
    assert winner.expected.lower < true < winner.expected.upper


def test_the_gain_is_that_over_the_default_and_has_an_interval(tmp_path: Path) -> None:
    result = studied(tmp_path, 60)
    winner = estimate_winner(result)
    assert winner is not None
    assert winner.gain is not None
    true = truth(DEFAULT) - truth(winner.trial.params)
    assert winner.gain.lower < true < winner.gain.upper
    assert winner.verdict == "better"


def test_a_metric_that_should_be_high_gives_the_same_with_another_sign(tmp_path: Path) -> None:
    low = estimate_winner(studied(tmp_path, name="low"))
    high = estimate_winner(studied(tmp_path, name="high", mode="max", metric="score"))
    assert low is not None
    assert high is not None
    assert low.expected is not None
    assert high.expected is not None
    assert high.trial.number == low.trial.number
    mirrored = (-low.expected.value, -low.expected.upper, -low.expected.lower)
    assert (high.expected.value, high.expected.lower, high.expected.upper) == pytest.approx(
        mirrored
    )
    assert low.gain is not None
    assert high.gain is not None
    assert high.gain.value == pytest.approx(low.gain.value)
    assert high.gain.lower == pytest.approx(low.gain.lower)


def test_trials_that_differ_by_luck_alone_prove_nothing(tmp_path: Path) -> None:
    study = build_study(
        tmp_path, {"x": SPACE["lr"]}, 3, {"x": 0.5}, num_samples=12, algorithm="random"
    )
    rng = np.random.default_rng(1)
    luck: dict[float, float] = {}
    result = simulate(
        study, lambda p, _: {"validation_loss": 1 + luck.setdefault(p["x"], rng.normal())}
    )
    winner = estimate_winner(result)
    assert winner is not None
    assert winner.verdict == "open"


def test_of_many_studies_that_differ_by_luck_alone_hardly_any_has_a_better_trial(
    tmp_path: Path,
) -> None:
    verdicts = []
    for seed in range(12):
        settings = {"num_samples": 12, "seed": seed, "metric": "score", "mode": "max"}
        study = build_study(tmp_path / str(seed), SPACE, EPOCHS, DEFAULT, **settings)
        winner = estimate_winner(simulate(study, by_luck(seed)))
        assert winner is not None
        verdicts.append(winner.verdict)
    assert verdicts.count("better") <= 1


def test_no_value_is_expected_beyond_the_worst_that_was_ever_reported(tmp_path: Path) -> None:
    """An accuracy of chance, 0.1, is nearly what a poor learning rate has."""

    def accuracy(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        return {"accuracy": 0.1 + 0.09 * epoch * math.exp(-3 * (math.log10(params["lr"]) + 2) ** 2)}

    settings: dict[str, Any] = {"mode": "max", "metric": "accuracy", "num_samples": 12}
    study = build_study(tmp_path, SPACE, EPOCHS, DEFAULT, **settings)
    winner = estimate_winner(simulate(study, accuracy))
    assert winner is not None
    assert winner.default is not None
    assert 0.1 < winner.default.lower <= winner.default.value


@pytest.mark.parametrize(("factor", "is_share"), [(1, True), (100, False)])
def test_no_accuracy_above_1_is_expected_unless_it_is_in_percent(
    tmp_path: Path, factor: float, is_share: bool
) -> None:
    rng = np.random.default_rng(0)

    def accuracy(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        reached = 0.97 - 0.2 * (math.log10(params["lr"]) + 2) ** 2
        return {"validation_accuracy": factor * max(0.1, reached + 0.03 * rng.random())}

    settings: dict[str, Any] = {"mode": "max", "metric": "validation_accuracy", "num_samples": 8}
    study = build_study(tmp_path, SPACE, EPOCHS, DEFAULT, **settings)
    winner = estimate_winner(simulate(study, accuracy))
    assert winner is not None
    assert winner.expected is not None
    assert winner.expected.lower < winner.recorded
    assert winner.expected.upper == factor if is_share else winner.expected.upper > factor


def test_without_a_default_there_is_no_gain(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, EPOCHS, num_samples=8)
    winner = estimate_winner(simulate(study, lucky()))
    assert winner is not None
    assert winner.expected is not None
    assert (winner.default, winner.gain, winner.verdict) == (None, None, "no default")


def test_one_trial_is_too_few_for_an_estimate_and_none_for_a_winner(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, EPOCHS)
    assert estimate_winner(study.result()) is None
    report(study, ask(study), [0.5])
    winner = estimate_winner(load_study(study.directory))
    assert winner is not None
    assert (winner.recorded, winner.expected) == (0.5, None)
    assert importances(load_study(study.directory)) == ()
    study.close()


def test_importances_tell_what_matters(tmp_path: Path) -> None:
    result = studied(tmp_path, 60)
    first, second, third = importances(result)
    assert [first.name, second.name, third.name] == ["lr", "act", "width"]
    assert [first.rank, second.rank, third.rank] == [1, 2, 3]
    assert first.share > 0.8
    assert third.share < 0.1
    assert not third.uncertain
    assert importances(result) == (first, second, third)  # the same at each look


def test_where_trials_differ_by_luck_alone_what_matters_is_uncertain(tmp_path: Path) -> None:
    settled = 0
    for seed in range(4):
        settings = {"num_samples": 24, "seed": seed, "metric": "score", "mode": "max"}
        study = build_study(tmp_path / str(seed), SPACE, EPOCHS, DEFAULT, **settings)
        found = importances(simulate(study, by_luck(seed)))
        settled += any(not importance.uncertain for importance in found)
    assert settled <= 1


def test_what_is_not_told_apart_shares_a_rank(tmp_path: Path) -> None:
    space = {name: {"type": "uniform", "lower": 0.0, "upper": 1.0} for name in ("x", "y", "z")}

    def bowl(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        distance = (params["x"] - 0.4) ** 2 + (params["y"] - 0.4) ** 2
        return {"validation_loss": distance + 1 / epoch}

    study = build_study(tmp_path, space, EPOCHS, num_samples=30, scheduler="asha")
    found = importances(load_study(simulate(study, bowl).record))
    assert {importance.name: importance.rank for importance in found} == {"x": 1, "y": 1, "z": 3}
    page = report_study(study.directory, file=tmp_path / "report.html").read_text()
    assert "The trials do not tell which of these matters most: y (60%), x (40%)." in page


def test_what_six_trials_cannot_settle_is_called_uncertain(tmp_path: Path) -> None:
    found = importances(studied(tmp_path, 6))
    assert {importance.name for importance in found if importance.uncertain} >= {"lr", "width"}
