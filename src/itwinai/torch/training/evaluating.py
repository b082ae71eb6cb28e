"""What surrounds an evaluation, also one by a user's own code: a training does not notice it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from itwinai.torch.training.protocol import Training
from itwinai.torch.training.stateful import stateful


def networks(training: Training) -> list[nn.Module]:
    """The model, and every other network that is an attribute of the trainer."""
    others = stateful(training).values()
    return [training.model, *(value for value in others if isinstance(value, nn.Module))]


@contextmanager
def evaluating(training: Training) -> Iterator[None]:
    """Give the model the weights that are kept, for the length of a block.

    Then all networks are in the mode, training or evaluation, in which they were.
    """
    modes = [
        (module, module.training) for network in networks(training) for module in network.modules()
    ]
    try:
        with training.optimization.evaluated():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
