"""Kills a process that saves checkpoints, again and again; prints what each had begun.

It never computes with torch itself: a process that has may not be forked.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from itwinai.torch.checkpoints import files as checkpoint


def save_for_ever(folder: Path, begun: Connection) -> None:
    for epoch in itertools.count():
        weights = {"weight": torch.full((200, 1000), float(epoch))}
        state = {"epoch": epoch, "best_validation_metric": 0.0, "optimizer_state_dict": {}}
        begun.send(epoch)
        # Each of the three names is written again and again.
        checkpoint.save(folder / f"epoch_{epoch % 3}", weights, state, {})


def main(folder: Path, kills: int) -> None:
    chance = random.Random(20)
    fork = multiprocessing.get_context("fork")
    for number in range(kills):
        (folder / str(number)).mkdir()
        here, there = fork.Pipe(duplex=False)
        program = fork.Process(target=save_for_ever, args=(folder / str(number), there))
        program.start()
        there.close()
        begun = [here.recv() for _ in range(chance.randint(2, 8))][-1]
        # Somewhere in the middle of that save, or of one of the next.
        for _ in range(chance.randint(0, 200_000)):
            pass
        program.kill()
        program.join()
        print(begun, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
