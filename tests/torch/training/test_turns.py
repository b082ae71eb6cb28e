"""A batch weighs by what its loss is a mean over, wherever and in however many parts it comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import terms_program
from ranks import run_ranks


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process with batches of 8 ends with, by case."""
    folder = tmp_path_factory.mktemp("whole")
    choices: dict[str, Any] = {"batch_size": 8, "window": 1, "strategy": "ddp"}
    return {case: terms_program.outcome(case, folder, **choices) for case in terms_program.CASES}


def assert_same(outcomes: dict[str, Any], whole: dict[str, Any]) -> None:
    for case, expected in whole.items():
        found = outcomes[case]
        assert found["weights"] == pytest.approx(expected["weights"], rel=1e-4, abs=1e-5), case
        assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-5), case


def test_an_accumulated_batch_is_the_whole_one(tmp_path, whole):
    choices: dict[str, Any] = {"batch_size": 4, "window": 2, "strategy": "ddp"}
    cases = [case for case in whole if case != "uneven"]
    outcomes = {case: terms_program.outcome(case, tmp_path, **choices) for case in cases}
    assert_same(outcomes, {case: whole[case] for case in cases})


@pytest.mark.parametrize(
    ("strategy", "batch_size", "window"),
    [
        ("ddp", 4, 1),
        ("ddp", 2, 2),
        ("fsdp", 4, 1),
        pytest.param("deepspeed", 2, 2, marks=pytest.mark.exhaustive),
    ],
)
def test_the_batches_of_two_ranks_are_the_whole_one(tmp_path, whole, strategy, batch_size, window):
    choices = {"batch_size": batch_size, "window": window, "strategy": strategy}
    run(tmp_path, choices)
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    assert_same(outcomes, whole)
    assert outcomes["refusal"] == (
        "rank 1 has no batch, and rank 0 has: deal the data out so that each rank gets one"
    )


def run(folder: Path, choices: dict[str, Any]) -> None:
    program = Path(terms_program.__file__)
    run_ranks(program, str(folder), json.dumps(choices))
