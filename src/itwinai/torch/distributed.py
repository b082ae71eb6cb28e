"""The public address of the strategies, and of what programs for itwinai 0.4 use of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.strategies.ddp import TorchDDPStrategy
from itwinai.torch.strategies.process_group import ProcessGroupStrategy
from itwinai.torch.strategies.single import NonDistributedStrategy
from itwinai.torch.strategies.table import (
    STRATEGIES,
    check_strategy,
    distributed_resources_available,
    resolve_strategy,
)
from itwinai.torch.type import DistributedStrategyError, UninitializedStrategyError

if TYPE_CHECKING:
    from itwinai.compatibility.processes import initialize_ray
    from itwinai.compatibility.strategies import (
        HorovodStrategy,
        RayDDPStrategy,
        RayDeepSpeedStrategy,
        RayTorchDistributedStrategy,
        check_initialized,
    )
    from itwinai.torch.strategies.deepspeed import DeepSpeedStrategy
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
    "STRATEGIES",
    "TorchDDPStrategy",
    "TorchDistributedStrategy",
    "UninitializedStrategyError",
    "check_initialized",
    "check_strategy",
    "distributed_resources_available",
    "initialize_ray",
    "resolve_strategy",
]

__getattr__ = lazily(
    __name__,
    {
        "torch.strategies.deepspeed": "DeepSpeedStrategy",
        "torch.strategies.fsdp": "FSDPStrategy",
        "compatibility.processes": "initialize_ray",
        "compatibility.strategies": "HorovodStrategy RayDDPStrategy RayDeepSpeedStrategy "
        "RayTorchDistributedStrategy check_initialized",
    },
    package="itwinai",
)
