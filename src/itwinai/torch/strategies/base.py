"""What every strategy can do.

It lets the processes talk (:class:`Communicator`), divides a training among them
(:class:`Parallelism`) and gives its state as if there were one of them (:class:`StateDicts`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from itwinai.torch.loading import make_dataloader
from itwinai.torch.strategies.watch import Whereabouts
from itwinai.torch.type import DistributedStrategyError, UninitializedStrategyError

if TYPE_CHECKING:
    from itwinai.torch.config import TrainingConfiguration


class Communicator(ABC):
    """Who is there, and how they talk."""

    #: Where this rank is in its training.
    whereabouts = Whereabouts()

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

    @property
    def is_main_worker(self) -> bool:
        """Whether this is rank 0."""
        return self.global_rank() == 0

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

    def watched(self, whereabouts: Whereabouts, silence: float) -> AbstractContextManager[Any]:
        """Context of a training whose ranks hear of each other's failures; nothing for one.

        Args:
            whereabouts: Where this rank is, kept up to date.
            silence: Seconds without a sign of life after which a rank counts as lost.
        """
        self.whereabouts = whereabouts
        return nullcontext()

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor up over all ranks, on every rank."""
        return cast("torch.Tensor", sum(self.allgather_obj(tensor.cpu()))).to(tensor.device)

    def begin_sum(self, tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Begin :meth:`sum_over_ranks`; return a function that waits for the sum."""
        total = self.sum_over_ranks(tensor)
        return lambda: total


class Parallelism(ABC):
    """How one model trains in several processes: what wraps it, and what makes a step.

    The defaults of a step are those of a model that PyTorch trains by itself.
    """

    #: Whether :meth:`backward` scales the loss of an fp16 training itself.
    scales_loss: bool = False

    def default_options(self, config: TrainingConfiguration) -> dict[str, Any]:
        """Options of :meth:`distributed` that follow from a training's configuration."""
        return {}

    @abstractmethod
    def distributed(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        **kwargs: Any,
    ) -> tuple[nn.Module, Optimizer, LRScheduler | None]:
        """Wrap what trains, so that all ranks hold the same weights after each step."""

    def backward(self, loss: torch.Tensor, model: nn.Module) -> None:
        """Add the gradients of a loss to those that are there."""
        loss.backward()  # type: ignore[no-untyped-call]

    def accumulating(self, model: nn.Module) -> AbstractContextManager[None]:
        """Keep the gradients of a block on this rank, because more follow before the step."""
        return nullcontext()

    def clip_gradients(self, model: nn.Module, max_norm: float) -> None:
        """Scale the gradients of the coming step down to a norm, over all parameters and ranks."""
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)


class StateDicts:
    """The model and all state as a single process would have them.

    The defaults are right where each process holds the whole of both.
    """

    #: Whether the state of model and optimizer is in parts, so that all ranks must ask for it.
    is_sharded: bool = False

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the user's model inside the wrapper."""
        return model

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

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the buffers that :meth:`model_state` returns, such as batch statistics.

        All ranks call it, before they evaluate the model.
        """

    def save_sharded(self, path: Path, model: nn.Module, optimizer: Optimizer | None) -> None:
        """Let every rank write its part of the state of model and optimizer into a folder.

        Without an optimizer, of the model alone.
        """
        from itwinai.torch.checkpoints import sharded

        state = sharded.NO_OPTIMIZER if optimizer is None else optimizer.state_dict()
        inner = self.unwrap(model)
        buffers = [name for name, _ in inner.named_buffers()]
        sharded.write_shards(path, inner.state_dict(), state, of_first=buffers)

    def load_sharded(self, path: Path, model: nn.Module, optimizer: Optimizer | None) -> None:
        """Put back what :meth:`save_sharded` wrote, with any strategy and number of processes."""
        from itwinai.torch.checkpoints import sharded

        inner = self.unwrap(model)
        state = inner.state_dict()
        sharded.read_model(path, state)
        inner.load_state_dict(state)
        if optimizer is None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict(sharded.read_optimizer(path, parameters))


class TorchDistributedStrategy(Communicator, Parallelism, StateDicts):
    """How the processes of one training work together, from :meth:`init` to :meth:`clean_up`.

    A new strategy implements the abstract methods, in a file of its own, and is added to
    :data:`itwinai.torch.strategies.table.STRATEGIES`.
    """

    #: Name for logs.
    name: str = "strategy"
    #: Whether several processes train together.
    is_distributed: bool = True
    #: Whether :meth:`init` was called.
    is_initialized: bool = False
    #: Seed of the order of loaders that are given no generator: that of the training, on all ranks.
    order_seed: int = 0

    @abstractmethod
    def init(self) -> None:
        """Join the other processes.

        Raises:
            DistributedStrategyError: If it was called before, or the processes cannot meet.
        """

    @abstractmethod
    def clean_up(self) -> None:
        """Leave the other processes."""

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
            shuffle: Whether each epoch has another order, which follows from the ``generator`` in
                ``options``, or else from the seed of the training.
            sampler: A sampler of the user's own; only its random or sequential order is kept where
                several processes share the data.
            batch_sampler: A batch sampler of the user's own, for a single process.
            num_workers: Processes that load; at most one for a data set that is read from front to
                back, unless it deals itself out to several (an attribute ``deals_to_workers``).
            options: As of ``torch.utils.data.DataLoader``.

        Raises:
            UninitializedStrategyError: Before :meth:`init`.
            RuntimeError: If a user's own sampler cannot be shared by several processes.
        """
        self.check_initialized()
        return make_dataloader(
            dataset,
            self.global_rank(),
            self.global_world_size(),
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            batch_sampler=batch_sampler,
            seed=self.order_seed,
            num_workers=num_workers,
            **options,
        )
