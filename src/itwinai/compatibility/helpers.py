"""Small functions of ``itwinai.utils``."""

from __future__ import annotations

import functools
import random
import time
import warnings
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlparse

from yaml import YAMLError

from itwinai import logger
from itwinai.constants import adjectives, names
from itwinai.errors import ConfigurationError
from itwinai.utils import retrieve_remote_file, yaml_problem

P = ParamSpec("P")
R = TypeVar("R")


def load_yaml(path: str | Path) -> Any:
    """Read a YAML file into plain Python data.

    Raises:
        ConfigurationError: If it cannot be read, is no YAML, or names a key twice.
    """
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except YAMLError as error:
        raise ConfigurationError(yaml_problem(error)) from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error


def retrieve_remote_omegaconf_file(url: str) -> Any:
    """Read a YAML file on the web as a configuration of OmegaConf.

    Raises:
        ConfigurationError: If it cannot be read, or is no YAML.
    """
    from omegaconf import OmegaConf

    try:
        return OmegaConf.create(retrieve_remote_file(url))
    except YAMLError as error:
        raise ConfigurationError(f"{url}: {yaml_problem(error)}") from error


def flatten_dict(d: Mapping[str, Any], parent_key: str = "", sep: str = ".") -> dict[str, Any]:
    """Turn ``{"a": {"b": 1}}`` into ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in d.items():
        key = f"{parent_key}{sep}{name}" if parent_key else name
        flat.update(flatten_dict(value, key, sep) if isinstance(value, Mapping) else {key: value})
    return flat


def clear_key(
    my_dict: dict[Any, Any], dict_name: str, key: Hashable, complain: bool = True
) -> dict[Any, Any]:
    """Remove ``key`` from ``my_dict`` if it is there, with a warning unless told otherwise."""
    if key in my_dict:
        if complain:
            logger.warning("%s: the key '%s' is ignored; remove it.", dict_name, key)
        del my_dict[key]
    return my_dict


def to_uri(path_str: str | Path) -> str:
    """Make a path absolute, so that it holds in any folder; a URI stays as it is."""
    if urlparse(str(path_str)).scheme:
        return str(path_str)
    return str(Path(path_str).expanduser().resolve())


def normalize_tracking_uri(uri: str | Path) -> str:
    """Turn the name of a folder of MLflow into a URI; that of a server stays as it is.

    One of the servers is named ``databricks``.
    """
    is_server = str(uri) == "databricks" or bool(urlparse(str(uri)).scheme)
    return str(uri) if is_server else Path(to_uri(uri)).as_uri()


def generate_random_name() -> str:
    """Make up a name such as ``calm-otter``, whatever the program's random numbers are."""
    chance = random.SystemRandom()
    return f"{chance.choice(adjectives)}-{chance.choice(names)}"


def deprecated(reason: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: each call gives a DeprecationWarning with this reason."""

    def decorate(func: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(func)
        def warned(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(
                f"{func.__name__} is deprecated: {reason}", DeprecationWarning, stacklevel=2
            )
            return func(*args, **kwargs)

        return warned

    return decorate


def time_and_log(
    func: Callable[P, R],
    logger: Any,
    identifier: str,
    step: int | None = None,
    destroy_current_logger_context: bool = False,
) -> Callable[P, R]:
    """Return a function that does the same, and logs the seconds that it took.

    Args:
        func: The function.
        logger: An :class:`itwinai.loggers.Logger`; None: nothing is logged.
        identifier: Name of the logged metric.
        step: Position in the training.
        destroy_current_logger_context: Whether the logger's context ends after it.
    """

    @functools.wraps(func)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic()
        result = func(*args, **kwargs)
        if logger is not None:
            seconds = time.monotonic() - began
            logger.log(item=seconds, identifier=identifier, kind="metric", step=step)
            if destroy_current_logger_context:
                logger.destroy_logger_context()
        return result

    return timed
