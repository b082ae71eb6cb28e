"""A training by DeepSpeed: ZeRO divides the optimizer's state and the gradients among processes.

The data are the 569 tumours of scikit-learn's breast cancer set. With two processes:
``torchrun --nproc_per_node 2 tumours.py`` trains once, and ``python tumours.py --study`` searches.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from itwinai.components import DataGetter, DataSplitter
from itwinai.pipeline import Pipeline
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer


class TumoursGetter(DataGetter):
    """Loads the table; each measurement is scaled to mean 0 and deviation 1."""

    def execute(self) -> Dataset[Any]:
        measurements, kinds = load_breast_cancer(return_X_y=True)
        inputs = torch.tensor(measurements, dtype=torch.float32)
        inputs = (inputs - inputs.mean(0)) / inputs.std(0)
        return TensorDataset(inputs, torch.tensor(kinds))


class TumoursSplitter(DataSplitter):
    """Splits at random, but always in the same way."""

    def execute(self, dataset: Any) -> tuple[Any, Any, Any]:
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
        first = int(len(order) * self.train_proportion)
        second = first + int(len(order) * self.validation_proportion)
        parts = order[:first], order[first:second], order[second:]
        train, validation, test = (Subset(dataset, part) for part in parts)
        return train, validation, test


class Classifier(nn.Sequential):
    """One hidden layer.

    Args:
        width: Its features.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, 2))


SEARCH = {
    "search_space": {
        "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 3e-2},
        "width": {"type": "choice", "categories": [8, 32, 128]},
    },
    "study": {
        "name": "tumours",
        "metric": "validation_loss",
        "mode": "min",
        "num_samples": 4,
        "workers_per_trial": 2,
        "seed": 1,
    },
}


def pipeline(study: bool) -> Pipeline:
    """Build the pipeline of ``train.yaml``, or of ``study.yaml``."""
    trainer = RayTorchTrainer if study else TorchTrainer
    config = {
        "batch_size": 16,
        "optim_lr": 0.003,
        "width": 32,
        "shuffle_train": True,
        "num_workers_dataloader": 0,
        "gradient_clipping": 1.0,
        "deepspeed": {"zero_optimization": {"stage": 2}},
    }
    return Pipeline(
        [
            TumoursGetter(),
            TumoursSplitter(0.6, 0.2, 0.2),
            trainer(
                config,
                epochs=5,
                model=Classifier,
                strategy="deepspeed",
                metrics={"accuracy": MulticlassAccuracy(num_classes=2, average="micro")},
                random_seed=1,
                **(SEARCH if study else {}),
            ),
        ]
    )


if __name__ == "__main__":
    pipeline("--study" in sys.argv[1:]).execute()
