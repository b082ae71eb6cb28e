"""A search space in YAML, as the objects of Ray Tune that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.search.sample import Domain

from itwinai.errors import ConfigurationError, did_you_mean


def search_space(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a search space for Ray Tune's own ``Tuner``.

    A study of :class:`itwinai.torch.trainer.RayTorchTrainer` needs no such call: it reads the YAML
    form, and these objects as well.

    Args:
        config: For each name an object of Ray Tune, ``{"grid_search": [...]}``, or
            ``{"type": <function of ray.tune>, <its arguments>}``; None: nothing is searched.

    Raises:
        ConfigurationError: If it is not a mapping, a value is none of these, or the arguments do
            not fit.
        AttributeError: If Ray Tune has no function of that type.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"search space: a mapping of names to domains is needed, not {config!r}."
        )
    return {name: _domain(name, value) for name, value in config.items()}


def _domain(name: str, value: Any) -> Any:
    if isinstance(value, Domain):
        return value
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"search space, {name}: {value!r} is no domain. Write one, as in type: uniform, or put "
            "a value that stays the same into the config."
        )
    if "grid_search" in value:
        return value
    arguments = {key: _number(key, item) for key, item in value.items() if key != "type"}
    if "type" not in value:
        raise ConfigurationError(f"search space, {name}: add a type, as in type: uniform.")
    function = getattr(tune, str(value["type"]), None)
    if not callable(function):
        raise AttributeError(
            f"search space, {name}: ray.tune has no function {value['type']!r}"
            f"{did_you_mean(str(value['type']), dir(tune))}"
        )
    try:
        return function(**arguments)
    except TypeError as error:
        raise ConfigurationError(f"search space, {name}: {error}") from None


def _number(key: str, value: Any) -> Any:
    # YAML reads 1e-4 as a string.
    return float(value) if key in ("lower", "upper") and isinstance(value, str) else value
