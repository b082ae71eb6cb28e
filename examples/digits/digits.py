"""Handwritten digits: the components of a pipeline from the data to a test report.

The data are the 1,797 images of 8 x 8 pixels of the UCI "Optical Recognition of Handwritten Digits"
set that come with scikit-learn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from itwinai.components import DataGetter, DataSplitter, Predictor


class DigitsGetter(DataGetter):
    """Loads all images, scaled to [0, 1], and their labels."""

    def execute(self) -> Dataset[Any]:
        from sklearn.datasets import load_digits  # here, so that no trial's process loads it

        images, labels = load_digits(return_X_y=True)
        pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        return TensorDataset(pixels, torch.tensor(labels))


class DigitsSplitter(DataSplitter):
    """Splits at random, but always in the same way."""

    def execute(self, dataset: Any) -> tuple[Subset[Any], Subset[Any], Subset[Any]]:
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
        first = int(len(order) * self.train_proportion)
        second = first + int(len(order) * self.validation_proportion)
        parts = order[:first], order[first:second], order[second:]
        train, validation, test = (Subset(dataset, part) for part in parts)
        return train, validation, test


class DigitsCNN(nn.Module):
    """Two convolutions and a linear layer.

    Args:
        width: Channels of the first convolution; the second has twice as many.
        dropout: Share of features left out while training.
    """

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * 2 * 2, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


class DigitsReport(Predictor):
    """Prints the trained model's accuracy on the test set, and what it takes for what."""

    def __init__(self) -> None:
        super().__init__(model=None)

    def execute(self, train: Any, validation: Any, test: Any, model: nn.Module) -> torch.Tensor:
        images, labels = (torch.stack(part) for part in zip(*test, strict=True))
        with torch.no_grad():
            predicted = model.eval()(images).argmax(dim=1)
        confusion = torch.zeros(10, 10, dtype=torch.int64)
        confusion.index_put_((labels, predicted), torch.tensor(1), accumulate=True)
        accuracy = (predicted == labels).float().mean().item()
        print(f"\nTest accuracy: {accuracy:.4f} on {len(labels)} images")
        print("Confusion matrix (rows: true digit, columns: predicted digit)")
        print("      " + " ".join(f"{digit:3d}" for digit in range(10)))
        for digit, row in enumerate(confusion.tolist()):
            print(f"  {digit}   " + " ".join(f"{count or '.':>3}" for count in row))
        return predicted
