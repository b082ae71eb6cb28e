"""Trains one case after the other; run alone, or by torchrun. Each rank writes what it has seen.

Its arguments are a folder and a file of runs. A run is a mapping: its ``name``, the ``data`` and
``config``, the ``folder`` of its checkpoints, the batch that it is ``cut`` off before, if any, and
the checkpoint to ``start`` from, if any.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    WeightedRandomSampler,
    default_collate,
)
from torchdata.stateful_dataloader import StatefulDataLoader

from itwinai.torch.trainer import TorchTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import MLP, accuracy, error_rate, make_data

SAMPLES, EPOCHS = 75, 3


class CutOff(Exception):  # noqa: N818
    """Ends a training before its time."""


class Points(Dataset[Any]):
    """Samples with their numbers; notes which of them were loaded."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.data = make_data(samples)
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        self.loaded.append(index)
        inputs, target = self.data[index]
        return inputs, target, index


class Noisy(Points):
    """With noise from the random numbers of Python, NumPy and torch; targets are numbers."""

    def __getitem__(self, index: int) -> Any:
        inputs, _, index = super().__getitem__(index)
        noise = random.random() + np.random.rand() + torch.rand(4)
        return inputs + 0.1 * noise, inputs[:2], index


class Ignoring(Points):
    """Every third target is one that cross entropy ignores, so the ranks tell what counts."""

    def __getitem__(self, index: int) -> Any:
        inputs, target, index = super().__getitem__(index)
        return inputs, target if index % 3 else torch.tensor(-100), index


class Stream(IterableDataset[Any]):
    """Is read from front to back, in another order in each epoch, and knows its place."""

    def __init__(self) -> None:
        self.points = Points()
        self.epoch = self.first = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        order = list(range(SAMPLES))
        random.Random(self.epoch).shuffle(order)
        while self.first < SAMPLES:
            self.first += 1
            yield self.points[order[self.first - 1]]
        self.first = 0

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first = state["first"]


class Drawing(Stream):
    """Draws its order when it begins and noise as it goes, from the global random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        if self.first == 0:
            self.order = random.sample(range(SAMPLES), SAMPLES)
        while self.first < SAMPLES:
            self.first += 1
            inputs, target, number = self.points[self.order[self.first - 1]]
            yield inputs + 0.1 * torch.rand(4), target, number
        self.first = 0

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first, self.order = state["first"], state["order"]


class Remembering:
    """A loader of a user's own, which knows its place."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self.batch = 0

    def __iter__(self) -> Iterator[Any]:
        while self.batch < 18:
            self.batch += 1
            first = 4 * self.batch - 4
            yield default_collate([self.points[index] for index in range(first, first + 4)])
        self.batch = 0

    def state_dict(self) -> dict[str, Any]:
        return {"batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batch = state["batch"]


class Case(TorchTrainer):
    """Notes which samples it trains on, and what each epoch comes to."""

    run: dict[str, Any]

    def create_dataloaders(self, *datasets: Any) -> None:
        super().create_dataloaders(*datasets)
        points, size = datasets[0], self.config.batch_size
        kind = self.run.get("loader")
        if kind == "shuffled":  # by the random numbers that dropout takes as well
            self.train_dataloader = DataLoader(points, batch_size=size, shuffle=True)
        elif kind == "weighted":  # draws as it goes, from the generator of the loaders
            sampler = WeightedRandomSampler([1.0] * len(points), 70, generator=self.torch_rng)
            self.train_dataloader = DataLoader(points, batch_size=size, sampler=sampler)
        elif kind == "remembering":
            self.train_dataloader = Remembering(points)
        elif kind == "stateful":
            self.train_dataloader = StatefulDataLoader(
                points,
                batch_size=size,
                shuffle=True,
                generator=self.torch_rng,
                num_workers=self.config.num_workers_dataloader,
            )

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        *batch, numbers = batch
        self.note(numbers)
        return super().train_step(batch, batch_idx)

    def note(self, numbers: torch.Tensor) -> None:
        if len(self.seen) == self.run.get("cut"):
            raise CutOff
        self.seen.append([self.current_epoch, *numbers.tolist()])

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.history.append({k: float(v).hex() for k, v in self.epoch_metrics.items()})
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return super().validation_step(batch[:2], batch_idx)


class Weighing(Case):
    """Says what counts in a batch of three parts."""

    def terms_in_loss(self, batch: Any) -> float:
        return super().terms_in_loss(batch[:2])


class OwnLoop(Case):
    """Goes over the batches itself."""

    def train(self) -> None:
        for _ in self.remaining_epochs():
            self.model.train()
            for inputs, target, numbers in self.remaining_batches():
                self.note(numbers)
                with self.autocast():
                    loss = self.loss(self.model(inputs), target)
                self.optimize(loss)
            self.end_epoch({"validation_loss": self.validation_epoch()})


DATA: dict[str, Any] = {
    "points": Points,
    "noisy": Noisy,
    "ignoring": Ignoring,
    "stream": Stream,
    "drawing": Drawing,
}


def train(run: dict[str, Any]) -> dict[str, Any]:
    config = {"batch_size": 4, "optim_lr": 0.02, "shuffle_train": True, "dropout": 0.3}
    kind = {"loop": OwnLoop, "weighing": Weighing}.get(run.get("kind", ""), Case)
    data = DATA[run.get("data", "points")]
    metrics = {} if data is Noisy else {"accuracy": accuracy(), "error": error_rate}
    training, validation = data(), Points(30) if data is not Noisy else Noisy(30)
    trainer = kind(
        {**config, "num_workers_dataloader": 0, **run.get("config", {})},
        epochs=EPOCHS,
        model=MLP,
        metrics=metrics,
        strategy=run.get("strategy", "ddp"),
        random_seed=5,
        checkpoints_location=run["folder"],
        checkpoint_every_steps=run.get("every"),
        checkpoint_every_seconds=run.get("seconds"),
        checkpoint_sharded=run.get("sharded", False),
        from_checkpoint=run.get("start"),
    )
    trainer.run, trainer.seen, trainer.history = run, [], []
    weights: list[str] = []
    try:
        *_, model = trainer.execute(training, validation)
    except CutOff:
        pass
    else:
        weights = [number.hex() for p in model.parameters() for number in p.flatten().tolist()]
    loaded = getattr(training, "points", training).loaded
    return {"seen": trainer.seen, "history": trainer.history, "weights": weights, "loaded": loaded}


def main(folder: Path, runs: Path) -> None:
    outcomes = {run["name"]: train(run) for run in json.loads(runs.read_text())}
    (folder / f"outcomes-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
