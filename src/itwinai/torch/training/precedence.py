"""What this run configures rules over what a checkpoint remembers.

A checkpoint holds the settings of its optimizers and schedules twice: as they were built when its
run began, and as they stood when it was written. Where this run has built them otherwise, its own
settings take effect; everything else goes on from where it stood. Built alike, all of it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

#: Settings of an optimizer's groups: learning rate, weight decay, momentum, ...
Settings = list[dict[str, Any]]

#: Of a group, what is no setting.
_NO_SETTINGS = ("params", "param_names")


def settings_of(optimizer: Optimizer) -> Settings:
    """The settings of an optimizer's groups, as plain values."""
    return [
        {name: _plain(value) for name, value in group.items() if name not in _NO_SETTINGS}
        for group in optimizer.param_groups
    ]


def take_precedence(optimizer: Optimizer, now: Settings, then: Settings) -> list[str]:
    """Give an optimizer that a checkpoint was loaded into this run's settings.

    A learning rate that a schedule, or the user, has changed since then keeps its proportion.

    Args:
        optimizer: With the checkpoint's settings.
        now: As this run has built it.
        then: As the checkpoint's run had built it.

    Returns:
        What has changed, in words.
    """
    changes: dict[str, None] = {}
    for group, new, old in zip(optimizer.param_groups, now, then, strict=True):
        loaded = {name: _plain(value) for name, value in group.items() if name in new}
        for name, value in _otherwise(loaded, new, old).items():
            if name == "lr":
                _set_rate(group, value)
            else:
                group[name] = value
            if name in _SHOWN:
                changes[f"{name} {_shown(old[name])} -> {_shown(new[name])}"] = None
    return list(changes)


def _otherwise(
    loaded: Mapping[str, Any], new: Mapping[str, Any], old: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a group that this run has built otherwise, as they stand at the checkpoint.

    What equals the loaded value was built from the checkpoint itself, unless a schedule goes on
    from another one.
    """
    differing = {
        name: value
        for name, value in new.items()
        if name in old and name != "lr" and value not in (old[name], loaded.get(name))
    }
    if "initial_lr" in old and "initial_lr" not in new:  # there is no schedule any more
        differing["lr"] = new["lr"]
    elif _base(new) != _base(old) and ("initial_lr" in new or new["lr"] != loaded["lr"]):
        differing["lr"] = _scaled(loaded["lr"], new, old)
    return differing


#: Settings by which users know an optimizer; those of schedules follow from them.
_SHOWN = ("lr", "weight_decay", "momentum", "betas", "alpha", "rho", "eps", "nesterov")


def merged(saved: Any, now: Any, then: Any) -> Any:
    """The state of a schedule to go on from: what this run has built otherwise, and the rest saved.

    Args:
        saved: Its state in the checkpoint.
        now: Its state as this run has built it.
        then: Its state as the checkpoint's run had built it.
    """
    if _alike(now, then):
        return saved
    if all(isinstance(state, Mapping) for state in (saved, now, then)):
        known = {key for key in now if key in saved and key in then}
        both = {key: merged(saved[key], now[key], then[key]) for key in known}
        return {**now, **saved, **both}
    if all(_is_list(state) and len(state) == len(now) for state in (saved, now, then)):
        return [merged(*parts) for parts in zip(saved, now, then, strict=True)]
    return now


def note_rates(schedule: LRScheduler) -> None:
    """Let a schedule take the present rates of its optimizer for the last ones that it set."""
    schedule._last_lr = [_plain(group["lr"]) for group in schedule.optimizer.param_groups]


def _base(group: Mapping[str, Any]) -> Any:
    """The rate that a schedule starts from; without one, the rate."""
    return group.get("initial_lr", group["lr"])


def _scaled(rate: float, new: Mapping[str, Any], old: Mapping[str, Any]) -> float:
    if rate == old["lr"] or not _base(old):
        return float(new["lr"])
    return float(rate * _base(new) / _base(old))


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value.tolist()
    if isinstance(value, list | tuple):
        return tuple(_plain(part) for part in value)
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _alike(one: Any, other: Any) -> bool:
    return bool(_plain(one) == _plain(other))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
