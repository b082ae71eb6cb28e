"""Forecasting a time series, with a training loop of one's own.

The series is generated: two tides and a drift, with noise. ``python timeseries.py`` trains once,
``python timeseries.py --study`` searches.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from itwinai.components import DataGetter, DataSplitter, Predictor
from itwinai.pipeline import Pipeline
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer


class TidesGetter(DataGetter):
    """Generates the series, and cuts it into windows and the value that follows each.

    Args:
        hours: Length of the series.
        window: Hours that a forecast sees.
    """

    def __init__(self, hours: int = 1200, window: int = 24) -> None:
        super().__init__()
        self.save_parameters(hours=hours, window=window)
        self.hours, self.window = hours, window

    def execute(self) -> Dataset[Any]:
        hour = torch.arange(self.hours, dtype=torch.float32)
        noise = torch.randn(self.hours, generator=torch.Generator().manual_seed(0))
        tides = torch.sin(hour * 0.506) + 0.4 * torch.sin(hour * 0.262 + 1) + hour / self.hours
        windows = (tides + 0.1 * noise).unfold(0, self.window + 1, 1)
        return TensorDataset(windows[:, :-1].unsqueeze(-1).clone(), windows[:, -1:].clone())


class InOrder(DataSplitter):
    """Trains on the past, validates and tests on what comes after it."""

    def execute(self, dataset: Any) -> tuple[Any, Any, Any]:
        first = int(len(dataset) * self.train_proportion)
        second = first + int(len(dataset) * self.validation_proportion)
        bounds = (0, first), (first, second), (second, len(dataset))
        train, validation, test = (Subset(dataset, range(*part)) for part in bounds)
        return train, validation, test


class Forecaster(nn.Module):
    """A recurrent network.

    Args:
        hidden: Size of its memory.
    """

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.memory = nn.GRU(1, hidden, batch_first=True)
        self.value = nn.Linear(hidden, 1)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.value(self.memory(windows)[0][:, -1])


class OwnLoop:
    """A training loop written by hand: only the last lines know of checkpoints and studies."""

    def train(self) -> None:
        for epoch in range(self.current_epoch, self.epochs):
            self.current_epoch = epoch
            self.set_epoch()
            self.model.train()
            for windows, value in self.train_dataloader:
                self.optimizer.zero_grad()
                loss = self.loss(self.model(windows.to(self.device)), value.to(self.device))
                loss.backward()
                self.optimizer.step()
            error = self.error()
            self.log(error, "validation_error", step=epoch)
            print(f"epoch {epoch + 1}: error {error:.4f}")
            self.save_checkpoint(f"epoch_{epoch}")
            self.ray_report({"validation_error": error})

    def error(self) -> float:
        """Mean squared error of all ranks' forecasts."""
        self.model.eval()
        sums = torch.zeros(2)
        with torch.no_grad():
            for windows, value in self.validation_dataloader:
                forecast = self.model(windows.to(self.device)).cpu()
                sums += torch.tensor([float((forecast - value).square().sum()), len(value)])
        total, count = self.strategy.sum_over_ranks(sums)
        return float(total / count)


class ForecastTrainer(OwnLoop, TorchTrainer):
    """Trains once."""


class ForecastStudy(OwnLoop, RayTorchTrainer):
    """Searches."""


class Forecast(Predictor):
    """Prints the error of the trained model's forecasts of the time after the validation."""

    def __init__(self) -> None:
        super().__init__(model=None)

    def execute(self, train: Any, validation: Any, test: Any, model: nn.Module) -> torch.Tensor:
        windows, values = (torch.stack(part) for part in zip(*test, strict=True))
        with torch.no_grad():
            forecast = model.eval()(windows)
        naive = (windows[:, -1] - values).square().mean()
        print(f"Test error: {(forecast - values).square().mean():.4f}")
        print(f"Of taking the last value for the next: {naive:.4f}")
        return forecast


SEARCH = {
    "search_space": {
        "optim_lr": {"type": "loguniform", "lower": 1e-3, "upper": 3e-2},
        "hidden": {"type": "choice", "categories": [4, 8, 16, 32]},
    },
    "study": {
        "name": "timeseries",
        "metric": "validation_error",
        "mode": "min",
        "num_samples": 8,
        "seed": 1,
    },
}


def pipeline(study: bool) -> Pipeline:
    """Build the pipeline of ``train.yaml``, or of ``study.yaml``."""
    trainer = ForecastStudy if study else ForecastTrainer
    config = {
        "batch_size": 32,
        "loss": "mse",
        "optim_lr": 0.01,
        "hidden": 16,
        "shuffle_train": True,
        "num_workers_dataloader": 0,
    }
    return Pipeline(
        [
            TidesGetter(),
            InOrder(0.6, 0.2, 0.2),
            trainer(config, epochs=6, model=Forecaster, random_seed=1, **(SEARCH if study else {})),
            Forecast(),
        ]
    )


if __name__ == "__main__":
    pipeline("--study" in sys.argv[1:]).execute()
