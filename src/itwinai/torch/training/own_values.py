"""Plain attributes of a user's own trainer that change as it trains.

Such as a weight that is annealed, the stage of a curriculum, a counter. Those that have changed
since the training began are in the checkpoint. They come back where the training that goes on began
them alike; what its configuration begins otherwise stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, np.generic)

#: Of an attribute that has changed: what it was first, in a list that is empty if it was not there,
#: and what it is.
Change = tuple[list[Any], Any]


def own_values(training: Any) -> dict[str, Any]:
    """The plain attributes that are not of the trainer's own classes."""
    plain = {name: value for name, value in vars(training).items() if isinstance(value, _PLAIN)}
    ours = training.names_configured | _names_of_classes(type(training))
    return {name: value for name, value in plain.items() if name not in ours}


def changes(training: Any, first: Mapping[str, Any]) -> dict[str, Change]:
    """What has changed since the training began, when its values were the first ones."""
    return {
        name: (_first(training, first, name), value)
        for name, value in own_values(training).items()
        if _first(training, first, name) != [value]
    }


def bring_back(training: Any, first: Mapping[str, Any], saved: Mapping[str, Change]) -> None:
    """Let what had changed be as it was when the checkpoint was written."""
    for name, (was_first, value) in saved.items():
        if _first(training, first, name) == was_first:
            setattr(training, name, value)


def bring_back_made(training: Any) -> None:
    """The same for what an own ``train()`` has made, before its first epoch begins with it."""
    there, saved = own_values(training).items(), training.saved_values
    made = {name: value for name, value in there if name not in training.values_built}
    training.first_values.update(made)
    bring_back(
        training, training.first_values, {name: saved[name] for name in made if name in saved}
    )


def _first(training: Any, first: Mapping[str, Any], name: str) -> list[Any]:
    """The value that an attribute had at the begin, which may be one of its class."""
    if name in first:
        return [first[name]]
    return [getattr(type(training), name)] if hasattr(type(training), name) else []


def _names_of_classes(kind: type) -> set[str]:
    """What the library's classes among its bases define or announce."""
    ours = [one for one in kind.__mro__ if one.__module__.startswith("itwinai.")]
    return {n for one in ours for n in (*vars(one), *vars(one).get("__annotations__", {}))}
