"""What the samples were made with and what the tests go on with: data, models, trainings."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from itwinai.components import DataGetter
from itwinai.hpo import StudyResult
from itwinai.torch.trainer import TorchTrainer

#: Of the trainings alone: everything that has a state. The validation loss soon falls by less than
#: the smallest gain that counts, so that the training ends before its last epoch.
EPOCHS = 12
CONFIG: dict[str, Any] = {
    "batch_size": 8,
    "hidden": 8,
    "optim_lr": 0.02,
    "shuffle_train": True,
    "num_workers_dataloader": 0,
    "lr_scheduler": "cosine",
    "lr_warmup_epochs": 1.5,
    "gradient_accumulation_steps": 2,
    "gradient_clipping": 1.0,
    "ema_decay": 0.9,
    "early_stopping_patience": 5,
    "early_stopping_min_delta": 0.1,
}
#: What is different of the training in shards.
PLAIN = {"ema_decay": None}


class Points(DataGetter):
    """The data sets of the studies.

    Args:
        pace: Seconds that a validation takes, so that there is time to interrupt a study.
    """

    def __init__(self, pace: float = 0.0) -> None:
        super().__init__()
        self.pace = pace

    def execute(self) -> tuple[Dataset[Any], Dataset[Any], None]:
        return points(96), Paced(points(48, first=96), self.pace), None


class Paced(Dataset[Any]):
    """Samples, the first of which takes its time."""

    def __init__(self, data: Dataset[Any], pace: float) -> None:
        self.data = data
        self.pace = pace

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        if index == 0 and self.pace:
            time.sleep(self.pace)
        return self.data[index]


class Noisy(Paced):
    """Samples with noise from the random numbers of Python, NumPy and torch."""

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.data[index]
        noise = random.random() + np.random.rand() + torch.rand(2)
        return inputs + 0.1 * noise, target


def points(count: int, first: int = 0) -> TensorDataset:
    """Points of a square, parted by a curve: a formula, the same on every machine."""
    numbers = torch.arange(first, first + count, dtype=torch.float64).unsqueeze(1)
    square = numbers * torch.tensor([[0.7548776662466927, 0.5698402909980532]]).double() % 1
    inputs = 2 * square - 1
    return TensorDataset(inputs.float(), (inputs[:, 0] > inputs[:, 1] ** 2 - 0.3).long())


class Network(nn.Sequential):
    """One or more hidden layers.

    Args:
        hidden: The width of the hidden layer, or of each of them.
    """

    def __init__(self, hidden: int | Sequence[int] = 8) -> None:
        sizes = [2, *([hidden] if isinstance(hidden, int) else hidden)]
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.Tanh())]
        super().__init__(*layers, nn.Linear(sizes[-1], 2))


def caution(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How near to each other the outputs are: what a small loss is paid with."""
    return 1 - prediction.softmax(1).diff(dim=1).abs().mean()


class Recording(TorchTrainer):
    """A training that keeps each epoch's metrics."""

    history: list[dict[str, float]]

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.history.append(dict(self.epoch_metrics))
        return loss


def train(
    folder: Path, noisy: bool = False, config: Mapping[str, Any] | None = None, **changes: Any
) -> list[dict[str, float]]:
    """Train with checkpoints in a folder; return the metrics of each epoch."""
    trainer = Recording(
        config={**CONFIG, **(config or {})},
        epochs=EPOCHS,
        model=Network,
        metrics={"accuracy": MulticlassAccuracy(num_classes=2, average="micro")},
        random_seed=3,
        checkpoints_location=folder,
        checkpoint_every=1,
        **changes,
    )
    trainer.history = []
    data = Noisy(points(90), 0.0) if noisy else points(90)
    trainer.execute(data, points(48, first=96))
    return trainer.history


def told(study: StudyResult) -> dict[str, Any]:
    """All that a study's folder tells, as plain data."""
    folder = study.record.parent
    own = ("name", "epochs", "total", "threads", "recommended")
    of_trial = (
        *("number", "params", "seconds", "checkpoint_epochs", "reason"),
        *("is_default", "parent", "continued", "seed"),
    )
    content = {
        **{name: getattr(study, name) for name in own},
        "objectives": [[objective.metric, objective.mode] for objective in study.objectives],
        "cost": vars(study.cost),
        "best": None if study.best is None else study.best.number,
        "default": None if study.default is None else study.default.number,
        "front": [trial.number for trial in study.front],
        "trials": [
            {
                **{name: getattr(trial, name) for name in of_trial},
                "state": trial.state.value,
                "history": list(trial.history),
                "checkpoint": trial.checkpoint and str(trial.checkpoint.relative_to(folder)),
            }
            for trial in study.trials
        ],
    }
    plain: dict[str, Any] = json.loads(json.dumps(content, default=dict))
    return plain


if __name__ == "__main__":
    # Two ranks, of which each writes its part of a checkpoint; run by torchrun.
    place = Path(sys.argv[1])
    of_rank = {"batch_size": CONFIG["batch_size"] // 2, **PLAIN}
    epochs = train(place, config=of_rank, strategy="fsdp", checkpoint_sharded=True)
    (place / "epochs.json").write_text(json.dumps(epochs))
