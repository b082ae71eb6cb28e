"""What all ways share: the data, the model, and how good it is."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 3
BATCH = 64
SPLIT = 1400


def images() -> tuple[TensorDataset, TensorDataset]:
    """Handwritten digits, 8 x 8 pixels: 1,400 to train with, 397 to validate."""
    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    targets = torch.tensor(labels)
    return (
        TensorDataset(inputs[:SPLIT], targets[:SPLIT]),
        TensorDataset(inputs[SPLIT:], targets[SPLIT:]),
    )


def network(width: int = 8) -> nn.Module:
    """A small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


def train_one_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: TensorDataset
) -> None:
    """One pass over the training data."""
    model.train()
    for inputs, targets in DataLoader(data, BATCH, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def loss_of(model: nn.Module, data: TensorDataset) -> float:
    """Mean loss on the validation data."""
    model.eval()
    with torch.no_grad():
        inputs, targets = data.tensors
        return float(nn.functional.cross_entropy(model(inputs), targets))
