"""Data, splitting and network of a user."""

import torch
from torch import nn
from torch.utils.data import TensorDataset, random_split

from itwinai.components import DataGetter, DataSplitter, monitor_exec


class PointsGetter(DataGetter):
    def __init__(self, samples: int = 61, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.samples = samples

    @monitor_exec
    def execute(self) -> TensorDataset:
        generator = torch.Generator().manual_seed(3)
        points = torch.randn(self.samples, 4, generator=generator)
        return TensorDataset(points, (points.sum(1) > 0).long())


class PointsSplitter(DataSplitter):
    def __init__(
        self,
        train_proportion: int | float,
        validation_proportion: int | float = 0.0,
        test_proportion: int | float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(train_proportion, validation_proportion, test_proportion, name)
        self.save_parameters(**self.locals2params(locals()))

    @monitor_exec
    def execute(self, dataset):
        train = int(len(dataset) * self.train_proportion)
        validation = int(len(dataset) * self.validation_proportion)
        parts = [train, validation, len(dataset) - train - validation]
        return tuple(random_split(dataset, parts, generator=torch.Generator().manual_seed(0)))


class Net(nn.Module):
    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
