"""Trains on batches whose samples do not count alike; writes weights and losses of rank 0."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset, default_collate

from itwinai.errors import ConfigurationError
from itwinai.torch.trainer import TorchTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import options

RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def classified(ignored: bool) -> TensorDataset:
    """44 samples of three classes; of the first 8 only one counts, and none of the next."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(3, (44,), generator=generator)
    if ignored:
        targets[torch.rand(44, generator=generator) < 0.4] = -100
        targets[:16] = -100
        targets[5] = 1
    return TensorDataset(torch.randn(44, 4, generator=generator), targets)


class Sequences(Dataset[Any]):
    """Sequences of various lengths, filled up with zeros to eight."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(4)
        self.inputs = torch.randn(44, 8, 4, generator=generator)
        self.lengths = torch.randint(1, 9, (44,), generator=generator)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        length = self.lengths[index]
        return {"inputs": self.inputs[index], "counts": torch.arange(8) < length}


class Uneven(IterableDataset[Any]):
    """Gives each rank its half of each batch of 8, and all that is left to rank 0."""

    deals_itself_out = True

    def __init__(self, samples: int) -> None:
        self.samples = classified(ignored=False)[:samples]

    def __iter__(self) -> Any:
        for index, sample in enumerate(zip(*self.samples, strict=True)):
            whole = index < len(self.samples[0]) // 8 * 8
            rank = index % 8 // (8 // WORLD_SIZE) if whole else 0
            if rank == RANK:
                yield sample


class Dealt(IterableDataset[Any]):
    """Is dealt out to the ranks, among which its samples do not go round."""

    def __init__(self, samples: int) -> None:
        self.samples = classified(ignored=False)[:samples]

    def __iter__(self) -> Any:
        return zip(*self.samples, strict=True)


class Weighted(TorchTrainer):
    """Its classes have weights."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.loss = nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0]))


class Masked(TorchTrainer):
    """Its loss averages over the elements that count, which no one else can know."""

    def terms_in_loss(self, batch: Any) -> float:
        return float(batch["counts"].sum())

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.validation_step(batch, batch_idx)[0]
        self.optimize(loss)
        return loss, {}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        errors = self.model(batch["inputs"]).square().sum(-1)
        return errors[batch["counts"]].mean(), {}


class Lacking(Dataset[Any]):
    """Some of its samples cannot be read, most of them in the first half."""

    def __init__(self) -> None:
        self.inputs = torch.randn(44, 4, generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        inputs = self.inputs[index]
        return None if index % 8 in ((0, 1, 5) if index < 20 else (1,)) else (inputs, inputs[:3])


def readable(samples: list[Any]) -> Any:
    return default_collate([sample for sample in samples if sample is not None])


class LeavingOut(TorchTrainer):
    """Its batches are made of the samples that can be read."""

    def create_dataloaders(self, *datasets: Any) -> None:
        made = {"batch_size": self.config.batch_size, "collate_fn": readable}
        loaders = [self.strategy.create_dataloader(one, **made) for one in datasets[:2]]
        self.train_dataloader, self.validation_dataloader = loaders

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.loss = nn.MSELoss()


CASES: dict[str, tuple[type[TorchTrainer], Any, Any]] = {
    "ignored": (TorchTrainer, classified(ignored=True), classified(ignored=True)),
    "weighted": (Weighted, classified(ignored=True), classified(ignored=True)),
    "masked": (Masked, Sequences(), Sequences()),
    "left out": (LeavingOut, Lacking(), Lacking()),
    "uneven": (TorchTrainer, Uneven(36), Uneven(20)),
    "dealt": (TorchTrainer, Dealt(33), Dealt(5)),
}


def outcome(case: str, folder: Path, batch_size: int, window: int, strategy: str) -> dict[str, Any]:
    """What a case ends with."""
    kind, *datasets = CASES[case]
    torch.manual_seed(1)
    trainer = kind(
        **options(
            folder / case,
            epochs=2,
            model=nn.Linear(4, 3),
            metrics={},
            strategy=strategy,
            config={
                "batch_size": batch_size,
                "gradient_accumulation_steps": window,
                "shuffle_train": case not in ("uneven", "dealt"),
                "optimizer": "sgd",
                "optim_lr": 0.5,
            },
        )
    )
    *_, model = trainer.execute(*datasets)
    weights = [number for weight in model.parameters() for number in weight.flatten().tolist()]
    return {"weights": weights, "metrics": dict(trainer.epoch_metrics)}


def refusal(folder: Path, strategy: str) -> str:
    """What a rank hears of whose data another one has all."""
    trainer = TorchTrainer(**options(folder, model=nn.Linear(4, 3), metrics={}, strategy=strategy))
    try:
        trainer.execute(Uneven(4))
    except ConfigurationError as error:
        return str(error)
    return ""


def main(folder: Path, choices: dict[str, Any]) -> None:
    outcomes: dict[str, Any] = {case: outcome(case, folder, **choices) for case in CASES}
    outcomes["refusal"] = refusal(folder, choices["strategy"])
    if RANK == 0:
        (folder / "outcomes.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
