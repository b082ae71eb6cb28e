"""A small classification task, and the trainers and loggers that the tests use on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from itwinai.loggers import Logger

#: Short, and the same in any process.
CONFIG = {"batch_size": 16, "num_workers_dataloader": 0, "optim_lr": 0.01, "shuffle_train": True}


class MLP(nn.Module):
    """One hidden layer."""

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 2)
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


def make_data(samples: int = 60, seed: int = 7) -> TensorDataset:
    """Points of two classes, which a straight line parts."""
    inputs = torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, (inputs.sum(1) > 0).long())


def accuracy() -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes=2, average="micro")


def error_rate(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A metric that is a plain function of one batch."""
    return (prediction.argmax(1) != target).float().mean()


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    """Arguments of a trainer."""
    config = {**CONFIG, **changes.pop("config", {})}
    return {
        "config": config,
        "epochs": 3,
        "model": MLP,
        "metrics": {"accuracy": accuracy(), "error": error_rate},
        "random_seed": 1,
        "checkpoints_location": folder / "checkpoints",
    } | changes


class MemoryLogger(Logger):
    """A logger as a user writes one: it keeps what it is told."""

    def __init__(self, **rules: Any) -> None:
        super().__init__(**rules)
        self.logged: list[tuple[str, float, int | None]] = []
        self.hyper_parameters: dict[str, Any] = {}
        self.ends: list[str] = []

    def _metric(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self.logged.append((identifier, float(item), step))

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        self.hyper_parameters = dict(params)

    def _close(self, status: str) -> None:
        self.ends.append(status)

    _writers: ClassVar = {"metric": _metric}

    def steps(self, identifier: str) -> list[int | None]:
        return [step for name, _, step in self.logged if name == identifier]
