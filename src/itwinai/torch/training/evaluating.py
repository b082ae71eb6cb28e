"""What surrounds an evaluation, also one by a user's own code: a training does not notice it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from itwinai.torch.training.protocol import Stage, Training
from itwinai.torch.training.stateful import stateful


def networks(training: Training) -> list[nn.Module]:
    """The model, and every other network that is an attribute of the trainer."""
    others = stateful(training).values()
    return [training.model, *(value for value in others if isinstance(value, nn.Module))]


@contextmanager
def evaluating(training: Training) -> Iterator[None]:
    """Give the model the weights that are kept, and let modes be, for the length of a block.

    All ranks come here together: what is evaluated has the buffers that are saved, rank 0's.
    """
    there = networks(training)
    for network in there:
        training.strategy.share_buffers(network)
    with modes_kept(there), training.optimization.evaluated():
        yield


@contextmanager
def running(training: Training, stage: Stage) -> Iterator[None]:
    """Let a stage be the one that runs, for the length of a block."""
    outer, training.running_stage = training.running_stage, stage
    try:
        yield
    finally:
        training.running_stage = outer


@contextmanager
def modes_kept(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put each layer back after a block into the mode, training or evaluation, in which it was."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
