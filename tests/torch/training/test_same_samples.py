"""The samples of a training are the same on all ranks, and the same after an interruption."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import run_ranks
from small_trainings import make_data, options
from torch.utils.data import random_split

from itwinai.torch.trainer import TorchTrainer

PROGRAM = Path(__file__).with_name("samples_program.py")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks met in each case."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(PROGRAM, str(folder))
    return [json.loads((folder / f"outcome-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", ["split apart", "other rows"])
def test_data_that_differ_from_rank_to_rank_are_refused(outcomes: Any, case: str) -> None:
    for rank in outcomes:
        assert rank[case]["error"].startswith("the training set holds other samples on each rank")


def test_a_split_at_random_within_the_trainer_is_one_on_all_ranks(outcomes: Any) -> None:
    first, second = (rank["split inside"] for rank in outcomes)
    assert first["parts"] == second["parts"]
    assert (first["error"], second["error"], first["said"]) == ("", "", [])


def test_files_in_another_order_on_each_rank_are_told(outcomes: Any) -> None:
    assert outcomes[0]["files in one order"]["said"] == []
    (said,) = outcomes[0]["files in two orders"]["said"]
    assert said.startswith("warning: it seems that the training set holds other samples")
    assert outcomes[0]["files in two orders"]["error"] == ""


def test_shards_of_ones_own_are_ones_own(outcomes: Any) -> None:
    assert [rank["own shards"] for rank in outcomes] == [{"error": "", "said": [], "parts": []}] * 2


def test_loaders_of_ones_own_by_which_samples_count_more_than_once_are_told(outcomes: Any) -> None:
    first, second = (rank["own loaders"] for rank in outcomes)
    training, validation = first["said"]
    assert "in the loader of the training set, it seems that each rank trains on all" in training
    assert "validation set, DistributedSampler repeats 1 of its samples" in validation
    assert (first["error"], second["error"], second["said"]) == ("", "", [])


class Splitting(TorchTrainer):
    """Splits its data at random, by the random numbers of the process."""

    def create_dataloaders(self, *datasets: Any) -> None:
        self.parts = random_split(make_data(), [40, 20])
        super().create_dataloaders(*self.parts, None)


def test_a_split_at_random_is_the_same_after_an_interruption(tmp_path: Path, caplog: Any) -> None:
    first = Splitting(**options(tmp_path, epochs=1, random_seed=None, checkpoint_every=1))
    first.execute(make_data())
    newest = tmp_path / "checkpoints/epoch_0"
    second = Splitting(**options(tmp_path, epochs=2, random_seed=None, from_checkpoint=newest))
    second.execute(make_data())
    assert [part.indices for part in second.parts] == [part.indices for part in first.parts]
    assert "holds other samples" not in caplog.text


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda: random_split(make_data(), [40, 20], torch.Generator().manual_seed(2)), True),
        (lambda: random_split(make_data(), [40, 20], torch.Generator().manual_seed(1)), False),
        (lambda: [make_data(seed=8)], True),
    ],
    ids=["another split", "the same", "other rows"],
)
def test_other_samples_after_an_interruption_are_told(
    tmp_path: Path, caplog: Any, data: Any, told: bool
) -> None:
    before = random_split(make_data(), [40, 20], torch.Generator().manual_seed(1))
    TorchTrainer(**options(tmp_path, epochs=1, checkpoint_every=1)).execute(*before)
    newest = tmp_path / "checkpoints/epoch_0"
    TorchTrainer(**options(tmp_path, epochs=2, from_checkpoint=newest)).execute(*data())
    assert ("holds other samples than before" in caplog.text) == told


def test_another_training_from_its_weights_may_have_other_data(tmp_path: Path, caplog: Any) -> None:
    TorchTrainer(**options(tmp_path, epochs=1, checkpoint_every=1)).execute(make_data())
    newest = tmp_path / "checkpoints/epoch_0"
    elsewhere = options(tmp_path / "elsewhere", epochs=2, from_checkpoint=newest)
    TorchTrainer(**elsewhere).execute(make_data(seed=8))
    assert "holds other samples" not in caplog.text


class Drawing(TorchTrainer):
    """Draws a number of each of its own generators in each epoch."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.of_torch = torch.Generator().manual_seed(3)
        self.of_numpy = np.random.default_rng(3)
        self.of_python = random.Random(3)
        self.drawn: list[tuple[float, float, float]] = []

    def train_epoch(self) -> Any:
        drawn = torch.rand((), generator=self.of_torch).item()
        self.drawn.append((drawn, self.of_numpy.random(), self.of_python.random()))
        return super().train_epoch()


def test_generators_of_ones_own_go_on_where_they_were(tmp_path: Path) -> None:
    whole = Drawing(**options(tmp_path / "whole", epochs=3))
    whole.execute(make_data())
    Drawing(**options(tmp_path, epochs=1, checkpoint_every=1)).execute(make_data())
    newest = tmp_path / "checkpoints/epoch_0"
    resumed = Drawing(**options(tmp_path, epochs=3, from_checkpoint=newest))
    resumed.execute(make_data())
    assert resumed.drawn == whole.drawn[1:]
