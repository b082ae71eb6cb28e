"""Saves a model in shards whose buffers each rank has otherwise, by each strategy."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.strategies.ddp import TorchDDPStrategy
from itwinai.torch.strategies.deepspeed import DeepSpeedStrategy
from itwinai.torch.strategies.fsdp import FSDPStrategy


def main(folder: Path) -> None:
    for kind in (TorchDDPStrategy, FSDPStrategy, DeepSpeedStrategy):
        strategy = kind(backend="gloo")
        strategy.init()
        model = nn.Sequential(*(nn.BatchNorm1d(3) for _ in range(4)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        given = strategy.default_options(TrainingConfiguration())
        model, optimizer, _ = strategy.distributed(model, optimizer, **given)
        for buffer in strategy.unwrap(model).buffers():
            buffer.fill_(strategy.global_rank() + 1)
        strategy.save_sharded(folder / kind.__name__, model, optimizer)
        strategy.barrier()
        strategy.clean_up()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
