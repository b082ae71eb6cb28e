"""Regression on a table, weighing the error against the size of the model.

The data are the 442 patients of scikit-learn's diabetes set: ten measurements, and the disease's
progression a year later. ``python tabular.py`` trains once, ``python tabular.py --study`` searches.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from itwinai.components import DataGetter, DataSplitter, Saver
from itwinai.pipeline import Pipeline
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer


class PatientsGetter(DataGetter):
    """Loads the table; the target is scaled to mean 0 and deviation 1."""

    def execute(self) -> Dataset[Any]:
        measurements, progression = load_diabetes(return_X_y=True)
        target = torch.tensor(progression, dtype=torch.float32).unsqueeze(1)
        inputs = torch.tensor(measurements, dtype=torch.float32) * 21  # deviation 1
        return TensorDataset(inputs, (target - target.mean()) / target.std())


class PatientsSplitter(DataSplitter):
    """Splits at random, but always in the same way."""

    def execute(self, dataset: Any) -> tuple[Any, Any, Any]:
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
        first = int(len(order) * self.train_proportion)
        second = first + int(len(order) * self.validation_proportion)
        parts = order[:first], order[first:second], order[second:]
        train, validation, test = (Subset(dataset, part) for part in parts)
        return train, validation, test


class Network(nn.Sequential):
    """Layers of one width.

    Args:
        width: Features of each hidden layer.
        depth: Hidden layers.
    """

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        sizes = [10, *[width] * depth]
        hidden = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(sizes)]
        super().__init__(*hidden, nn.Linear(width, 1))


class Sized:
    """Reports the model's number of parameters with each epoch."""

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        parameters = self.strategy.unwrap(self.model).parameters()
        self.epoch_metrics["parameters"] = float(sum(p.numel() for p in parameters))
        return loss


class SizedTrainer(Sized, TorchTrainer):
    """Trains once."""


class SizedStudy(Sized, RayTorchTrainer):
    """Searches."""


class ModelSaver(Saver):
    """Keeps the model that the pipeline ends with."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.save_parameters(path=path)
        self.path = path

    def execute(self, train: Any, validation: Any, test: Any, model: nn.Module) -> nn.Module:
        torch.save(model.state_dict(), self.path)
        print(f"model of {sum(p.numel() for p in model.parameters())} parameters in {self.path}")
        return model


SEARCH = {
    "search_space": {
        "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 3e-2},
        "width": {"type": "choice", "categories": [2, 4, 8, 16, 32, 64]},
        "depth": {"type": "choice", "categories": [1, 2, 3]},
    },
    "study": {
        "name": "tabular",
        "metric": ["validation_loss", "parameters"],
        "mode": ["min", "min"],
        "algorithm": "nsga2",
        "scheduler": "none",
        "num_samples": 16,
        "seed": 1,
    },
}


def pipeline(study: bool) -> Pipeline:
    """Build the pipeline of ``train.yaml``, or of ``study.yaml``."""
    trainer = SizedStudy if study else SizedTrainer
    config = {
        "batch_size": 32,
        "loss": "mse",
        "optim_lr": 0.003,
        "width": 32,
        "depth": 2,
        "shuffle_train": True,
        "num_workers_dataloader": 0,
        "early_stopping_patience": 5,
    }
    return Pipeline(
        [
            PatientsGetter(),
            PatientsSplitter(0.6, 0.2, 0.2),
            trainer(config, epochs=10, model=Network, random_seed=1, **(SEARCH if study else {})),
            ModelSaver("model.pt"),
        ]
    )


if __name__ == "__main__":
    pipeline("--study" in sys.argv[1:]).execute()
