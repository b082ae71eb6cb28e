"""Two real processes train exactly as one process with a batch of twice the size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ranks import run_ranks

PROGRAM = Path(__file__).with_name("ddp_program.py")

#: Sums in another order differ in the last bits of a float32; after 4 epochs by less than this.
TOLERANCE = 1e-5


def train(folder: Path, samples: int, batch_size: int, processes: int) -> Path:
    folder.mkdir()
    run_ranks(PROGRAM, str(samples), str(batch_size), str(folder), ranks=processes)
    return folder


def epochs(folder: Path, rank: str) -> list[dict[str, float]]:
    return json.loads((folder / f"epochs-{rank}.json").read_text())


# 203 samples leave a last step of 11; 193 one of a single sample, which only one rank gets.
@pytest.mark.parametrize("samples", [pytest.param(203, marks=pytest.mark.exhaustive), 193])
def test_two_ranks_give_the_curve_of_one_process_with_the_doubled_batch(tmp_path, samples):
    alone = train(tmp_path / "alone", samples, batch_size=32, processes=1)
    both = train(tmp_path / "both", samples, batch_size=16, processes=2)

    expected = epochs(alone, "alone")
    assert len(expected) == 4
    assert set(expected[0]) == {
        f"{stage}_{name}"
        for stage in ("train", "validation")
        for name in ("loss", "accuracy", "error")
    }
    assert expected[-1]["train_loss"] < expected[0]["train_loss"]
    for rank in ("0", "1"):
        for one, other in zip(expected, epochs(both, rank), strict=True):
            assert other == pytest.approx(one, abs=TOLERANCE)
    weights = [
        torch.load(f / "checkpoints/epoch_3/model.pt", weights_only=True) for f in (alone, both)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=TOLERANCE)
