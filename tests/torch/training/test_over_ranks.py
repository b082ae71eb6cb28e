"""What must be alike on all ranks, and what must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks

PROGRAM = Path(__file__).with_name("ranks_program.py")


def run(case: str, folder: Path, **choices: Any) -> list[dict[str, Any]]:
    """Run a case of the program on two ranks; return what each wrote."""
    run_ranks(PROGRAM, case, str(folder), json.dumps(choices))
    return [json.loads((folder / f"outcome-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seed", [7, None])
def test_ranks_share_weights_and_data_but_no_noise(tmp_path, workers, seed):
    first, second = run("noise", tmp_path, workers=workers, seed=seed)
    assert first["weights"] == second["weights"]
    assert sorted(first["indices"] + second["indices"]) == list(range(16))
    assert first["dropout"] != second["dropout"]
    seen = [tuple(sample) for sample in first["noise"] + second["noise"]]
    assert len(set(seen)) == 16


def test_the_noise_of_ranks_follows_from_the_seed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    choices = {"workers": 2, "seed": 7}
    assert run("noise", tmp_path / "a", **choices) == run("noise", tmp_path / "b", **choices)


@pytest.mark.parametrize(
    ("strategy", "of"),
    [
        ("ddp", "own epoch"),
        ("fsdp", "model"),
        *(
            pytest.param(*case, marks=pytest.mark.exhaustive)
            for case in [("ddp", "model"), ("ddp", "average"), ("deepspeed", "model")]
        ),
    ],
)
def test_the_metric_is_that_of_the_model_that_is_kept(tmp_path, strategy, of):
    for rank in run("statistics", tmp_path, strategy=strategy, of=of):
        assert rank["reported"] == pytest.approx(rank["models"], rel=1e-5)


def test_metrics_of_collections_and_within_others_are_exact_over_ranks(tmp_path):
    for rank in run("metrics", tmp_path):
        assert rank["reported"] == pytest.approx([rank["exact"]] * 2)
