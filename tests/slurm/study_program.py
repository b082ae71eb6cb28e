"""A small study for a job: ``study_program.py WORKERS_PER_TRIAL TRIALS``.

Every process of a trial notes its host in the file ``hosts``.
"""

from __future__ import annotations

import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from itwinai.torch.trainer import RayTorchTrainer


class SlowData(TensorDataset):
    """One epoch of it takes a second or so."""

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.02)
        return super().__getitem__(index)


def network(hosts: Path, width: int) -> torch.nn.Module:
    with hosts.open("a") as file:
        file.write(f"{socket.gethostname()}\n")
    layers = torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
    return torch.nn.Sequential(*layers)


def main(workers: int, trials: int) -> None:
    data = torch.randn(48, 4)
    labels = (data.sum(dim=1) > 0).long()
    trainer = RayTorchTrainer(
        {"width": 4, "batch_size": 8, "num_workers_dataloader": 0},
        epochs=6,
        model=partial(network, Path("hosts").absolute()),
        search_space={"width": {"type": "choice", "categories": [2, 4, 8]}},
        study={
            "metric": "validation_loss",
            "mode": "min",
            "num_samples": trials,
            "scheduler": "none",
            "algorithm": "random",
            "workers_per_trial": workers,
            "resources_per_worker": {"CPU": 2},
        },
    )
    trainer.execute(SlowData(data, labels), TensorDataset(data, labels), None)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
