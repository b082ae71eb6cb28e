"""Predicts an uneven data set as one of several processes; run by torchrun."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from itwinai.pipeline import Pipeline
from itwinai.torch.inference import PredictionSaver, RegressionTorchPredictor
from itwinai.torch.trainer import TorchTrainer

CONFIG = {"batch_size": 4, "num_workers_dataloader": 0, "dist_backend": "gloo"}


class Watched(RegressionTorchPredictor):
    """Keeps the inputs that this process has seen."""

    def predict_step(self, model: nn.Module, batch: Any, batch_idx: int) -> Any:
        self.seen += batch[0].flatten().tolist()
        return super().predict_step(model, batch, batch_idx)


class Lines(IterableDataset[Any]):
    """Numbers that can only be read from front to back."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return (torch.tensor([float(number)]) for number in range(self.count))


class Shuffled(Lines):
    """The same in an order that it draws."""

    def __iter__(self) -> Iterator[Any]:
        return (torch.tensor([float(number)]) for number in torch.randperm(self.count))


def predict(kind: str, samples: int, folder: Path) -> Any:
    numbers = TensorDataset(torch.arange(float(samples)).unsqueeze(1))
    if kind == "iterable":
        return RegressionTorchPredictor(nn.Identity(), CONFIG).execute(Lines(samples))
    if kind == "shuffled":
        torch.manual_seed(int(os.environ["RANK"]))
        return sorted(RegressionTorchPredictor(nn.Identity(), CONFIG).execute(Shuffled(samples)))
    if kind == "trained":
        trainer = make_trainer(folder)
        *_, model = trainer.execute(TensorDataset(torch.ones(8, 1), torch.ones(8, 1)))
        return RegressionTorchPredictor(config=CONFIG).execute(numbers, model)
    predictor = Watched(nn.Identity(), CONFIG)
    predictor.seen = []
    saver = PredictionSaver(folder / "saved.csv")
    predictions = Pipeline([predictor, saver]).execute(numbers)
    (folder / f"seen-{os.environ['RANK']}.json").write_text(json.dumps(predictor.seen))
    return predictions


def make_trainer(folder: Path) -> TorchTrainer:
    """A trainer of a model that returns its input, before the training and after it."""
    identity = nn.Linear(1, 1)
    nn.init.ones_(identity.weight)
    nn.init.zeros_(identity.bias)
    return TorchTrainer(
        {**CONFIG, "loss": "mse"}, 1, identity, checkpoints_location=folder / "checkpoints"
    )


def main(kind: str, samples: int, folder: Path) -> None:
    predictions = predict(kind, samples, folder)
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(predictions))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
