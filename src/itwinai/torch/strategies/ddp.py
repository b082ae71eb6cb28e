"""Distributed data parallel: every process holds the model and averages gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import itwinai.distributed as cluster
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.type import DistributedStrategyError


class TorchDDPStrategy(TorchDistributedStrategy):
    """PyTorch's DistributedDataParallel.

    Args:
        backend: ``nccl``, ``gloo`` or ``mpi``; without a GPU, nccl becomes gloo.
    """

    name = "torch-ddp"

    def __init__(self, backend: Literal["nccl", "gloo", "mpi"] = "nccl") -> None:
        self.backend = backend

    def init(self) -> None:
        """Join the other processes, as the variables of torchrun say."""
        self.check_not_initialized()
        if self.backend == "nccl" and not torch.cuda.is_available():
            self.backend = "gloo"
        try:
            dist.init_process_group(backend=self.backend)
        except (RuntimeError, ValueError) as error:
            raise DistributedStrategyError(
                f"the processes of a {self.name} training could not meet over "
                f"{self.backend}: {error}"
            ) from error
        self.is_initialized = True
        self.set_device()

    def clean_up(self) -> None:
        """Leave the other processes."""
        if self.is_initialized:
            dist.destroy_process_group()
        self.is_initialized = False

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
        devices = [self.device()] if torch.cuda.is_available() else None
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

    def global_world_size(self) -> int:
        """Number of processes."""
        self.check_initialized()
        return dist.get_world_size()

    def local_world_size(self) -> int:
        """Number of processes on this node."""
        self.check_initialized()
        return cluster.detect_distributed_environment().local_world_size

    def global_rank(self) -> int:
        """Number of this process, from 0."""
        self.check_initialized()
        return dist.get_rank()

    def local_rank(self) -> int:
        """Number of this process on its node, from 0."""
        self.check_initialized()
        return cluster.detect_distributed_environment().local_rank

    def barrier(self) -> None:
        """Wait for all processes."""
        self.check_initialized()
        dist.barrier()

    def allgather_obj(self, obj: Any) -> list[Any]:
        """Collect an object from each rank, on every rank."""
        gathered: list[Any] = [None] * self.global_world_size()
        dist.all_gather_object(gathered, obj)
        return gathered

    def gather_obj(self, obj: Any, dst_rank: int = 0) -> list[Any] | None:
        """Collect an object from each rank, on one; None on the others."""
        here = self.global_rank() == dst_rank
        gathered: list[Any] | None = [None] * self.global_world_size() if here else None
        dist.gather_object(obj, gathered, dst=dst_rank)
        return gathered

    def gather(self, tensor: torch.Tensor, dst_rank: int = 0) -> list[torch.Tensor] | None:
        """Collect a tensor from each rank, on one (in main memory); None on the others."""
        return self.gather_obj(tensor.cpu(), dst_rank)

    def broadcast_obj(self, obj: Any, src_rank: int) -> Any:
        """Give every rank the object of one."""
        self.check_initialized()
        box = [obj]
        dist.broadcast_object_list(box, src=src_rank)
        return box[0]

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor up over all ranks, on every rank."""
        self.check_initialized()
        total = tensor.clone()
        dist.all_reduce(total)
        return total
