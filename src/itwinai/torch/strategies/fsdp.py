"""Fully sharded data parallel: every process holds a part of each parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from itwinai.torch.strategies.process_group import ProcessGroupStrategy
from itwinai.torch.type import DistributedStrategyError


class FSDPStrategy(ProcessGroupStrategy):
    """PyTorch's FSDP2: weights, gradients and optimizer states in parts, one per process.

    A layer's weights are brought together for its forward and backward pass, and let go after it.

    Args:
        backend: ``nccl`` or ``gloo``; without a GPU, nccl becomes gloo.
    """

    name = "fsdp"
    is_sharded = True

    def init(self) -> None:
        """Join the other processes, as torchrun, Open MPI or Slurm tell.

        Raises:
            DistributedStrategyError: If it was called before, the processes cannot meet, or they
                share a GPU.
        """
        super().init()
        if dist.get_backend() == "gloo" and self.device() != "cpu":
            self.clean_up()
            raise DistributedStrategyError(
                "strategy='fsdp' needs NCCL and a GPU for each process: start as many processes as "
                "there are GPUs, or use 'ddp', which can share one over gloo."
            )

    def distributed(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        shard: Sequence[type[nn.Module]] | None = None,
        **kwargs: Any,
    ) -> tuple[nn.Module, Optimizer, LRScheduler | None]:
        """Take rank 0's weights and leave each process its part of them.

        Args:
            model: The model; it is changed in place.
            optimizer: Made of its parameters; it goes on with their parts.
            lr_scheduler: The optimizer's.
            shard: Classes of the modules whose weights come and go together; None: each of the
                model's direct children.
            kwargs: Of other strategies.
        """
        self.check_initialized()
        model = model.to(self.device())
        if not any(True for _ in model.parameters()):
            return model, optimizer, lr_scheduler
        self._take_weights_of_rank_0(model)
        names = {parameter: name for name, parameter in model.named_parameters()}
        before = optimizer.state_dict()
        device = self.device().split(":")[0]
        mesh = init_device_mesh(device, (self.global_world_size(),))
        for module in (*_blocks(model, shard), model):
            fully_shard(module, mesh=mesh)
        _replace_parameters(optimizer, names, dict(model.named_parameters()))
        if before["state"]:  # Adagrad has one from the start
            self.load_optimizer_state(model, optimizer, before)
        return model, optimizer, lr_scheduler

    def accumulating(self, model: nn.Module) -> AbstractContextManager[None]:
        """Keep the gradients of a block on this rank, because more follow before the step."""
        return _unsynchronised(model) if isinstance(model, FSDPModule) else nullcontext()

    def model_state(self, model: nn.Module) -> dict[str, Any]:
        """Whole state dictionary in main memory, on rank 0; all ranks must ask for it."""
        return self._whole(model.state_dict())

    def load_model_state(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Take this rank's part of a whole state dictionary."""
        here = model.state_dict()
        model.load_state_dict({k: _part(value, here.get(k)) for k, value in state.items()})

    def optimizer_state(self, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """Whole state dictionary in main memory, on rank 0; all ranks must ask for it."""
        state = optimizer.state_dict()
        whole = {number: self._whole(values) for number, values in state["state"].items()}
        return {**state, "state": whole} if self.is_main_worker else {}

    def load_optimizer_state(
        self, model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]
    ) -> None:
        """Take this rank's part of a whole state dictionary."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parts = {
            number: {key: _part(value, parameters[number]) for key, value in values.items()}
            for number, values in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": parts})

    def _whole(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Bring all tensors together, one after the other; keep them on rank 0."""
        whole = {}
        for name, value in state.items():
            full = value.full_tensor() if isinstance(value, DTensor) else value
            if self.is_main_worker:
                whole[name] = full.cpu() if isinstance(full, torch.Tensor) else full
        return whole


def _blocks(model: nn.Module, shard: Sequence[type[nn.Module]] | None) -> list[nn.Module]:
    """Modules whose weights come and go together, besides the model itself."""
    if shard is not None:
        return [m for m in model.modules() if isinstance(m, tuple(shard)) and m is not model]
    blocks = [child for child in _callable_children(model) if any(True for _ in child.parameters())]
    uses = Counter(parameter for block in blocks for parameter in set(block.parameters()))
    shared = {parameter for parameter, count in uses.items() if count > 1}
    return [block for block in blocks if shared.isdisjoint(block.parameters())]


def _callable_children(model: nn.Module) -> Iterator[nn.Module]:
    for child in dict.fromkeys(model.children()):
        if isinstance(child, nn.ModuleList | nn.ModuleDict):  # these have no forward pass
            yield from _callable_children(child)
        else:
            yield child


def _replace_parameters(
    optimizer: Optimizer, names: Mapping[Any, str], after: Mapping[str, Any]
) -> None:
    """Let an optimizer go on with the parameters' successors of the same names."""
    for group in optimizer.param_groups:
        group["params"] = [after[names[p]] if p in names else p for p in group["params"]]
    optimizer.state.clear()


def _part(value: Any, like: Any) -> Any:
    """This rank's part of a whole tensor, if its counterpart is in parts."""
    in_parts = isinstance(like, DTensor) and isinstance(value, torch.Tensor)
    if not in_parts or value.shape != like.shape:
        return value
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


@contextmanager
def _unsynchronised(model: FSDPModule) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
