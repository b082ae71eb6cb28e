"""What every strategy can do, and the strategy of a single process."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

import itwinai
import itwinai.distributed as cluster
from itwinai.torch.data import ExactSampler, RankShare, is_iterable
from itwinai.torch.reproducibility import seed_worker
from itwinai.torch.type import DistributedStrategyError, UninitializedStrategyError

if TYPE_CHECKING:
    from itwinai.torch.config import TrainingConfiguration


class TorchDistributedStrategy(ABC):
    """Brings processes together, wraps the model and reduces values over ranks.

    A new strategy implements the abstract methods, in a file of its own, and is added to
    :data:`itwinai.torch.distributed.STRATEGIES`.
    """

    #: Name for logs.
    name: str = "strategy"
    #: Whether several processes train together.
    is_distributed: bool = True
    #: Whether :meth:`init` was called.
    is_initialized: bool = False
    #: Whether the state of model and optimizer is in parts, so that all ranks must ask for it.
    is_sharded: bool = False
    #: Whether :meth:`backward` scales the loss of an fp16 training itself.
    scales_loss: bool = False

    @abstractmethod
    def init(self) -> None:
        """Join the other processes.

        Raises:
            DistributedStrategyError: If it was called before, or the processes cannot meet.
        """

    @abstractmethod
    def clean_up(self) -> None:
        """Leave the other processes."""

    @abstractmethod
    def distributed(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        **kwargs: Any,
    ) -> tuple[nn.Module, Optimizer, LRScheduler | None]:
        """Wrap what trains, so that all ranks hold the same weights after each step."""

    @abstractmethod
    def global_world_size(self) -> int:
        """Number of processes."""

    @abstractmethod
    def local_world_size(self) -> int:
        """Number of processes on this node."""

    @abstractmethod
    def global_rank(self) -> int:
        """Number of this process, from 0."""

    @abstractmethod
    def local_rank(self) -> int:
        """Number of this process on its node, from 0."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all processes."""

    @abstractmethod
    def allgather_obj(self, obj: Any) -> list[Any]:
        """Collect an object from each rank, on every rank."""

    @abstractmethod
    def gather_obj(self, obj: Any, dst_rank: int = 0) -> list[Any] | None:
        """Collect an object from each rank, on one; None on the others."""

    @abstractmethod
    def gather(self, tensor: torch.Tensor, dst_rank: int = 0) -> list[torch.Tensor] | None:
        """Collect a tensor from each rank, on one (in main memory); None on the others."""

    @abstractmethod
    def broadcast_obj(self, obj: Any, src_rank: int) -> Any:
        """Give every rank the object of one."""

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor up over all ranks, on every rank."""
        return cast("torch.Tensor", sum(self.allgather_obj(tensor.cpu()))).to(tensor.device)

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the user's model inside the wrapper."""
        return model

    # -- one optimizer step --------------------------------------------------------------------

    def default_options(self, config: TrainingConfiguration) -> dict[str, Any]:
        """Options of :meth:`distributed` that follow from a training's configuration."""
        return {}

    def backward(self, loss: torch.Tensor, model: nn.Module) -> None:
        """Add the gradients of a loss to those that are there."""
        loss.backward()  # type: ignore[no-untyped-call]

    def accumulating(self, model: nn.Module) -> AbstractContextManager[None]:
        """Keep the gradients of a block on this rank, because more follow before the step."""
        return nullcontext()

    def clip_gradients(self, model: nn.Module, max_norm: float) -> None:
        """Scale the gradients of the coming step down to a norm, over all parameters and ranks."""
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)

    # -- state, as a single process would have it ----------------------------------------------

    def model_state(self, model: nn.Module) -> dict[str, Any]:
        """Whole state dictionary of the user's model; on rank 0, where it is sharded."""
        return self.unwrap(model).state_dict()

    def load_model_state(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`model_state` returned, on every rank."""
        self.unwrap(model).load_state_dict(state)

    def optimizer_state(self, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """Whole state dictionary of the optimizer; on rank 0, where it is sharded."""
        return optimizer.state_dict()

    def load_optimizer_state(
        self, model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]
    ) -> None:
        """Put back what :meth:`optimizer_state` returned, on every rank."""
        optimizer.load_state_dict(dict(state))

    def save_sharded(self, path: Path, model: nn.Module, optimizer: Optimizer) -> None:
        """Let every rank write its part of the state of model and optimizer into a folder."""
        from itwinai.torch.checkpoints import sharded

        sharded.write_shards(path, self.unwrap(model).state_dict(), optimizer.state_dict())

    def load_sharded(self, path: Path, model: nn.Module, optimizer: Optimizer) -> None:
        """Put back what :meth:`save_sharded` wrote, with any strategy and number of processes."""
        from itwinai.torch.checkpoints import sharded

        inner = self.unwrap(model)
        state = inner.state_dict()
        sharded.read_model(path, state)
        inner.load_state_dict(state)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict(sharded.read_optimizer(path, parameters))

    # -- this process --------------------------------------------------------------------------

    @property
    def is_main_worker(self) -> bool:
        """Whether this is rank 0."""
        return self.global_rank() == 0

    def device(self) -> str:
        """Device of this process: ``cuda:<n>``, or ``cpu`` without GPUs."""
        self.check_initialized()
        if not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{self.local_rank() % torch.cuda.device_count()}"

    def set_device(self) -> None:
        """Make :meth:`device` the default GPU of this thread, if it is one."""
        if torch.device(self.device()).type == "cuda":
            torch.cuda.set_device(self.device())

    def check_initialized(self) -> None:
        """Raise UninitializedStrategyError before :meth:`init`."""
        if not self.is_initialized:
            raise UninitializedStrategyError(
                f"{type(self).__name__} is used before its init(). Call strategy.init() first, "
                "in the process that trains."
            )

    def check_not_initialized(self) -> None:
        """Raise DistributedStrategyError after :meth:`init`."""
        if self.is_initialized:
            raise DistributedStrategyError(f"{type(self).__name__}.init() was called twice")

    def create_dataloader(
        self,
        dataset: Dataset[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        **options: Any,
    ) -> DataLoader[Any]:
        """Make a loader that deals the data set out to the ranks, counting no sample twice.

        Args:
            dataset: The data.
            batch_size: Samples per batch and rank.
            shuffle: Whether each epoch has another order.
            sampler: A sampler of the user's own; only its random or sequential order is kept where
                several processes share the data.
            batch_sampler: A batch sampler of the user's own, for a single process.
            num_workers: Processes that load.
            options: As of ``torch.utils.data.DataLoader``.

        Raises:
            RuntimeError: If a user's own sampler cannot be shared by several processes.
        """
        options = {"worker_init_fn": seed_worker, **options, "num_workers": num_workers}
        if batch_sampler is not None and self.global_world_size() == 1:
            return DataLoader(dataset, batch_sampler=batch_sampler, **options)
        if is_iterable(dataset):
            dataset = self._share_of(cast("IterableDataset[Any]", dataset))
            return DataLoader(dataset, batch_size=batch_size, **options)
        if self._keeps_own_sampler(sampler, batch_sampler):
            return DataLoader(dataset, batch_size=batch_size, sampler=sampler, **options)
        generator = options.get("generator")
        exact = ExactSampler(
            cast("Sized", dataset),
            batch_size=batch_size or 1,
            rank=self.global_rank(),
            world_size=self.global_world_size(),
            shuffle=isinstance(sampler, RandomSampler) or bool(shuffle),
            seed=0 if generator is None else generator.initial_seed(),
            drop_last=bool(options.get("drop_last", False)),
        )
        return DataLoader(dataset, batch_size=batch_size, sampler=exact, **options)

    def _share_of(self, dataset: IterableDataset[Any]) -> IterableDataset[Any]:
        size = self.global_world_size()
        if size == 1 or getattr(dataset, "deals_itself_out", False):
            return dataset
        if self.is_main_worker:
            itwinai.logger.info(
                "each rank takes every %d-th sample of %s; if it deals itself out to the ranks, "
                "give it an attribute deals_itself_out = True",
                size,
                type(dataset).__name__,
            )
        return RankShare(dataset, self.global_rank(), size)

    def _keeps_own_sampler(self, sampler: Any, batch_sampler: Any) -> bool:
        if sampler is None and batch_sampler is None:
            return False
        if self.global_world_size() == 1 or isinstance(sampler, ExactSampler):
            return True
        if batch_sampler is None and isinstance(sampler, RandomSampler | SequentialSampler):
            return False
        raise RuntimeError(
            f"{type(batch_sampler or sampler).__name__}: with several processes each must get its "
            "own part of the data, which this sampler does not say. Leave it out (use shuffle), or "
            "pass an itwinai.torch.data.ExactSampler."
        )


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
        self.is_initialized = False

    def device(self) -> str:
        """``cuda:0``, or ``cpu`` without GPUs."""
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


def distributed_resources_available() -> bool:
    """Whether this process is one of several (``ITWINAI_FORCE_DIST=1`` says so of a single one)."""
    if os.environ.get("ITWINAI_FORCE_DIST") == "1":
        return True
    return cluster.detect_distributed_environment().global_world_size > 1
