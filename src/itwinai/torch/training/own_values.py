"""Values of a user's own trainer that change as it trains.

Such as a weight that is annealed, a hidden state, the stage of a curriculum; also those of a
network, of a loss, and of a helper of the user's own, an average kept by hand or a buffer of
samples, if it is an attribute and gives no state. Those that have changed since the training began
are in the checkpoint. They come back where the training that goes on began them alike; what its
configuration begins otherwise stays. A list of numbers that has only grown is a history, of which
each run has its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

import itwinai
from itwinai.frames import is_own
from itwinai.torch.checkpoints.copies import (
    LARGEST,
    NoCopyError,
    copied,
    is_history,
    is_mark,
    restored,
    same,
)
from itwinai.torch.checkpoints.plain import has_state

#: What every module of PyTorch has.
_OF_MODULES = frozenset(vars(nn.Module()))

#: Of a value that has changed: what it was first, in a list that is empty if it was not there, and
#: what it is.
Change = tuple[list[Any], Any]


def own_values(training: Any) -> dict[str, Any]:
    """Copies of the values that are not of the library's classes, by ``name`` or ``of.name``.

    What a checkpoint cannot give back without running code is left out.
    """
    values = {}
    for prefix, holder in _holders(training):
        for name, value in _parts(training, prefix, holder).items():
            try:
                values[prefix + name] = copied(value)
            except NoCopyError:
                continue
    return values


def changes(training: Any, first: Mapping[str, Any]) -> dict[str, Change]:
    """What has changed since the training began, when its values were the first ones."""
    now = own_values(training)
    begun = {name: _first(training, first, name) for name in now}
    return {
        name: (begun[name], value)
        for name, value in now.items()
        if not same(begun[name], [value]) and not is_history(begun[name], value)
    }


def bring_back(training: Any, first: Mapping[str, Any], saved: Mapping[str, Change]) -> None:
    """Let what had changed be as it was when the checkpoint was written."""
    holders = dict(_holders(training))
    for path, (was_first, value) in saved.items():
        prefix, name = _split(path)
        if is_mark(value):
            _tell_too_large(training, path)
        elif prefix in holders and same(_first(training, first, path), was_first):
            _put(holders[prefix], name, value, training.device)


def bring_back_made(training: Any) -> None:
    """The same for what an own ``train()`` has made, before its first epoch begins with it."""
    there, saved = own_values(training).items(), training.saved_values
    made = {name: value for name, value in there if name not in training.values_built}
    training.first_values.update(made)
    bring_back(
        training, training.first_values, {name: saved[name] for name in made if name in saved}
    )


def _holders(training: Any) -> Iterator[tuple[str, Any]]:
    """Whatever has values of the user's own, with what precedes their names.

    The trainer, each helper that it has, and the parts of its networks and of its loss.
    """
    yield "", training
    unwrap, loss = training.strategy.unwrap, getattr(training, "loss", None)
    theirs = {**_parts(training, "", training), "model": training.model, "loss": loss}
    for name, value in theirs.items():
        if isinstance(value, nn.Module):
            for path, module in unwrap(value).named_modules(prefix=name):
                if _is_own(type(module)):
                    yield f"{path}.", module
        elif hasattr(value, "__dict__") and not has_state(value) and _is_own(type(value)):
            yield f"{name}.", value


def _is_own(kind: type) -> bool:
    """Whether a class is the user's; one of the main program may have come from another one."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ == "__main__" or (file is not None and is_own(file))


def _parts(training: Any, prefix: str, holder: Any) -> dict[str, Any]:
    """The attributes that may be of the user's own."""
    theirs = vars(holder)
    if holder is training:
        ours = training.names_configured | _names_of_classes(type(training))
    elif isinstance(holder, nn.Module):
        ours = _OF_MODULES
        if prefix.startswith("loss."):  # of which a checkpoint has no state
            theirs = {**theirs, **dict(holder.named_buffers(recurse=False))}
    else:
        ours = frozenset()
    return {name: value for name, value in theirs.items() if name not in ours}


def _first(training: Any, first: Mapping[str, Any], path: str) -> list[Any]:
    """The value that an attribute had at the begin, which may be one of its class."""
    if path in first:
        return [first[path]]
    prefix, name = _split(path)
    with suppress(AttributeError, NoCopyError):
        return [copied(getattr(type(dict(_holders(training))[prefix]), name))]
    return []


def _split(path: str) -> tuple[str, str]:
    holder, dot, name = path.rpartition(".")
    return holder + dot, name


def _put(holder: Any, name: str, value: Any, device: str) -> None:
    like = vars(holder).get(name)  # not its class's, which later trainings have too
    now = restored(value, like, torch.device(device))
    if isinstance(like, torch.Tensor) and like.is_leaf and like.requires_grad:
        with torch.no_grad():  # an optimizer may know it
            like.copy_(now)
    elif isinstance(holder, nn.Module):
        setattr(holder, name, now)
    else:
        vars(holder)[name] = now  # a frozen dataclass would refuse it otherwise


def _tell_too_large(training: Any, path: str) -> None:
    if training.strategy.is_main_worker:
        itwinai.logger.warning(
            "warning: the trainer's %s had changed in the training, and begins anew: it takes more "
            "than %d MiB, which no checkpoint holds. Give it state_dict() and load_state_dict(), "
            "or let it be a buffer of the model.",
            path,
            LARGEST // 2**20,
        )


def _names_of_classes(kind: type) -> set[str]:
    """What the library's classes among its bases define or announce."""
    ours = [one for one in kind.__mro__ if one.__module__.startswith("itwinai.")]
    return {n for one in ours for n in (*vars(one), *vars(one).get("__annotations__", {}))}
