"""The digits as Lightning has them."""

from __future__ import annotations

from typing import Any

import torch
from digits import BATCH, images, network
from lightning import LightningDataModule, LightningModule
from torch.nn import functional
from torch.utils.data import DataLoader


class Digits(LightningModule):
    """The network, its loss and its optimizer."""

    def __init__(self, lr: float, width: int) -> None:
        super().__init__()
        self.lr = lr
        self.network = network(width)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        """The loss of a batch."""
        inputs, targets = batch
        return functional.cross_entropy(self.network(inputs), targets)

    def validation_step(self, batch: Any, index: int) -> None:
        """Log the loss of a batch."""
        self.log("validation_loss", self.training_step(batch, index))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), self.lr)


class Images(LightningDataModule):
    """Both data sets."""

    def setup(self, stage: str) -> None:
        """Read them."""
        self.training, self.validation = images()

    def train_dataloader(self) -> Any:
        """Batches in random order."""
        return DataLoader(self.training, BATCH, shuffle=True)

    def val_dataloader(self) -> Any:
        """All at once."""
        return DataLoader(self.validation, len(self.validation))
