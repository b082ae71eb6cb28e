"""Reading ``algorithm`` and ``scheduler``: a name, a mapping with options, or an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itwinai.config.values import shown
from itwinai.errors import ConfigurationError, did_you_mean


def name_and_options(
    where: str, value: Any, known: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Split a name or a mapping into the name and its options.

    Raises:
        ConfigurationError: If there is no name, or it is not among ``known``.
    """
    options = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in known:
        names = ["auto", *known]
        hint = did_you_mean(str(name), names) or f"; known names: {', '.join(names)}"
        raise ConfigurationError(f"{where}={shown(name)}: unknown{hint}")
    return name, options


def check_object(where: str, value: Any, method: str, known: Mapping[str, Any]) -> None:
    """Refuse what is neither a name nor an object of the expected kind.

    Raises:
        ConfigurationError: If ``value`` is a class, or lacks ``method``.
    """
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise ConfigurationError(
            f"{where}={shown(value)}: expected a name ({', '.join(known)}), a mapping with a name, "
            "or an object of Optuna or Ray Tune (not its class)"
        )
