"""How the processes of one training work together: one file per strategy.

``base`` says what a strategy is, ``table`` has their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.torch.strategies.base import (
        Communicator,
        Parallelism,
        StateDicts,
        TorchDistributedStrategy,
    )
    from itwinai.torch.strategies.single import NonDistributedStrategy
    from itwinai.torch.strategies.table import STRATEGIES, check_strategy, resolve_strategy

__all__ = [
    "Communicator",
    "NonDistributedStrategy",
    "Parallelism",
    "STRATEGIES",
    "StateDicts",
    "TorchDistributedStrategy",
    "check_strategy",
    "resolve_strategy",
]

__getattr__ = lazily(
    __name__,
    {
        "base": "Communicator Parallelism StateDicts TorchDistributedStrategy",
        "single": "NonDistributedStrategy",
        "table": "STRATEGIES check_strategy resolve_strategy",
    },
)
