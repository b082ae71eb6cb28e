"""Trains, or runs a study, in a batch job that ends in the middle."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from itwinai import job
from itwinai.torch.trainer import RayTorchTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import MLP, make_data

EPOCHS = 5


class InAJob(RayTorchTrainer):
    """Its job asks it to stop in the middle of an epoch, in one way or the other."""

    def train_epoch(self) -> Any:
        if self.current_epoch == 1 and self.strategy.is_main_worker:
            self.ask(os.environ.get("WAY"))
        return super().train_epoch()

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1 and os.environ.get("WAY") in ("file", "signal"):
            time.sleep(float(os.environ.get("PAUSE", 0)))
        if self.current_epoch == 1 and self.strategy.is_main_worker:
            with (self.run_directory / "steps.txt").open("a") as file:
                file.write(f"{os.getpid()} {batch_idx}\n")
        return super().train_step(batch, batch_idx)

    def ask(self, way: str | None) -> None:
        if way == "file":
            Path(os.environ[job.STOP_FILE]).touch()
            time.sleep(1.5)  # an epoch that lasts longer than a study's driver looks away
        elif way == "signal":
            os.kill(os.getpid(), signal.SIGTERM)


def main(kind: str) -> None:
    space = {"optim_lr": {"type": "choice", "categories": [0.1, 0.01]}}
    study = {"mode": "min", "algorithm": "grid", "scheduler": "none", "max_concurrent_trials": 1}
    trainer = InAJob(
        config={"batch_size": 8, "num_workers_dataloader": 0, "shuffle_train": True},
        epochs=EPOCHS,
        checkpoint_every=int(os.environ.get("EVERY", EPOCHS)) if kind == "study" else None,
        model=MLP,
        random_seed=3,
        study=study if kind == "study" else None,
        search_space=space if kind == "study" else None,
    )
    samples = int(os.environ.get("SAMPLES", 40))
    *_, model = trainer.execute(make_data(samples), make_data(20))
    if model is not None:
        torch.save(model.state_dict(), "model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
