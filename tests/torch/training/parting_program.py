"""A rank of a training of two that fails, is gone, or does otherwise than the other."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itwinai.torch.trainer import TorchTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import make_data, options

RANK = int(os.environ["RANK"])


class Own(TorchTrainer):
    """Validates by itself: each rank finds another value, and only rank 0 any of accuracy."""

    def validation_epoch(self) -> Any:
        super().validation_epoch()
        rank = self.strategy.global_rank()
        self.epoch_metrics["validation_loss"] = [0.5, 0.6, 0.7, 0.8][self.current_epoch] + rank
        del self.epoch_metrics["validation_error"], self.epoch_metrics["validation_accuracy"]
        if rank == 0:
            self.epoch_metrics["validation_accuracy"] = 0.25
        return None


class Slow(TorchTrainer):
    """Rank 0 takes longer over something than a silent rank may be silent."""

    def validation_epoch(self) -> Any:
        if RANK == 0 and self.current_epoch == 0:
            time.sleep(8)
        return super().validation_epoch()


class Failing(TorchTrainer):
    """One of its ranks, or both, raise in one of its hooks."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 1:
            self.fail("train_step")
        return super().train_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.fail("validation_step")
        return super().validation_step(batch, batch_idx)

    def fail(self, hook: str) -> None:
        if self.config.fails_in == hook and self.config.fails_on in (RANK, "both"):
            raise LookupError("as told")


class Killed(TorchTrainer):
    """Rank 1 gets a signal in its second batch."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        if RANK == 1 and batch_idx == 1:
            os.kill(os.getpid(), self.config.signal)
        return super().train_step(batch, batch_idx)


class Uneven(TorchTrainer):
    """Its own loop makes more steps on rank 0."""

    def train(self) -> None:
        inputs = torch.ones(2, 4)
        for _ in range(5 if RANK == 0 else 3):
            self.optimize(self.model(inputs).square().mean())


class Alone(TorchTrainer):
    """Rank 0 alone saves what all ranks must save together."""

    def train_epoch(self) -> Any:
        if RANK == 0:
            self.save_checkpoint("mine")
        return super().train_epoch()


class KilledWhileSaving(TorchTrainer):
    """Rank 1 is killed once it has written its part of the second epoch's checkpoint."""

    def train_epoch(self) -> Any:
        if RANK == 1 and self.current_epoch == 1:
            write = self.strategy.save_sharded

            def write_and_die(*arguments: Any) -> None:
                write(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)

            self.strategy.save_sharded = write_and_die
        return super().train_epoch()


KINDS = {k.__name__: k for k in (Own, Slow, Failing, Killed, Uneven, Alone, KilledWhileSaving)}


def main(folder: Path, cases: list[dict[str, Any]]) -> None:
    outcomes = []
    for number, case in enumerate(cases):
        trainer = KINDS[case.pop("kind")](
            **options(
                folder / str(number),
                model=nn.Linear(4, 2),
                epochs=case.pop("epochs", 1),
                checkpoint_sharded=case.pop("sharded", False),
                checkpoint_every=case.pop("checkpoint_every", None),
                config={"silence_timeout": 60, **case},
            )
        )
        trainer.execute(make_data(60), make_data(35))
        outcomes.append({"epochs": trainer.current_epoch + 1, **trainer.epoch_metrics})
        (folder / f"outcomes-{RANK}.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    signal.alarm(170)  # a program that hangs is a failure, too
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
