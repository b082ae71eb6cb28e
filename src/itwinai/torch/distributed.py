"""Strategies by name, and the public import path of their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from itwinai.distributed import initialize_ray
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.strategies.base import (
    NonDistributedStrategy,
    TorchDistributedStrategy,
    distributed_resources_available,
)
from itwinai.torch.strategies.compatible import (
    NO_HOROVOD,
    HorovodStrategy,
    RayDDPStrategy,
    RayDeepSpeedStrategy,
    RayTorchDistributedStrategy,
    check_initialized,
)
from itwinai.torch.strategies.ddp import TorchDDPStrategy
from itwinai.torch.strategies.deepspeed import DeepSpeedStrategy
from itwinai.torch.strategies.process_group import ProcessGroupStrategy
from itwinai.torch.type import DistributedStrategyError, UninitializedStrategyError

if TYPE_CHECKING:
    from itwinai.torch.strategies.fsdp import FSDPStrategy

__all__ = [
    "DeepSpeedStrategy",
    "DistributedStrategyError",
    "FSDPStrategy",
    "HorovodStrategy",
    "NonDistributedStrategy",
    "ProcessGroupStrategy",
    "RayDDPStrategy",
    "RayDeepSpeedStrategy",
    "RayTorchDistributedStrategy",
    "TorchDDPStrategy",
    "TorchDistributedStrategy",
    "UninitializedStrategyError",
    "check_initialized",
    "distributed_resources_available",
    "initialize_ray",
    "resolve_strategy",
]


def __getattr__(name: str) -> Any:
    """Load FSDP when it is asked for: that takes half a second, and few processes need it."""
    if name == "FSDPStrategy":
        from itwinai.torch.strategies.fsdp import FSDPStrategy

        return FSDPStrategy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _fsdp(config: TrainingConfiguration) -> TorchDistributedStrategy:
    from itwinai.torch.strategies.fsdp import FSDPStrategy

    return FSDPStrategy(backend=config.dist_backend)


#: Strategies by name, for trainings of several processes.
STRATEGIES: dict[str, Callable[[TrainingConfiguration], TorchDistributedStrategy]] = {
    "ddp": lambda config: TorchDDPStrategy(backend=config.dist_backend),
    "fsdp": _fsdp,
    "deepspeed": lambda config: DeepSpeedStrategy(backend=config.dist_backend),
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
