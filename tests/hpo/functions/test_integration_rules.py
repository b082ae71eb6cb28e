"""The shipped suite lets sound functions pass, and names the rule that another one breaks."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from itwinai.hpo import Trial
from itwinai.hpo.engine import ray_cluster
from itwinai.testing import integrations
from itwinai.testing.claims import BrokenClaimError
from itwinai.testing.integrations import Bench, Subject, check_integration


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for the whole module."""
    with ray_cluster():
        yield


def sound(config: Any, trial: Trial) -> None:
    w = trial.load() or 0.0
    for _ in trial.epochs():
        w += config.lr * random.random()
        trial.report({"loss": w}, checkpoint=w)


def forgets(config: Any, trial: Trial) -> None:
    w = 0.0
    for _ in trial.epochs():
        w += config.lr
        trial.report({"loss": w}, checkpoint=w)


def reports_once(config: Any, trial: Trial) -> None:
    trial.report({"loss": config.lr})


def leaves_something(config: Any, trial: Trial) -> None:
    sys.left_by_a_trial = getattr(sys, "left_by_a_trial", 0) + 1  # type: ignore[attr-defined]
    for _ in trial.epochs():
        trial.report({"loss": config.lr * sys.left_by_a_trial})  # type: ignore[attr-defined]


def goes_on(config: Any, trial: Trial) -> None:
    for _ in trial.epochs():
        with suppress(BaseException):  # what is wrong with it
            trial.report({"loss": config.lr})


def goes_on_elsewhere(config: Any, trial: Trial) -> None:
    start = 0.0 if trial.load() is None else 100.0
    for epoch in trial.epochs():
        trial.report({"loss": start + epoch * config.lr}, checkpoint=epoch)


def trains_alone(config: Any, trial: Trial) -> None:
    if trial.rank:
        raise RuntimeError("there is more than one")
    for _ in trial.epochs():
        trial.report({"loss": config.lr})


def test_a_sound_function_keeps_all_rules() -> None:
    rules = check_integration(sound, {"lr": 0.1})
    assert rules == [rule.__name__.replace("_", " ") for rule in integrations.RULES]


@pytest.mark.parametrize(
    ("function", "rule", "reason"),
    [
        (reports_once, integrations.every_epoch_is_reported, "reports of trial 0: 1, expected 3"),
        (leaves_something, integrations.nothing_is_left_in_the_process, "second, equal trial"),
        (goes_on, integrations.a_stopped_trial_ends, "reports of a stopped trial: 3, expected 1"),
        (
            forgets,
            integrations.a_killed_trial_ends_as_if_nothing_had_happened,
            "reports of a trial that was killed: 5, expected 3",
        ),
        pytest.param(
            goes_on_elsewhere,
            integrations.a_killed_trial_ends_as_if_nothing_had_happened,
            "metrics of a trial that was killed",
            marks=pytest.mark.exhaustive,
        ),
        (
            forgets,
            integrations.an_interrupted_trial_goes_on_where_it_was,
            "a trial that was interrupted began again",
        ),
        pytest.param(
            goes_on,
            integrations.too_little_memory_is_known_as_such,
            "trial 0 is completed",
            marks=pytest.mark.exhaustive,
        ),
        (trains_alone, integrations.several_processes_train_together, "there is more than one"),
    ],
)
def test_what_breaks_a_rule_is_found(
    tmp_path: Path, function: Any, rule: Callable[[Bench], None], reason: str
) -> None:
    with pytest.raises(BrokenClaimError) as broken:
        rule(Bench(Subject(function, {"lr": 0.1}), tmp_path))
    assert reason in str(broken.value)


@pytest.mark.exhaustive
def test_a_function_that_keeps_no_state_can_be_sound_too(tmp_path: Path) -> None:
    subject = Subject(forgets, {"lr": 0.1}, resumes=False)
    integrations.a_killed_trial_ends_as_if_nothing_had_happened(Bench(subject, tmp_path))
