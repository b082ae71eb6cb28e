"""Distributed data parallel: every process holds the model and averages gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from itwinai.torch.strategies.process_group import ProcessGroupStrategy


class TorchDDPStrategy(ProcessGroupStrategy):
    """PyTorch's DistributedDataParallel.

    Args:
        backend: ``nccl``, ``gloo`` or ``mpi``; without a GPU for each process, nccl becomes gloo.
    """

    name = "torch-ddp"

    def distributed(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        find_unused_parameters: bool = False,
        **kwargs: Any,
    ) -> tuple[nn.Module, Optimizer, LRScheduler | None]:
        """Move the model to the device and wrap it; a model without parameters stays as it is."""
        self.check_initialized()
        model = model.to(self.device())
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model, optimizer, lr_scheduler
        devices = None if self.device() == "cpu" else [self.device()]
        wrapped = DistributedDataParallel(
            model, device_ids=devices, find_unused_parameters=find_unused_parameters
        )
        return wrapped, optimizer, lr_scheduler

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the user's model inside the wrapper."""
        return model.module if isinstance(model, DistributedDataParallel) else model

    def accumulating(self, model: nn.Module) -> AbstractContextManager[None]:
        """Keep the gradients of a block on this rank, because more follow before the step."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
