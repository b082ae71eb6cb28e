"""Everything of a training that has a state, beside the one model and what trains it.

A second network, its optimizer and schedule, an average of weights kept by hand: whatever
attribute of the trainer has ``state_dict()`` and ``load_state_dict()``, or is a parameter of no
network, alone or in a list, a tuple or a dictionary, is in the checkpoint and comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

import itwinai
from itwinai.errors import CheckpointError
from itwinai.torch.checkpoints.plain import has_state, odd_part
from itwinai.torch.training.protocol import Built
from itwinai.torch.type import DistributedStrategyError

#: Attributes that a checkpoint holds under names of their own, or that hold nothing to go on from.
_KEPT_OTHERWISE = {
    *("model", "optimizer", "lr_scheduler", "optimization", "early_stopping", "torch_rng"),
    *("known_strategy", "chosen_strategy"),
    *("logger", "open_logger", "metrics", "reporter", "checkpoints", "profiler"),
    *("train_dataloader", "validation_dataloader", "test_dataloader", "config", "parameters"),
    *("restored", "built", "unclaimed", "schedule_stood"),
}

#: Relative difference of weights up to which ranks have the same.
_ALIKE = 1e-4


def stateful(training: Built) -> dict[str, Any]:
    """The objects with a state, by attribute; ``networks.0`` is the first in a list."""
    model = training.strategy.unwrap(training.model)
    found: dict[str, Any] = {}
    for name, value in vars(training).items():
        if name not in _KEPT_OTHERWISE:
            found.update(_within(name, value))
    networks = [one for one in (model, *found.values()) if isinstance(one, nn.Module)]
    weights = [weight for network in networks for weight in network.parameters()]
    known = [training.model, model, training.optimizer, *weights]
    return {
        name: value
        for name, value in found.items()
        if not any(value is one for one in known) and not _learns_nothing(name, value)
    }


def states(training: Built) -> dict[str, Any]:
    """Their state dictionaries, as a single process would have them; whole on rank 0."""
    return {name: _state(training, value) for name, value in stateful(training).items()}


def load_states(training: Built, saved: Mapping[str, Any]) -> None:
    """Put back what :func:`states` returned; what nothing is there for yet waits for it.

    Raises:
        CheckpointError: If one of the objects is another one than it was.
    """
    there = stateful(training)
    for name, value in there.items():
        if name in saved:
            _load_of(training, name, value, saved[name])
        else:
            itwinai.logger.warning(
                "warning: the checkpoint holds no state of the trainer's %s, which begins anew",
                name,
            )
    training.unclaimed = {name: state for name, state in saved.items() if name not in there}


def load_unclaimed(training: Built) -> None:
    """Put back the states of objects that an own ``train()`` has made before its first epoch.

    Raises:
        CheckpointError: If one of the objects is another one than it was.
    """
    there = stateful(training) if training.unclaimed else {}
    for name in [name for name in training.unclaimed if name in there]:
        _load_of(training, name, there[name], training.unclaimed.pop(name))
    tell_unclaimed(training)


def tell_unclaimed(training: Built) -> None:
    """Say once what a checkpoint held the state of and this training had no use for."""
    if training.unclaimed:
        itwinai.logger.warning(
            "warning: the checkpoint holds the state of %s, which this trainer has not",
            ", ".join(training.unclaimed),
        )
    training.unclaimed = {}


def check_states(training: Built) -> None:
    """Refuse what a checkpoint could not give back, before anything is trained.

    Raises:
        CheckpointError: Naming the attribute, and what in its state is no plain value.
    """
    main = {
        "model": training.strategy.unwrap(training.model),
        "optimizer": training.optimizer,
        "lr_scheduler": training.lr_scheduler,
    }
    for name, value in {**main, **stateful(training)}.items():
        if value is None or isinstance(value, nn.Parameter):
            continue
        odd = odd_part(value.state_dict())
        if odd is not None:
            raise CheckpointError(
                f"the trainer's {name}: its state_dict() holds {odd}, which a checkpoint could "
                "give back only by running code. Let it return tensors, numbers, strings, and "
                "lists and dictionaries of them."
            )


def buffers_unsaved(training: Built) -> dict[str, torch.Tensor]:
    """The model's buffers that are in no state dictionary, by name; as they are now."""
    model = training.strategy.unwrap(training.model)
    saved = model.state_dict()
    return {name: b.detach().clone() for name, b in model.named_buffers() if name not in saved}


def buffers_lost(training: Built, first: Mapping[str, torch.Tensor]) -> list[str]:
    """Those that the training has changed, from what they were first; no caches that grew."""
    return [
        name
        for name, buffer in buffers_unsaved(training).items()
        if name in first and buffer.shape == first[name].shape
        if not torch.equal(buffer, first[name].to(buffer.device))
    ]


def check_ranks_agree(training: Built) -> None:
    """Refuse networks and parameters that no strategy keeps alike; all ranks ask together.

    Raises:
        DistributedStrategyError: Naming that whose weights differ from rank to rank.
    """
    if training.strategy.global_world_size() == 1 or training.strategy.is_sharded:
        return
    there = {**stateful(training), "model": training.strategy.unwrap(training.model)}
    sizes = {
        name: [_size_of(weight) for weight in _weights_of(value)]
        for name, value in there.items()
        if isinstance(value, nn.Module | nn.Parameter)
    }
    ranks = training.strategy.allgather_obj(sizes)
    for name, own in sizes.items():
        if not all(_alike(rank.get(name, []), own) for rank in ranks):
            hint = (
                "Let it be a parameter of the model."
                if isinstance(there[name], nn.Parameter)
                else f"Hand it over in create_model_loss_optimizer(): self.{name}, "
                f"self.its_optimizer, _ = self.strategy.distributed(self.{name}, its_optimizer). "
                "What is frozen then must stay frozen."
            )
            raise DistributedStrategyError(
                f"the trainer's {name} has other weights on each rank, as no strategy brings all "
                f"its gradients together. {hint}"
            )


def _within(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if _is_kept(value):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if _is_kept(part):
                yield f"{name}.{key}", part
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            if _is_kept(part):
                yield f"{name}.{index}", part


def _is_kept(value: Any) -> bool:
    return has_state(value) or isinstance(value, nn.Parameter)


def _learns_nothing(name: str, value: Any) -> bool:
    """A loss without weights is what the configuration makes it."""
    is_loss = name == "loss" or type(value).__module__ == nn.CrossEntropyLoss.__module__
    return is_loss and isinstance(value, nn.Module) and not list(value.parameters())


def _state(training: Built, value: Any) -> Any:
    if isinstance(value, nn.Module):
        return training.strategy.model_state(value)
    if isinstance(value, Optimizer):
        return training.strategy.optimizer_state(_engine(value), value)
    return value.detach() if isinstance(value, nn.Parameter) else value.state_dict()


def _load_of(training: Built, name: str, value: Any, state: Any) -> None:
    try:
        _load(training, value, state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the trainer's {name} is another one than in the checkpoint: {error}"
        ) from error


def _load(training: Built, value: Any, state: Any) -> None:
    if isinstance(value, nn.Module):
        training.strategy.load_model_state(value, state)
    elif isinstance(value, Optimizer):
        training.strategy.load_optimizer_state(_engine(value), value, state)
    elif isinstance(value, nn.Parameter):
        with torch.no_grad():
            value.copy_(state)
    else:
        value.load_state_dict(state)


def _engine(optimizer: Optimizer) -> Any:
    """What a strategy knows an optimizer by that is not the training's."""
    return getattr(optimizer, "engine", None)


def _weights_of(value: nn.Module | nn.Parameter) -> Sequence[nn.Parameter]:
    return [value] if isinstance(value, nn.Parameter) else list(value.parameters())


def _size_of(weight: nn.Parameter) -> float:
    """The mean size of a parameter's weights."""
    return float(weight.detach().abs().double().mean())


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether sizes are as close as machines of different kinds may bring them."""
    return len(one) == len(other) and bool(
        np.allclose(one, other, rtol=_ALIKE, atol=_ALIKE**2, equal_nan=True)
    )
