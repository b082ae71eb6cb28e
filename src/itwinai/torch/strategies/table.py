"""Strategies by name, and when a name takes effect.

A new strategy is a file beside this one and an entry of :data:`STRATEGIES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import itwinai.distributed as cluster
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.strategies.ddp import TorchDDPStrategy
from itwinai.torch.strategies.single import NonDistributedStrategy

#: Why there is no Horovod, and what to do.
NO_HOROVOD = (
    "Horovod is left out: it is no longer maintained and does not build with current PyTorch. "
    "Use 'ddp', which averages gradients in the same way, or 'fsdp' or 'deepspeed'."
)


def _ddp(config: TrainingConfiguration) -> TorchDistributedStrategy:
    return TorchDDPStrategy(backend=config.dist_backend)


def _fsdp(config: TrainingConfiguration) -> TorchDistributedStrategy:
    # Loading it takes a second or more, and few processes need it.
    from itwinai.torch.strategies.fsdp import FSDPStrategy

    return FSDPStrategy(backend=config.dist_backend)


def _deepspeed(config: TrainingConfiguration) -> TorchDistributedStrategy:
    from itwinai.torch.strategies.deepspeed import DeepSpeedStrategy

    return DeepSpeedStrategy(backend=config.dist_backend)


#: Strategies by name, for trainings of several processes.
STRATEGIES: dict[str, Callable[[TrainingConfiguration], TorchDistributedStrategy]] = {
    "ddp": _ddp,
    "fsdp": _fsdp,
    "deepspeed": _deepspeed,
}


def check_strategy(strategy: str | TorchDistributedStrategy | None) -> None:
    """Refuse a name that is in no table.

    Raises:
        ConfigurationError: If the strategy's name is unknown.
    """
    if strategy == "horovod":
        raise ConfigurationError(f"strategy='horovod': {NO_HOROVOD}")
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        hint = did_you_mean(strategy, STRATEGIES) or f"; known names: {', '.join(STRATEGIES)}"
        raise ConfigurationError(f"strategy={strategy!r}: unknown{hint}")


def resolve_strategy(
    strategy: str | TorchDistributedStrategy | None, config: TrainingConfiguration
) -> TorchDistributedStrategy:
    """Return a strategy: an object as it is, a name only where several processes train.

    Raises:
        ConfigurationError: If the strategy's name is unknown.
    """
    check_strategy(strategy)
    if isinstance(strategy, TorchDistributedStrategy):
        return strategy
    if strategy is None or not distributed_resources_available():
        return NonDistributedStrategy()
    return STRATEGIES[strategy](config)


def distributed_resources_available() -> bool:
    """Whether this process is one of several (``ITWINAI_FORCE_DIST=1`` says so of a single one)."""
    if os.environ.get("ITWINAI_FORCE_DIST") == "1":
        return True
    return cluster.detect_distributed_environment().global_world_size > 1
