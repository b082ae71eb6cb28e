"""Trains a small network on an uneven data set and writes its epochs; run alone or by torchrun."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from itwinai.torch.trainer import TorchTrainer


class Recording(TorchTrainer):
    """Keeps each epoch's metrics, as every rank sees them."""

    def validation_epoch(self):
        loss = super().validation_epoch()
        self.history.append(dict(self.epoch_metrics))
        return loss


def build_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def make_data(samples: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(samples, 6, generator=generator)
    return TensorDataset(inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0.5).long())


def absolute_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A metric that is a plain function of one batch."""
    return (prediction.argmax(1) - target).abs().float().mean()


def main(samples: int, batch_size: int, folder: str) -> None:
    trainer = Recording(
        config={
            "batch_size": batch_size,
            "optimizer": "sgd",
            "optim_lr": 0.1,
            "shuffle_train": True,
            "num_workers_dataloader": 0,
            "dist_backend": "gloo",
        },
        epochs=4,
        model=build_model,
        metrics={
            "accuracy": MulticlassAccuracy(num_classes=3, average="micro"),
            "error": absolute_error,
        },
        random_seed=3,
        checkpoints_location=Path(folder) / "checkpoints",
        checkpoint_every=2,
    )
    trainer.history = []
    trainer.execute(make_data(samples), make_data(samples - 3))
    name = f"epochs-{os.environ.get('RANK', 'alone')}.json"
    Path(folder, name).write_text(json.dumps(trainer.history))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
