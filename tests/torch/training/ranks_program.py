"""Two ranks: the noise that each sees, the loss of a model with batch statistics, or metrics."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers import MinMaxMetric

from itwinai.torch.trainer import TorchTrainer


class Noisy(Dataset[Any]):
    """Sixteen samples, of which each reading is another one."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        return torch.randn(4), torch.tensor(index % 2), index


class Seeing(TorchTrainer):
    """Notes what it sees, and the weights that it begins with."""

    def train(self) -> None:
        self.weights = [p.tolist() for p in self.model.parameters()]
        self.dropout = torch.rand(3).tolist()
        self.noise: list[Any] = []
        self.indices: list[int] = []
        super().train()

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, target, index = batch
        self.noise += inputs.tolist()
        self.indices += index.tolist()
        return super().train_step((inputs, target), batch_idx)


def noise(folder: Path, choices: dict[str, Any]) -> None:
    config = {"batch_size": 4, "num_workers_dataloader": choices["workers"], "shuffle_train": True}
    trainer = Seeing(
        config,
        epochs=1,
        model=partial(nn.Linear, 4, 2),
        random_seed=choices["seed"],
        checkpoints_location=folder / "checkpoints",
    )
    trainer.execute(Noisy())
    names = ("weights", "dropout", "noise", "indices")
    write(folder, {name: getattr(trainer, name) for name in names})


class Averaging(TorchTrainer):
    """Evaluates an average that it keeps by hand, in its own loop if it is to."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.average = AveragedModel(self.strategy.unwrap(self.model))

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        result = super().train_step(batch, batch_idx)
        self.average.update_parameters(self.strategy.unwrap(self.model))
        return result

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self.average(batch[0]), batch[1]), {}


class OwnEpoch(Averaging):
    """Evaluates all samples on each rank."""

    def validation_epoch(self) -> Any:
        inputs, target = self.validation_dataloader.dataset.tensors
        self.average.eval()
        with torch.no_grad():
            return self.loss(self.average(inputs), target)


TRAINERS = {"model": TorchTrainer, "average": Averaging, "own epoch": OwnEpoch}


def statistics(folder: Path, choices: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 4, generator=generator)
    inputs[1::2] += 10  # what the other rank sees
    target = torch.randint(2, (32,), generator=generator)
    torch.manual_seed(1)
    trainer = TRAINERS[choices["of"]](
        {"batch_size": 4, "num_workers_dataloader": 0},
        epochs=1,
        model=nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)),
        random_seed=1,
        strategy=choices["strategy"],
        checkpoints_location=folder / "checkpoints",
    )
    data = TensorDataset(inputs, target)
    *_, model = trainer.execute(data, data)
    if choices["of"] != "model":
        model = trainer.average
        state = torch.load(folder / "checkpoints/best_model/state.pt", weights_only=True)
        model.load_state_dict(state["stateful"]["average"])
    model.eval()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(inputs), target).item()
    write(folder, {"reported": trainer.epoch_metrics["validation_loss"], "models": loss})


def metrics(folder: Path, choices: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 4, generator=generator)
    data = TensorDataset(inputs, torch.randint(3, (9,), generator=generator))
    accuracy = MulticlassAccuracy(3, average="macro")
    torch.manual_seed(1)
    trainer = TorchTrainer(
        {"batch_size": 2, "num_workers_dataloader": 0},
        epochs=1,
        model=nn.Linear(4, 3),
        metrics={"all": MetricCollection({"acc": accuracy}), "range": MinMaxMetric(accuracy)},
        random_seed=1,
        checkpoints_location=folder / "checkpoints",
    )
    *_, model = trainer.execute(data, data)
    with torch.no_grad():
        exact = float(accuracy(model(inputs), data.tensors[1]))
    names = ("validation_all_acc", "validation_range_raw")
    write(folder, {"reported": [trainer.epoch_metrics[n] for n in names], "exact": exact})


def write(folder: Path, outcome: dict[str, Any]) -> None:
    (folder / f"outcome-{os.environ['RANK']}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    cases = {"noise": noise, "statistics": statistics, "metrics": metrics}
    cases[sys.argv[1]](Path(sys.argv[2]), json.loads(sys.argv[3]))
