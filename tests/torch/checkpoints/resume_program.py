"""Trains with everything that has a state; run alone or by torchrun, whole or in two parts."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from itwinai.torch.trainer import TorchTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import MLP, make_data


class Noisy(Dataset[Any]):
    """Samples with noise from the random numbers of Python, NumPy and torch."""

    def __init__(self, samples: int) -> None:
        self.data = make_data(samples)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.data[index]
        noise = random.random() + np.random.rand() + torch.rand(4)
        return inputs + 0.1 * noise, target


class Interrupted(TorchTrainer):
    """Keeps each epoch's metrics; breaks off before an epoch."""

    def train_epoch(self) -> Any:
        if self.current_epoch == self.stop_at:
            raise KeyboardInterrupt
        return super().train_epoch()

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.history.append({k: float(v).hex() for k, v in self.epoch_metrics.items()})
        return loss


def main(folder: str, options: dict[str, Any]) -> None:
    trainer = Interrupted(
        config={
            "batch_size": 8,
            "optim_lr": 0.02,
            "shuffle_train": True,
            "num_workers_dataloader": options.get("workers", 0),
            "dropout": 0.3,
            "lr_scheduler": options["schedule"],
            "lr_warmup_epochs": 1.5,
            "lr_scheduler_step_size": 2,
            "lr_scheduler_gamma": 0.5,
            "gradient_accumulation_steps": 2,
            "gradient_clipping": 0.5,
            "precision": options.get("precision", "fp32"),
            "ema_decay": options.get("ema"),
            "early_stopping_patience": 3,
        },
        epochs=6,
        model=MLP,
        strategy=options.get("strategy", "ddp"),
        random_seed=5,
        checkpoints_location=Path(folder) / "checkpoints",
        checkpoint_every=1,
        checkpoint_sharded=options.get("sharded", False),
        from_checkpoint=options.get("from"),
    )
    trainer.history = []
    trainer.stop_at = options.get("stop_at")
    try:
        trainer.execute(Noisy(75), Noisy(30))
    except KeyboardInterrupt:
        return
    finally:
        name = f"epochs-{os.environ.get('RANK', '0')}.json"
        Path(folder, name).write_text(json.dumps(trainer.history))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
