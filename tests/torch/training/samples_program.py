"""Trainings on two ranks whose data are, or are not, the same on both; each writes what it met."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    Subset,
    TensorDataset,
    random_split,
)

import itwinai
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.type import DistributedStrategyError

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import make_data, options

RANK = int(os.environ["RANK"])


class Files(Dataset[Any]):
    """Its samples are named by files, which lie in another folder on each node."""

    def __init__(self, backwards: bool) -> None:
        self.files = [f"/scratch/of-node-{RANK}/{n:03d}.png" for n in range(32)]
        self.files.sort(reverse=backwards)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return make_data(32)[int(Path(self.files[index]).stem)]


class Splitting(TorchTrainer):
    """Splits its data at random, where the trainer makes its loaders."""

    def create_dataloaders(self, *datasets: Any) -> None:
        self.parts = random_split(make_data(), [40, 20])
        super().create_dataloaders(*self.parts, None)


class Sharding(TorchTrainer):
    """Gives each rank samples of its own, by itself."""

    def create_dataloaders(self, *datasets: Any) -> None:
        own = Subset(make_data(), range(RANK, 60, 2))
        self.train_dataloader = DataLoader(own, batch_size=10)


class Loading(TorchTrainer):
    """Makes its loaders as without the library: that of the training set gives each rank all."""

    def create_dataloaders(self, *datasets: Any) -> None:
        train, validation, _ = datasets
        self.train_dataloader = DataLoader(train, batch_size=10, shuffle=True)
        parts = DistributedSampler(validation, shuffle=False)
        self.validation_dataloader = DataLoader(validation, batch_size=10, sampler=parts)


def split_apart() -> Any:
    torch.manual_seed(RANK)
    return random_split(make_data(), [40, 20])


CASES = {
    "split apart": (TorchTrainer, split_apart),
    "split inside": (Splitting, lambda: [make_data()]),
    "other rows": (TorchTrainer, lambda: [TensorDataset(*make_data(60, seed=RANK).tensors)]),
    "files in one order": (TorchTrainer, lambda: [Files(backwards=False)]),
    "files in two orders": (TorchTrainer, lambda: [Files(backwards=RANK == 1)]),
    "own shards": (Sharding, lambda: [make_data()]),
    "own loaders": (Loading, lambda: [make_data(), make_data(31)]),
}


def outcome(case: str, folder: Path) -> dict[str, Any]:
    """Train, and return what the training has said and ended with."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    itwinai.logger.addHandler(handler)
    kind, data = CASES[case]
    trainer = kind(**options(folder / case, epochs=1, strategy="ddp", random_seed=None))
    error = ""
    try:
        trainer.execute(*data())
    except DistributedStrategyError as refusal:
        error = str(refusal)
    itwinai.logger.removeHandler(handler)
    parts = [list(part.indices) for part in getattr(trainer, "parts", [])]
    return {"error": error, "said": said, "parts": parts}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = {case: outcome(case, folder) for case in CASES}
    (folder / f"outcome-{RANK}.json").write_text(json.dumps(found))
