"""Trainings by a user's own code on two ranks; each rank writes what it saw, or its error."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from itwinai.errors import ConfigurationError
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.type import DistributedStrategyError

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import make_data, options


class OwnTrain(TorchTrainer):
    """Optimises in a loop of its own, and validates by the trainer's."""

    def train(self) -> None:
        self.shares = []
        for _ in range(2):
            for inputs, targets in self.train_dataloader:
                self.shares.append(self.turn.share)
                self.optimize(self.loss(self.model(inputs), targets))
            self.validation_epoch()


class Uneven(TorchTrainer):
    """Has more batches on rank 1."""

    def create_dataloaders(self, *datasets: Any) -> None:
        data = make_data(16 + 8 * self.strategy.global_rank())
        self.train_dataloader = DataLoader(data, batch_size=8)
        self.rates = []

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        found = super().train_step(batch, batch_idx)
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return found


class OwnStep(TorchTrainer):
    """Makes the step of the optimizer itself, after each batch."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(self.model(batch[0]), batch[1])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, {}


class Unfreezing(TorchTrainer):
    """Its first layer is frozen in the first epoch."""

    def create_model_loss_optimizer(self) -> None:
        self._freeze(self.create_model() if self.model is None else self.model, True)
        super().create_model_loss_optimizer()

    def train_epoch(self) -> Any:
        self._freeze(self.strategy.unwrap(self.model), self.current_epoch == 0)
        return super().train_epoch()

    @staticmethod
    def _freeze(model: Any, frozen: bool) -> None:
        if isinstance(model, nn.Module):
            model.layers[0].requires_grad_(not frozen)


class Normed(nn.Module):
    """Its batch normalisation sees other samples on each rank."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


def main(folder: Path, case: str) -> None:
    rank = os.environ["RANK"]
    outcome: dict[str, Any] = {}
    common = {"strategy": "ddp", "epochs": 2, "metrics": {}, "checkpoint_every": None}
    try:
        if case == "agreed":
            own = OwnTrain(**options(folder / "own", **common))
            own.execute(make_data(32), make_data(5))
            outcome["shares"] = own.shares
            schedule = {"config": {"lr_scheduler": "cosine"}}
            uneven = Uneven(**options(folder / "uneven", **common, **schedule))
            uneven.execute(make_data())
            outcome["rates"] = uneven.rates
            *_, model = TorchTrainer(**options(folder / "normed", **common, model=Normed)).execute(
                make_data()
            )
            outcome["mean"] = model.layers[0].running_mean.tolist()
        elif case == "step":
            accumulating = {"config": {"gradient_accumulation_steps": 2}}
            OwnStep(**options(folder, **common, **accumulating)).execute(make_data())
        else:
            torch.manual_seed(1)
            model = options(folder)["model"]()
            Unfreezing._freeze(model, True)
            Unfreezing(**options(folder, **common, model=model)).execute(make_data())
    except (ConfigurationError, DistributedStrategyError) as error:
        outcome["refused"] = str(error)
    (folder / f"outcome-{rank}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
