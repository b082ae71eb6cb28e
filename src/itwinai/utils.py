"""Signatures, configurations and command lines: small functions without a better home.

Those that only programs written for itwinai 0.4 use are in :mod:`itwinai.compatibility.helpers`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from yaml import YAMLError

from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.compatibility.helpers import clear_key as clear_key
    from itwinai.compatibility.helpers import deprecated as deprecated
    from itwinai.compatibility.helpers import flatten_dict as flatten_dict
    from itwinai.compatibility.helpers import generate_random_name as generate_random_name
    from itwinai.compatibility.helpers import load_yaml as load_yaml
    from itwinai.compatibility.helpers import normalize_tracking_uri as normalize_tracking_uri
    from itwinai.compatibility.helpers import (
        retrieve_remote_omegaconf_file as retrieve_remote_omegaconf_file,
    )
    from itwinai.compatibility.helpers import time_and_log as time_and_log
    from itwinai.compatibility.helpers import to_uri as to_uri

#: Seconds to wait for a file from another machine.
_PATIENCE_S = 30

#: What to do about a YAML parser's problem, by a part of its text.
_YAML_ADVICE = {
    "'\\t'": "; indent with spaces",
    "mapping values are not allowed": "; text that holds ': ' needs quotes",
    "expected <block end>": "; is this line indented as those of the same level?",
}


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


def accepted_arguments(target: Callable[..., Any]) -> list[str]:
    """Names of a function's or class's arguments, those that a class hands on to its bases too."""
    names: dict[str, None] = {}
    for parameters in _signatures(target):
        variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= dict.fromkeys(p.name for p in parameters if p.kind not in variadic)
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return list(names)


def _signatures(target: Callable[..., Any]) -> Iterator[list[inspect.Parameter]]:
    if not isinstance(target, type):
        yield list(inspect.signature(target).parameters.values())
        return
    for base in target.__mro__[:-1]:
        if "__init__" in vars(base):
            yield list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]


def yaml_problem(error: YAMLError) -> str:
    """Say in one line which file and line a YAML parser did not like, and why."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    advice = next((text for part, text in _YAML_ADVICE.items() if part in problem), "")
    return f"{mark.name}, line {mark.line + 1}: {problem}{advice}" if mark else problem


def dynamically_import_class(name: str) -> Any:
    """Import ``module.Class``."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ConfigurationError(f"'{name}' names no module; write it as 'module.Class'.")
    return getattr(import_module(module), attribute)


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
                f"pipe_steps: there is no step '{step}'{did_you_mean(str(step), names) or '.'} "
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


__getattr__ = lazily(
    __name__,
    {
        "helpers": (
            "clear_key deprecated flatten_dict generate_random_name load_yaml "
            "normalize_tracking_uri retrieve_remote_omegaconf_file time_and_log to_uri"
        )
    },
    "itwinai.compatibility",
)
