"""Notes which process of how many it is: ``rank_program.py WORD [train|study]``.

It adds a line to the file ``ranks``; with ``train`` it does so while it trains, with ``study`` the
process of a trial does.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from itwinai.distributed import detect_distributed_environment


def note(ranks: Path, word: str) -> None:
    here = detect_distributed_environment()
    with ranks.open("a") as file:
        file.write(f"{word}: {here.global_rank} of {here.global_world_size}\n")


def train(ranks: Path, word: str, **study: Any) -> None:
    import torch
    from torch.utils.data import TensorDataset

    from itwinai.torch.trainer import RayTorchTrainer

    class Noting(RayTorchTrainer):
        def train_epoch(self) -> Any:
            note(ranks, word)
            return super().train_epoch()

    trainer = Noting(
        {"batch_size": 8, "num_workers_dataloader": 0},
        epochs=1,
        model=torch.nn.Linear(4, 2),
        checkpoints_location=tempfile.mkdtemp(),
        **study,
    )
    torch.manual_seed(0)  # all ranks make the same data
    data = TensorDataset(torch.randn(16, 4), torch.randint(2, (16,)))
    trainer.execute(data, data)


def main(word: str, what: str = "") -> None:
    ranks = Path("ranks").absolute()
    if what == "train":
        train(ranks, word)
    elif what == "study":
        space = {"optim_lr": {"type": "choice", "categories": [0.1]}}
        study = {"metric": "validation_loss", "mode": "min", "num_samples": 1}
        train(ranks, word, search_space=space, study=study)
    else:
        note(ranks, word)


if __name__ == "__main__":
    main(*sys.argv[1:])
