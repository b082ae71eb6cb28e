"""The strategy of a single process."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from itwinai.torch.strategies.base import TorchDistributedStrategy


class NonDistributedStrategy(TorchDistributedStrategy):
    """A single process."""

    name = "non-distributed"
    is_distributed = False

    def init(self) -> None:
        """Choose the device."""
        self.check_not_initialized()
        self.is_initialized = True
        self.set_device()

    def clean_up(self) -> None:
        """Forget :meth:`init`."""
        self.check_initialized()
        self.is_initialized = False

    def device(self) -> str:
        """``cuda:0``, or ``cpu`` without GPUs."""
        self.check_initialized()
        return "cuda:0" if torch.cuda.is_available() else "cpu"

    def distributed(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        **kwargs: Any,
    ) -> tuple[nn.Module, Optimizer, LRScheduler | None]:
        """Move the model to the device."""
        return model.to(self.device()), optimizer, lr_scheduler

    def global_world_size(self) -> int:
        """1."""
        return 1

    def local_world_size(self) -> int:
        """1."""
        return 1

    def global_rank(self) -> int:
        """0."""
        return 0

    def local_rank(self) -> int:
        """0."""
        return 0

    def barrier(self) -> None:
        """Go on at once."""

    def allgather_obj(self, obj: Any) -> list[Any]:
        """A list of this one object."""
        return [obj]

    def gather_obj(self, obj: Any, dst_rank: int = 0) -> list[Any]:
        """A list of this one object."""
        return [obj]

    def gather(self, tensor: torch.Tensor, dst_rank: int = 0) -> list[torch.Tensor]:
        """A list of this one tensor."""
        return [tensor.cpu()]

    def broadcast_obj(self, obj: Any, src_rank: int) -> Any:
        """The object itself."""
        return obj

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor itself."""
        return tensor
