"""What all strategies share whose processes meet in a group of ``torch.distributed``."""

from __future__ import annotations

import atexit
import functools
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist

# Imported while there is a group, as DDP would, its functions' defaults would keep it for ever.
import torch.distributed.nn
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

import itwinai.distributed as cluster
from itwinai.environ import environment
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.strategies.ending import await_rest
from itwinai.torch.strategies.watch import Watch, Whereabouts
from itwinai.torch.type import DistributedStrategyError

Backend = Literal["nccl", "gloo", "mpi"]

#: How many groups this process has made at each address.
_made: Counter[str] = Counter()

#: The group that ended last. A model's wrapper that outlives it must not be what ends its threads,
#: because they may wait for the interpreter, which waits for the wrapper.
_ended: list[dist.ProcessGroup | None] = []
atexit.register(_ended.clear)
atexit.register(await_rest)


Method = TypeVar("Method", bound=Callable[..., Any])


def _met(method: Method) -> Method:
    """Let a rank say that it waits for all others in a method."""

    @functools.wraps(method)
    def waiting(self: TorchDistributedStrategy, *args: Any, **kwargs: Any) -> Any:
        with self.whereabouts.waiting(f"{method.__name__}()"):
            return method(self, *args, **kwargs)

    return cast("Method", waiting)


class ProcessGroupStrategy(TorchDistributedStrategy):
    """Joins a process group, and talks over it.

    A group that is there already, such as one that Ray Train made, is used and left alone.

    Args:
        backend: ``nccl``, ``gloo`` or ``mpi``; without a GPU for each process, nccl becomes gloo.
    """

    _made_group = False
    #: In which the ranks of a group that was made here have met.
    _store: Store | None = None

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
        self.check_initialized()
        if self._made_group and dist.is_initialized():
            _ended[:] = [dist.group.WORLD]
            dist.destroy_process_group()
        self._made_group = self.is_initialized = False
        self._store = None

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

    @_met
    def barrier(self) -> None:
        """Wait for all processes."""
        self.check_initialized()
        dist.barrier()

    @_met
    def allgather_obj(self, obj: Any) -> list[Any]:
        """Collect an object from each rank, on every rank."""
        gathered: list[Any] = [None] * self.global_world_size()
        dist.all_gather_object(gathered, obj)
        return gathered

    @_met
    def gather_obj(self, obj: Any, dst_rank: int = 0) -> list[Any] | None:
        """Collect an object from each rank, on one; None on the others."""
        here = self.global_rank() == dst_rank
        gathered: list[Any] | None = [None] * self.global_world_size() if here else None
        dist.gather_object(obj, gathered, dst=dst_rank)
        return gathered

    def gather(self, tensor: torch.Tensor, dst_rank: int = 0) -> list[torch.Tensor] | None:
        """Collect a tensor from each rank, on one (in main memory); None on the others."""
        return self.gather_obj(tensor.cpu(), dst_rank)

    @_met
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
            with self.whereabouts.waiting("sum_over_ranks()"):
                work.wait()
                return total.to(tensor.device)

        return finished

    def _take_weights_of_rank_0(self, model: nn.Module) -> None:
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), src=0)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank rank 0's buffers, which are the ones that are saved."""
        for tensor in self.unwrap(model).buffers():
            own = tensor.detach()
            shared = own.to(self.device())  # a second network may be elsewhere
            dist.broadcast(shared, src=0)
            if shared is not own:
                own.copy_(shared)

    def watched(self, whereabouts: Whereabouts, silence: float) -> AbstractContextManager[Any]:
        """Context of a training whose ranks hear of each other's failures; nothing for one.

        A group that was there already has a store that only PyTorch knows: there, it does nothing.

        Args:
            whereabouts: Where this rank is, kept up to date.
            silence: Seconds without a sign of life after which a rank counts as lost.

        Raises:
            RankError: Leaving the context, if another rank is why a message never came.
        """
        self.whereabouts = whereabouts
        if self._store is None or self.global_world_size() == 1:
            return nullcontext()
        ranks = self.global_rank(), self.global_world_size()
        return Watch(self._store, *ranks, whereabouts, silence)

    def _make_group(self) -> None:
        try:
            with environment(cluster.rendezvous()):
                self._store, rank, world_size = _unused_store()
                dist.init_process_group(
                    backend=self.backend, store=self._store, rank=rank, world_size=world_size
                )
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


def _unused_store() -> tuple[Store, int, int]:
    """Where a group is to meet, and this process's rank and their number.

    All groups of a program that torchrun started share a store. PyTorch would find the addresses of
    an earlier group there, whose connections are closed.
    """
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    number = _made[address]
    _made[address] += 1
    store, rank, world_size = next(rendezvous("env://"))
    return PrefixStore(f"itwinai-{number}", store), rank, world_size
