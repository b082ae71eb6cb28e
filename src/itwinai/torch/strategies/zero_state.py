"""The state of a training under DeepSpeed's ZeRO, as a single process would have it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from itwinai.torch.type import DistributedStrategyError

#: Tells by its number whether a tensor is kept on this rank.
Keep = Callable[[int], bool]


class ZeroState:
    """Brings the parts of an engine's state together, and deals them out again.

    All ranks must ask, in the same order. No more than one tensor is whole at a time, besides those
    that are kept, in main memory.

    Args:
        deepspeed: The package.
        optimizer: The user's. ZeRO lets it work on vectors: this rank's parts of all parameters of
            a group, one after the other.
        groups: Parameters of each of the optimizer's groups, before ZeRO put vectors there.
    """

    def __init__(
        self, deepspeed: Any, optimizer: Optimizer, groups: list[list[nn.Parameter]]
    ) -> None:
        self._utils, self._gathered = deepspeed.utils, deepspeed.zero.GatheredParameters
        self._optimizer = optimizer
        self._sizes = [len(group) for group in groups]
        self._parameters = [parameter for group in groups for parameter in group]

    def model(self, inner: nn.Module, keep: Keep) -> dict[str, Any]:
        """State dictionary of the user's model."""
        state = {}
        for number, (name, value) in enumerate(inner.state_dict(keep_vars=True).items()):
            is_weight = isinstance(value, nn.Parameter)
            whole = self._whole(value) if is_weight else value
            if keep(number if is_weight else 0):  # each rank has buffers of its own
                state[name] = whole.detach().cpu() if isinstance(whole, torch.Tensor) else whole
        return state

    def load_model(self, inner: nn.Module, state: Mapping[str, Any]) -> None:
        """Load a state dictionary, the same on all ranks, strictly.

        Raises:
            RuntimeError: If it is that of another model.
        """
        if any(is_part(parameter) for parameter in inner.parameters()):
            self._load_parts(inner, state)
        else:
            inner.load_state_dict(state)
        for name, parameter in inner.named_parameters():
            if parameter.requires_grad:
                self._set(parameter, state[name])

    def optimizer(self, engine: Any, keep: Keep) -> dict[str, Any]:
        """State dictionary of the optimizer, by number of the parameter, as PyTorch has it."""
        vectors = [v for v in _vectors(engine) if self._optimizer.state.get(v)]
        of_vector = self._optimizer.state[vectors[0]] if vectors else {}
        if of_vector:
            _link(engine)
        state: dict[int, dict[str, Any]] = {}
        whole = self._utils.safe_get_full_optimizer_state
        for number, parameter in enumerate(self._parameters):
            if not (parameter.requires_grad and of_vector):
                continue
            values = {
                key: whole(parameter, key).cpu() if _per_weight(value) else copy.deepcopy(value)
                for key, value in of_vector.items()
            }
            if keep(number):
                state[number] = values
        return {"state": state, "param_groups": self._groups()}

    def load_optimizer(self, engine: Any, state: Mapping[str, Any]) -> None:
        """Load a state dictionary, the same on all ranks."""
        groups = self._optimizer.param_groups
        for group, saved in zip(groups, state["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
        self._make_states(engine, next(iter(state["state"].values()), {}))
        for number, values in state["state"].items():
            for key, value in values.items():
                if _per_weight(value):
                    self._set(self._parameters[number], value, key)

    def _whole(self, parameter: nn.Parameter) -> torch.Tensor:
        """A parameter in one piece, and as exactly as the optimizer has it."""
        with self._gathered([parameter], enabled=is_part(parameter)):
            weights = parameter.detach().clone()
        if weights.dtype == torch.float32:
            return weights
        exact: torch.Tensor | None = self._utils.safe_get_full_fp32_param(parameter)
        # They differ while someone has put other weights in their place, such as averages.
        is_same = exact is not None and torch.equal(exact.to(weights.dtype), weights)
        return exact if exact is not None and is_same else weights

    def _set(self, parameter: nn.Parameter, value: torch.Tensor, *key: str) -> None:
        """Give ZeRO its part of a weight, or of what the optimizer has for the weight."""
        utils = self._utils
        value = value.to(parameter.device, torch.float32)
        if not is_part(parameter):
            full = utils.safe_set_full_optimizer_state if key else utils.safe_set_full_fp32_param
            full(parameter, value, *key)
            return
        # DeepSpeed divides whole tensors only if all parts have the same size.
        part: Any = parameter
        size, rank = part.ds_tensor.numel(), dist.get_rank(part.ds_process_group)
        padded = value.new_zeros(size * dist.get_world_size(part.ds_process_group))
        padded[: value.numel()] = value.flatten()
        local = utils.safe_set_local_optimizer_state if key else utils.safe_set_local_fp32_param
        local(parameter, padded[size * rank : size * (rank + 1)], *key)

    def _load_parts(self, inner: nn.Module, state: Mapping[str, Any]) -> None:
        here = inner.state_dict(keep_vars=True)
        if here.keys() != state.keys():
            raise RuntimeError(
                f"missing in the state: {sorted(here.keys() - state.keys())}; "
                f"not in the model: {sorted(state.keys() - here.keys())}"
            )
        for name, value in here.items():
            if isinstance(value, torch.Tensor):
                parts = [value] if is_part(value) else []
                with torch.no_grad(), self._gathered(parts, modifier_rank=0):
                    value.copy_(state[name])

    def _make_states(self, engine: Any, values: Mapping[str, Any]) -> None:
        """Give the vectors a state to be filled; what is not per weight gets its value."""
        for vector in _vectors(engine):
            self._optimizer.state.pop(vector, None)
            if values:
                self._optimizer.state[vector] = {
                    key: torch.zeros_like(vector) if _per_weight(value) else copy.deepcopy(value)
                    for key, value in values.items()
                }
        if values:
            _link(engine)

    def _groups(self) -> list[dict[str, Any]]:
        """The groups, with the numbers of their parameters."""
        plain, first = [], 0
        for group, size in zip(self._optimizer.param_groups, self._sizes, strict=True):
            options = {name: value for name, value in group.items() if name != "params"}
            plain.append({**options, "params": list(range(first, first + size))})
            first += size
        return plain


def is_part(value: Any) -> bool:
    """Whether a parameter is divided among the ranks, as at stage 3."""
    return hasattr(value, "ds_id")


def drop_gradients(zero: Any) -> None:
    """Drop a ZeRO optimizer's gradients, those that are in parts or in main memory included."""
    zero.zero_grad()
    for name in ("averaged_gradients", "all_grad_tensors"):  # of stages 1 and 2
        gradients = getattr(zero, name, None)
        if isinstance(gradients, dict):
            gradients.update(dict.fromkeys(gradients))
    if getattr(zero, "cpu_offload", False):  # of stage 2, as its step() does
        zero.micro_step_id = -1
        zero._offload_accumulated_param_ids = set()
        zero.reset_cpu_buffers()


def _per_weight(value: Any) -> bool:
    """Whether an entry of an optimizer's state has a number for each weight."""
    return isinstance(value, torch.Tensor) and value.dim() > 0


def _vectors(engine: Any) -> list[torch.Tensor]:
    zero = engine.optimizer
    for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
        if hasattr(zero, name):
            return list(getattr(zero, name))
    raise DistributedStrategyError(
        f"the state of {type(zero).__name__} cannot be saved by itwinai. Leave "
        "data_types.grad_accum_dtype out of DeepSpeed's configuration, or save with "
        "model.save_checkpoint()."
    )


def _link(engine: Any) -> None:
    """Let each parameter know its part of the vectors.

    Stages 1 and 2 do it once, after the first step of the first group, so the other groups and any
    state that was loaded are left out.
    """
    zero = engine.optimizer
    if hasattr(zero, "_lazy_init_hp_params_optimizer_state"):
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()
