"""Trains one configuration after the other; run alone, or by torchrun. Rank 0 writes the outcomes.

Its arguments are a file of runs and the file to write. A run is a mapping: its ``name``,
``strategy`` and ``config``, the ``folder`` of its checkpoints, whether it is ``cut`` off half way,
and the checkpoint to ``start`` from, if any.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import TensorDataset

import itwinai.distributed as cluster
from itwinai.torch.trainer import TorchTrainer

EPOCHS = 4
#: Samples of a batch, over all ranks.
TOGETHER = 8
#: An epoch's last step has fewer batches, and its last batch one sample, which one rank gets.
TRAINING, VALIDATION = 73, 23


class CutOff(Exception):  # noqa: N818
    """Ends a training before its time."""


class Measured(TorchTrainer):
    """Notes the learning rate of each epoch; lets it fall with the loss, if it is configured so."""

    cut = False

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.rates: list[float] = []
        if self.config.plateau:
            self.lr_scheduler = ReduceLROnPlateau(
                self.optimizer, factor=0.5, patience=0, threshold=self.config.plateau
            )

    def train_epoch(self) -> Any:
        if self.cut and self.current_epoch == self.epochs // 2:
            raise CutOff
        loss = super().train_epoch()
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return loss


def network() -> nn.Module:
    """In float64, so that sums in another order differ by very little."""
    layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2))
    return layers.double()


def points(samples: int, seed: int) -> TensorDataset:
    """Two classes that overlap."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(samples, generator=generator)
    return TensorDataset(inputs, (inputs[:, 0] * inputs[:, 1] + noise > 0).long())


def configuration(**changes: Any) -> dict[str, Any]:
    """The gradients of plain SGD keep their size, unlike Adam's; momentum is a state to keep."""
    ranks = cluster.detect_distributed_environment().global_world_size
    return {
        "batch_size": TOGETHER // ranks,
        "shuffle_train": True,
        "num_workers_dataloader": 0,
        "optimizer": "sgd",
        "optim_lr": 0.1,
        "plateau": None,
        **changes,
    }


def train(run: dict[str, Any]) -> dict[str, Any]:
    """Train a run; return what it came to, which is nothing if it was cut off."""
    trainer = Measured(
        configuration(**run["config"]),
        epochs=EPOCHS,
        model=network,
        strategy=run["strategy"],
        random_seed=1,
        checkpoint_every=1,
        checkpoints_location=run["folder"],
        from_checkpoint=run["start"],
    )
    trainer.cut = run["cut"]
    try:
        *_, model = trainer.execute(points(TRAINING, 7), points(VALIDATION, 8))
    except CutOff:
        return {}
    weights = [number for weight in model.parameters() for number in weight.flatten().tolist()]
    loss = trainer.epoch_metrics["validation_loss"]
    return {"loss": loss, "weights": weights, "rates": trainer.rates}


def main(runs: Path, outcomes: Path) -> None:
    result = {run["name"]: train(run) for run in json.loads(runs.read_text())}
    if cluster.detect_distributed_environment().global_rank == 0:
        outcomes.write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
