"""The data of a resumed training come in the order of one that was never interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import options
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
)
from torchdata.stateful_dataloader import StatefulDataLoader

import itwinai
from itwinai.errors import CheckpointError, ConfigurationError
from itwinai.torch.checkpoints import files
from itwinai.torch.trainer import TorchTrainer

EPOCHS, SAMPLES, BATCH = 3, 8, 2


class Numbered(Dataset[Any]):
    """Samples that are their numbers."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(index)]), torch.tensor([float(index)])


class Growing(Numbered):
    """Has two more samples in each epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.samples = SAMPLES + 2 * epoch


class Shuffling(IterableDataset[Any]):
    """Draws the order of each epoch from a generator of its own, and keeps its place."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.left: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        if not self.left:
            self.left = torch.randperm(SAMPLES, generator=self.generator).tolist()
        while self.left:
            yield Numbered()[self.left.pop(0)]

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "left": list(self.left)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self.left = list(state["left"])


class Odd(Shuffling):
    def state_dict(self) -> dict[str, Any]:
        return {"path": Path()}


class Asking(Shuffling):
    """Gives its state only to who tells it more."""

    def state_dict(self, samples: int) -> dict[str, Any]:  # type: ignore[override]
        return {"samples": samples}


def weighted(generator: torch.Generator) -> WeightedRandomSampler:
    return WeightedRandomSampler([1.0] * SAMPLES, SAMPLES, False, generator)


def in_batches(generator: torch.Generator) -> BatchSampler:
    return BatchSampler(RandomSampler(range(SAMPLES), generator=generator), BATCH, False)


#: The loader of a training set, and a generator of the user's own.
LOADERS: dict[str, Any] = {
    "a generator": lambda d, g: DataLoader(d, BATCH, shuffle=True, generator=g),
    "a sampler's generator": lambda d, g: DataLoader(d, BATCH, sampler=weighted(g)),
    "a batch sampler's": lambda d, g: DataLoader(d, batch_sampler=in_batches(g)),
    "processes that stay": lambda d, g: DataLoader(
        d, BATCH, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "a generator and processes that stay": lambda d, g: DataLoader(
        d, BATCH, shuffle=True, generator=g, num_workers=1, persistent_workers=True
    ),
    "torchdata's": lambda d, g: StatefulDataLoader(d, BATCH, shuffle=True),
    "torchdata's with a generator": lambda d, g: StatefulDataLoader(
        d, BATCH, shuffle=True, generator=g
    ),
}


class Seeing(TorchTrainer):
    """Notes the samples of each epoch that it trains on."""

    make: Any = None

    def create_dataloaders(self, *datasets: Any) -> None:
        super().create_dataloaders(*datasets)
        self.seen: dict[int, list[int]] = {}
        if self.make is not None:
            torch.manual_seed(3)  # torchdata's sampler draws a seed when it is made
            own = torch.Generator().manual_seed(0)
            self.train_dataloader = self.make(datasets[0], own)

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.setdefault(self.current_epoch, []).extend(batch[0].flatten().int().tolist())
        return super().train_step(batch, batch_idx)


class OwnLoop(Seeing):
    """Tells nobody the epoch."""

    def train(self) -> None:
        for epoch in range(self.current_epoch, EPOCHS):
            self.current_epoch = epoch
            for index, batch in enumerate(self.batches()):
                self.train_step(batch, index)
            self.save_checkpoint(f"epoch_{epoch}")

    def batches(self) -> Any:
        return self.train_dataloader


class InSteps(OwnLoop):
    """The same, with what is due between steps."""

    def batches(self) -> Any:
        return self.remaining_batches()


def trained(
    folder: Path, data: Any, make: Any = None, kind: type[Seeing] = Seeing, **changes: Any
) -> dict[int, list[int]]:
    """The samples that were trained on, by epoch."""
    config = {"batch_size": BATCH, "loss": "mse", "shuffle_train": changes.pop("shuffle", False)}
    settings = {"metrics": {}, "model": nn.Linear(1, 1), "epochs": EPOCHS, "config": config}
    trainer = kind(**options(folder, **{**settings, **changes}))
    trainer.make = make
    trainer.execute(data)
    return trainer.seen


@pytest.mark.parametrize("kind", [*LOADERS, "a stream"])
def test_the_next_epochs_have_the_order_that_they_would_have_had(tmp_path, kind):
    data, make = (Shuffling, None) if kind == "a stream" else (Numbered, LOADERS[kind])
    whole = trained(tmp_path, data(), make, checkpoint_every=1)
    start = tmp_path / "checkpoints/epoch_0"
    resumed = trained(tmp_path / "b", data(), make, from_checkpoint=start)
    assert resumed == {epoch: whole[epoch] for epoch in (1, 2)}
    assert whole[0] != whole[1] != whole[2]


def test_a_state_that_a_checkpoint_cannot_hold_is_refused_before_the_first_epoch(tmp_path):
    with pytest.raises(CheckpointError, match=r"the data \(Odd\): its state_dict\(\) holds an ob"):
        trained(tmp_path, Odd())
    assert not (tmp_path / "checkpoints").exists()


def test_data_that_asks_for_more_than_anyone_tells_has_no_state(tmp_path):
    assert [len(order) for order in trained(tmp_path, Asking()).values()] == [SAMPLES] * EPOCHS
    with pytest.raises(ConfigurationError, match="so nothing tells where an epoch goes on"):
        trained(tmp_path / "b", Asking(), checkpoint_every_steps=2)


def test_the_order_that_other_processes_drew_begins_anew_and_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    make = LOADERS["a generator"]
    whole = trained(tmp_path, Numbered(), make, checkpoint_every=1)
    start = tmp_path / "checkpoints/epoch_0"
    model, state = (torch.load(start / n, weights_only=True) for n in (files.MODEL, files.STATE))
    files.save(start, model, {**state, "random_states": state["random_states"] * 2}, {})
    resumed = trained(tmp_path / "b", Numbered(), make, from_checkpoint=start)
    assert resumed == {1: whole[0], 2: whole[1]}
    assert "train_dataloader: each of the 2 processes that wrote the checkpoint" in caplog.text


@pytest.mark.parametrize("kind", [*LOADERS, "a stream"])
def test_the_rest_of_an_epoch_is_what_it_has_not_had(tmp_path, kind):
    data, make = (Shuffling, None) if kind == "a stream" else (Numbered, LOADERS[kind])
    whole = trained(tmp_path, data(), make, checkpoint_every_steps=6)
    start = tmp_path / "checkpoints/epoch_1_step_2"
    resumed = trained(tmp_path / "b", data(), make, from_checkpoint=start)
    assert resumed == {1: whole[1][4:], 2: whole[2]}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d, g: DataLoader(d, 4, shuffle=True), "batch size 2, and now .* batch size 4"),
        (lambda d, g: DataLoader(d, BATCH), "sampler RandomSampler, .* sampler SequentialSampler"),
        (lambda d, g: DataLoader(Numbered(9), BATCH, shuffle=True), "samples 8, .* samples 9, "),
        (
            lambda d, g: DataLoader(d, BATCH, sampler=RandomSampler(d, num_samples=6)),
            "its length 8, .* its length 6, ",
        ),
    ],
)
def test_batches_of_another_make_do_not_go_on_in_the_middle_of_an_epoch(tmp_path, make, words):
    trained(tmp_path, Numbered(), LOADERS["a generator"], checkpoint_every_steps=6)
    start = tmp_path / "checkpoints/epoch_1_step_2"
    with pytest.raises(CheckpointError, match=words):
        trained(tmp_path / "b", Numbered(), make, from_checkpoint=start)


@pytest.mark.parametrize(
    ("kind", "start", "steps"),
    [(OwnLoop, "epoch_0", None), (InSteps, "epoch_0", 6), (InSteps, "epoch_1_step_2", 6)],
)
def test_a_loop_that_tells_no_epoch_has_another_order_in_each(
    tmp_path, kind, start, steps, caplog, monkeypatch
):
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    changes = {"kind": kind, "shuffle": True, "checkpoint_every_steps": steps}
    whole = trained(tmp_path, Numbered(), **changes)
    checkpoint = tmp_path / "checkpoints" / start
    resumed = trained(tmp_path / "b", Numbered(), from_checkpoint=checkpoint, **changes)
    assert {1: whole[1][-len(resumed[1]) :], 2: whole[2]} == resumed
    is_told = "warning: epoch 2 goes on after its batch 2" in caplog.text
    assert is_told == ("step" in start)
    assert len({tuple(order) for order in whole.values()}) == EPOCHS


@pytest.mark.parametrize("start", ["epoch_0", "epoch_1_step_2"])
def test_a_data_set_may_grow_from_epoch_to_epoch(tmp_path, start):
    changes = {"checkpoint_every": 1, "checkpoint_every_steps": 6, "shuffle": True}
    whole = trained(tmp_path, Growing(), **changes)
    assert [sorted(order) for order in whole.values()] == [list(range(n)) for n in (8, 10, 12)]
    checkpoint = tmp_path / "checkpoints" / start
    resumed = trained(tmp_path / "b", Growing(), from_checkpoint=checkpoint, **changes)
    assert resumed == {1: whole[1][-len(resumed[1]) :], 2: whole[2]}


def test_the_order_of_a_loader_without_a_generator_follows_from_the_seed(tmp_path):
    class Dealing(Seeing):
        def create_dataloaders(self, *datasets: Any) -> None:
            super().create_dataloaders(*datasets)
            self.train_dataloader = self.strategy.create_dataloader(
                datasets[0], batch_size=BATCH, shuffle=True
            )

    def orders(seed: int | None) -> dict[int, list[int]]:
        folder = tmp_path / str(seed)
        return trained(folder, Numbered(), kind=Dealing, random_seed=seed)

    assert orders(1) == orders(1) != orders(2)
    assert orders(None) != orders(None)
