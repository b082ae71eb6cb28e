"""Signatures, dictionaries, YAML files and command lines: small functions without a better home."""

from __future__ import annotations

import functools
import inspect
import random
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlparse

from yaml import YAMLError

from itwinai import logger
from itwinai.constants import adjectives, names
from itwinai.errors import ConfigurationError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds to wait for a file from another machine.
_PATIENCE_S = 30


class SignatureInspector:
    """What a function's parameters allow.

    Args:
        func: A function or bound method; ``self`` does not count.
    """

    #: Stands for "any number of arguments".
    INFTY = sys.maxsize

    def __init__(self, func: Callable[..., Any]) -> None:
        self._parameters = inspect.signature(func).parameters.values()
        kinds = {parameter.kind for parameter in self._parameters}
        self.has_varargs = inspect.Parameter.VAR_POSITIONAL in kinds
        self.has_kwargs = inspect.Parameter.VAR_KEYWORD in kinds

    @property
    def required_params(self) -> tuple[str, ...]:
        """Names of the parameters without a default value, keyword-only ones included."""
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return tuple(
            parameter.name
            for parameter in self._parameters
            if parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
        )

    @property
    def min_params_num(self) -> int:
        """Fewest arguments of a call."""
        return len(self.required_params)

    @property
    def max_params_num(self) -> int:
        """Most arguments of a call; ``INFTY`` with ``*args`` or ``**kwargs``."""
        if self.has_varargs or self.has_kwargs:
            return self.INFTY
        return len(self._parameters)


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


def yaml_problem(error: YAMLError) -> str:
    """Say in one line which file and line a YAML parser did not like, and why."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{mark.name}, line {mark.line + 1}: {problem}" if mark else problem


def dynamically_import_class(name: str) -> Any:
    """Import ``module.Class``."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ConfigurationError(f"'{name}' names no module; write it as 'module.Class'.")
    return getattr(import_module(module), attribute)


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


def get_root_cause(exc: BaseException) -> BaseException:
    """Return the first exception of the chain that ended in ``exc``."""
    while True:
        cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
        if cause is None:
            return exc
        exc = cause


def filter_pipeline_steps(
    pipeline_cfg: MutableMapping[Any, Any], pipe_steps: Sequence[str | int]
) -> None:
    """Keep only the named steps of a pipeline's configuration, as a list in the given order.

    Args:
        pipeline_cfg: The configuration, changed in place.
        pipe_steps: Names of a dictionary's steps, or positions in a list.

    Raises:
        ConfigurationError: If there is no such step.
    """
    steps = pipeline_cfg["steps"]
    known = list(steps) if isinstance(steps, Mapping) else list(range(len(steps)))
    for step in pipe_steps:
        if step not in known:
            names = [str(name) for name in known]
            raise ConfigurationError(
                f"pipe_steps: there is no step '{step}'{did_you_mean(str(step), names)}. "
                f"Known steps: {', '.join(names)}."
            )
    pipeline_cfg["steps"] = [steps[step] for step in pipe_steps]


def make_config_paths_absolute(args: Sequence[str]) -> list[str]:
    """Make the values of ``--config-path`` (``-cp``) absolute and importable from.

    Args:
        args: Command line arguments.

    Returns:
        The arguments; the paths were appended to ``sys.path``.
    """
    result = list(args)
    for position, argument in enumerate(args):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config-path", "-cp"):
            continue
        value = value if equals else next(iter(args[position + 1 :]), "")
        if not value or value.startswith("pkg://"):
            continue
        if equals:
            result[position] = f"{flag}={add_to_sys_path(value)}"
        else:
            result[position + 1] = add_to_sys_path(value)
    return result


def add_to_sys_path(path: str) -> str:
    """Make modules in a folder importable; return its absolute path."""
    absolute = str(Path(path).expanduser().absolute())
    if absolute not in sys.path:
        sys.path.append(absolute)
    return absolute


def to_uri(path_str: str | Path) -> str:
    """Turn a path into a URI that holds in any folder; a URI stays as it is."""
    if urlparse(str(path_str)).scheme:
        return str(path_str)
    return Path(path_str).expanduser().resolve().as_uri()


def normalize_tracking_uri(uri: str | Path) -> str:
    """As :func:`to_uri`, for MLflow's servers and folders, one of which is named ``databricks``."""
    return str(uri) if str(uri) == "databricks" else to_uri(uri)


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


def retrieve_remote_file(url: str) -> str:
    """Return the text of a file on the web.

    Raises:
        ConfigurationError: If the URL is not one of http or https, or cannot be read.
    """
    # Loaded here, because few programs need it and it is slow to load.
    from urllib.error import URLError
    from urllib.request import urlopen

    if urlparse(url).scheme not in ("http", "https"):
        raise ConfigurationError(f"{url}: not a URL that begins with http:// or https://")
    try:
        with urlopen(url, timeout=_PATIENCE_S) as answer:
            content: bytes = answer.read()
    except (URLError, TimeoutError) as error:
        raise ConfigurationError(f"{url}: cannot be read: {error}") from error
    return content.decode("utf-8")


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
