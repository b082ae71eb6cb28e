"""What users' hooks return and leave: an error names the hook, what came, and what should.

The steps' results are looked at in ``batches``, where they come back.
"""

from __future__ import annotations

import multiprocessing
import operator
from collections.abc import Mapping
from contextlib import suppress
from types import GeneratorType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from itwinai.errors import ConfigurationError
from itwinai.torch.metrics import is_number
from itwinai.torch.pickling import unpicklable_part
from itwinai.torch.type import HookError, described

#: What gives its values once, and nothing in the next epoch.
_ONCE = (GeneratorType, map, filter, zip)

#: Losses that PyTorch lets compare tensors of two shapes, such as (16, 1) and (16): 256 pairs.
_ELEMENT_BY_ELEMENT = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)

#: The attribute that holds the loader of each set.
SETS = {
    "training": "train_dataloader",
    "validation": "validation_dataloader",
    "test": "test_dataloader",
}


def check_built(training: Any) -> None:
    """Look at what ``create_model_loss_optimizer()`` left.

    Raises:
        HookError: If that is no model, or no optimizer.
    """
    model, optimizer = training.model, getattr(training, "optimizer", None)
    hook = "create_model_loss_optimizer"
    if not isinstance(model, nn.Module):
        raise _left(hook, "model", model, "the torch.nn.Module that strategy.distributed() gave")
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        raise _left(hook, "optimizer", optimizer, "an optimizer")
    if not hasattr(training.lr_scheduler, "step") and training.lr_scheduler is not None:
        raise _left(hook, "lr_scheduler", training.lr_scheduler, "a schedule, or None")


def check_loaders(training: Any) -> None:
    """Look at what ``create_dataloaders()`` left.

    Raises:
        HookError: If it cannot be gone through in each epoch.
        ConfigurationError: If the processes of a loader cannot be given its data set.
    """
    for name, attribute in SETS.items():
        loader = getattr(training, attribute, None)
        if loader is None:
            continue
        if isinstance(loader, (type, *_ONCE)) or not hasattr(loader, "__iter__"):
            expected = "a DataLoader, or anything else that gives its batches anew in each epoch"
            raise _left("create_dataloaders", attribute, loader, expected)
        if isinstance(loader, DataLoader) and loader.num_workers > 0:
            _check_processes(name, loader)


def train_loader_of(training: Any) -> DataLoader[Any]:
    """The loader of the training set.

    Raises:
        HookError: If ``create_dataloaders()`` did not set it.
    """
    loader: DataLoader[Any] | None = training.train_dataloader
    if loader is None:
        raise _left("create_dataloaders", "train_dataloader", None, "a DataLoader")
    return loader


def inputs_and_targets(batch: Any, step: str) -> tuple[Any, Any]:
    """The two parts of a batch, as the steps that nobody overrode take it."""
    if not isinstance(batch, Mapping | torch.Tensor):
        with suppress(TypeError, ValueError):
            inputs, targets = batch
            return inputs, targets
    raise HookError(
        f"the loader gave {described(batch)}; expected a batch of inputs and targets. "
        f"Override {step}() for batches of another form."
    )


def loss_of(training: Any) -> Any:
    """The loss function.

    Raises:
        HookError: If ``create_model_loss_optimizer()`` did not set it.
    """
    if isinstance(training.loss, type) or not callable(training.loss):
        expected = "a function loss(prediction, target)"
        raise _left("create_model_loss_optimizer", "loss", training.loss, expected)
    return training.loss


def odd_shapes(loss: Any, prediction: Any, target: Any) -> tuple[Any, Any] | None:
    """Shapes of predictions and targets, where a loss compares each with several of the others."""
    are_tensors = isinstance(prediction, torch.Tensor) and isinstance(target, torch.Tensor)
    if not isinstance(loss, _ELEMENT_BY_ELEMENT) or not are_tensors:
        return None
    return None if prediction.shape == target.shape else (prediction.shape, target.shape)


def dictionary(hook: str, returned: Any, content: str) -> dict[str, Any]:
    """What a hook returned, which must be a dictionary."""
    if not isinstance(returned, Mapping):
        raise HookError(
            f"{hook}() returned {described(returned)}; expected a dictionary of {content}"
        )
    return dict(returned)


def epoch_loss(hook: str, returned: Any) -> float:
    """The mean loss that an own ``train_epoch()`` or ``validation_epoch()`` returned."""
    if not is_number(returned):
        raise HookError(
            f"{hook}() returned {described(returned)}; expected the mean loss, one number, or None"
        )
    return float(returned)


def sample_count(returned: Any) -> int:
    """The number of samples that ``samples_in_batch()`` returned."""
    try:
        count = operator.index(returned)
    except TypeError:
        count = -1
    if count < 0:
        shown = repr(returned) if isinstance(returned, int | float) else described(returned)
        raise HookError(
            f"samples_in_batch() returned {shown}; expected the number of samples, a whole number"
        )
    return count


def _left(hook: str, attribute: str, value: Any, expected: str) -> HookError:
    came = f"did not set self.{attribute}"
    if value is not None:
        came = f"set self.{attribute} to {described(value)}"
    return HookError(f"{hook}() {came}; expected {expected}")


def _check_processes(name: str, loader: DataLoader[Any]) -> None:
    """Refuse what cannot be sent to the processes of a loader, before one of them is started."""
    context = loader.multiprocessing_context or multiprocessing
    method = context.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method == "fork":
        return
    sent = {
        f"the {name} set": loader.dataset,
        f"the collate_fn of the {name} set": loader.collate_fn,
        f"the worker_init_fn of the {name} set": loader.worker_init_fn,
    }
    for what, value in sent.items():
        part = unpicklable_part(value)
        if part is not None:
            raise ConfigurationError(
                f"{what} ({type(value).__name__}) cannot be sent to the processes that load it, "
                f"which are started by {method!r}: {part}, which cannot be pickled. Open files and "
                "connections in __getitem__, when they are first needed, and define functions at "
                "the top of a module; or set num_workers_dataloader: 0."
            )
