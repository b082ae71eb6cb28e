"""Objects that remember their constructor's arguments and can be written as a configuration."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itwinai.config.writing import as_yaml
from itwinai.errors import ItwinaiError
from itwinai.io.files import write_text


class SerializationError(ItwinaiError):
    """An object cannot be written as a configuration."""


class Serializable:
    """Base of objects that can be rebuilt from ``{"_target_": class, **constructor arguments}``.

    A constructor hands its arguments over, before it makes other local variables::

        self.save_parameters(**self.locals2params(locals()))
    """

    #: The constructor's arguments by name.
    parameters: dict[str, Any]

    def save_parameters(self, **kwargs: Any) -> None:
        """Remember the constructor's arguments; earlier ones are forgotten."""
        self.parameters = kwargs

    def update_parameters(self, **kwargs: Any) -> None:
        """Change or add some of the remembered arguments."""
        self.parameters = {**getattr(self, "parameters", {}), **kwargs}

    @staticmethod
    def locals2params(locals: dict[str, Any], pop_self: bool = True) -> dict[str, Any]:  # noqa: A002
        """Turn the ``locals()`` of a constructor into its arguments.

        Args:
            locals: What ``locals()`` gave.
            pop_self: Whether to leave ``self`` out.
        """
        unwanted = {"__class__", "self"} if pop_self else {"__class__"}
        return {name: value for name, value in locals.items() if name not in unwanted}

    def to_dict(self) -> dict[str, Any]:
        """Return the plain form, which ``hydra.utils.instantiate`` turns into an equal object.

        Raises:
            SerializationError: If the class is defined inside a function, or an argument is
                neither plain data nor serializable itself.
        """
        target = fullname(self)
        if "<locals>" in target:
            raise SerializationError(
                f"{target} is defined locally, which is not supported for serialization. "
                "Move the class to the top level of a module."
            )
        arguments = {
            name: _plain(value, f"{target}, argument '{name}'")
            for name, value in self.parameters.items()
        }
        return {"_target_": target, **arguments}

    def to_json(self, file_path: str | Path, nested_key: str | None = None) -> None:
        """Write the plain form as JSON.

        Args:
            file_path: The file, replaced if it exists.
            nested_key: Dotted key to put the object under; None: at the top.
        """
        write_text(Path(file_path), json.dumps(_nested(self.to_dict(), nested_key), indent=2))

    def to_yaml(self, file_path: str | Path, nested_key: str | None = None) -> None:
        """Write the plain form as YAML; arguments as in :meth:`to_json`."""
        write_text(Path(file_path), as_yaml(_nested(self.to_dict(), nested_key)))


class ModelLoader(Serializable, ABC):
    """Loads a model when called.

    Args:
        model_uri: Where the model is.
    """

    def __init__(self, model_uri: str) -> None:
        self.save_parameters(model_uri=model_uri)
        self.model_uri = model_uri

    @abstractmethod
    def __call__(self) -> Any:
        """Return the model."""


def is_jsonable(x: Any) -> bool:
    """Tell whether ``x`` can be written as JSON as it is."""
    try:
        json.dumps(x)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def fullname(o: Any) -> str:
    """Return ``module.Class`` of an object or class; built-in types have no module."""
    kind = o if isinstance(o, type) else type(o)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Serializable):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}, key '{key}'") for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, where) for item in value]
    if not is_jsonable(value):
        raise SerializationError(
            f"{where}: {value!r} is not a Python built-in type and it does not extend "
            f"{fullname(Serializable)}. Pass plain data, or derive its class from Serializable."
        )
    return value


def _nested(content: dict[str, Any], nested_key: str | None) -> dict[str, Any]:
    for key in reversed(nested_key.split(".") if nested_key else []):
        content = {key: content}
    return content
