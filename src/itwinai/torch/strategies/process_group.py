"""What all strategies share whose processes meet in a group of ``torch.distributed``."""

from __future__ import annotations

import atexit
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist

# Imported while there is a group, as DDP would, its functions' defaults would keep it for ever.
import torch.distributed.nn
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

import itwinai.distributed as cluster
from itwinai.environ import environment
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.type import DistributedStrategyError

Backend = Literal["nccl", "gloo", "mpi"]

#: How many groups this process has made at each address.
_made: Counter[str] = Counter()

#: The group that ended last. A model's wrapper that outlives it must not be what ends its threads,
#: because they may wait for the interpreter, which waits for the wrapper; nor may they still be
#: there when the interpreter ends, which would abort the process.
_ended: list[dist.ProcessGroup | None] = []
atexit.register(_ended.clear)


class ProcessGroupStrategy(TorchDistributedStrategy):
    """Joins a process group, and talks over it.

    A group that is there already, such as one that Ray Train made, is used and left alone.

    Args:
        backend: ``nccl``, ``gloo`` or ``mpi``; without a GPU for each process, nccl becomes gloo.
    """

    _made_group = False

    def __init__(self, backend: Backend = "nccl") -> None:
        self.backend = backend

    def init(self) -> None:
        """Join the other processes, as torchrun, Open MPI or Slurm tell.

        Raises:
            DistributedStrategyError: If it was called before, or the processes cannot meet.
        """
        self.check_not_initialized()
        if self.backend == "nccl" and not _has_its_own_gpu():
            self.backend = "gloo"
        if not dist.is_initialized():
            self._make_group()
        self.is_initialized = True
        self.set_device()

    def clean_up(self) -> None:
        """Leave the other processes, unless the group was there before."""
        if self._made_group and dist.is_initialized():
            _ended[:] = [dist.group.WORLD]
            dist.destroy_process_group()
        self._made_group = self.is_initialized = False

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
        return self.begin_sum(tensor)()

    def begin_sum(self, tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Begin :meth:`sum_over_ranks`; return a function that waits for the sum."""
        self.check_initialized()
        total = tensor.to(self.device(), copy=True)
        work = dist.all_reduce(total, async_op=True)

        def finished() -> torch.Tensor:
            work.wait()
            return total.to(tensor.device)

        return finished

    def _take_weights_of_rank_0(self, model: nn.Module) -> None:
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), src=0)

    def _take_buffers_of_rank_0(self, model: nn.Module) -> None:
        for tensor in model.buffers():
            dist.broadcast(tensor.detach(), src=0)

    def _make_group(self) -> None:
        try:
            with environment(cluster.rendezvous()):
                dist.init_process_group(backend=self.backend, **_unused_store())
        except (RuntimeError, ValueError) as error:
            raise DistributedStrategyError(
                f"the processes of a {self.name} training could not meet over "
                f"{self.backend}: {error}. Start them with torchrun, mpirun or srun, or set "
                "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."
            ) from error
        self._made_group = True


def _has_its_own_gpu() -> bool:
    """Whether this process shares its GPU with no other, which NCCL demands.

    A launcher that deals GPUs out lets each process see no more than its own.
    """
    count = torch.cuda.device_count()
    dealt_out = "CUDA_VISIBLE_DEVICES" in os.environ
    here = cluster.detect_distributed_environment()
    return count > 0 and (dealt_out or here.local_world_size <= count)


def _unused_store() -> dict[str, Any]:
    """Where a further group of the same program is to meet.

    All groups of a program that torchrun started share a store. PyTorch would find the addresses of
    the first group there, whose connections are closed.
    """
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    earlier = _made[address]
    _made[address] += 1
    if not earlier:
        return {}
    store, rank, world_size = next(rendezvous("env://"))
    store = PrefixStore(f"itwinai-{earlier}", store)
    return {"store": store, "rank": rank, "world_size": world_size}
