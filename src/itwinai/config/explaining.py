"""Why a configuration could not be composed, or its pipeline not be built, in the user's terms.

What Hydra and OmegaConf raise is translated here, and nowhere else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import YAMLError

from itwinai.config.steps import place, refusal, unresolvable
from itwinai.config.targets import is_missing, what_is_missing, wrong_argument
from itwinai.errors import ConfigurationError, ItwinaiError, add_note, did_you_mean
from itwinai.frames import SEE_ALL, headline, own_frames
from itwinai.utils import get_root_cause, yaml_problem

_FULL_KEY = re.compile(r"\s*\bfull_key: (\S*)")
_NO_MAPPING = re.compile(r"primary config '(.+)' must be a DictConfig")
_NO_SUCH_VARIABLE = re.compile(r"Environment variable '(.+)' not found")
_NO_SUCH_KEY = re.compile(r"Interpolation key '(.+)' not found")


def explained(
    error: Exception, cfg: DictConfig, pipeline: str, steps: Sequence[str]
) -> ItwinaiError:
    """Return what to tell of an error of Hydra or OmegaConf.

    A component's own complaint is returned as it is, with a note on where it came up.

    Args:
        error: What building the pipeline ended with.
        cfg: The whole configuration, with the selected steps alone.
        pipeline: Path of the selected pipeline.
        steps: Paths of the selected steps, as they were written.
    """
    if isinstance(error, OmegaConfBaseException):
        left_open = isinstance(error, MissingMandatoryValue)
        key = _key(error, cfg) if left_open else unresolvable(cfg, pipeline)
        return refusal(as_written(key, steps), _of_interpolation(error, cfg))
    built = _key(error, cfg)
    key = as_written(built, steps)
    own = _of_itwinai(error)
    if own is not None:
        add_note(own, place(key))
        return own
    node = OmegaConf.select(cfg, built, throw_on_resolution_failure=False)
    return _not_built(error, key, node if OmegaConf.is_dict(node) else {})


def _not_built(error: Exception, key: str, node: Mapping[Any, Any]) -> ConfigurationError:
    """Say whether a target, its arguments or its own code is at fault."""
    target = str(node.get("_target_"))
    if str(error).startswith("Expected a callable target"):
        return refusal(key, f"_target_={target}: expected a class or function, as 'module.Class'")
    if error.__cause__ is None:
        return refusal(key, _FULL_KEY.sub("", str(error)).removeprefix("Instantiation: "))
    if isinstance(error.__cause__, TypeError) and node:
        argument, problem = wrong_argument(target, list(map(str, node)), str(error.__cause__))
        if argument:
            return refusal(f"{key}.{argument}", problem)
    return _of_own_code(key, error.__cause__)


def not_located(error: Exception, target: str, key: str) -> ItwinaiError:
    """Return what to tell where the import of a target failed.

    Args:
        error: What the import ended with.
        target: What was to be imported.
        key: Where it stands in the configuration, as it was written.
    """
    own = _of_itwinai(error)
    if own is not None:
        add_note(own, place(key))
        return own
    cause = get_root_cause(error)
    if is_missing(target, cause):
        lacking = what_is_missing(target) or "it cannot be loaded"
        return refusal(key, f"_target_={target}: {lacking}")
    return _of_own_code(key, cause)


def not_composed(error: Exception) -> ConfigurationError:
    """Return what to tell where Hydra could not compose the configuration."""
    if isinstance(error, YAMLError):
        return ConfigurationError(yaml_problem(error))
    message = str(error)
    if isinstance(error, MissingConfigException):
        return ConfigurationError(_of_missing_file(message, str(error.missing_cfg_file)))
    no_mapping = _NO_MAPPING.search(message)
    if no_mapping:
        return ConfigurationError(f"{no_mapping[1]}.yaml: expected keys and values, not a list")
    unknown = error.__cause__
    if isinstance(unknown, ConfigAttributeError | ConfigKeyError):
        parent = getattr(unknown, "parent_node", None)
        known = list(map(str, parent or ()))
        first, *more = message.splitlines()
        beside = OmegaConf.to_container(parent) if OmegaConf.is_dict(parent) else {}
        deeper = list(_paths_to(str(unknown.key), beside)) if isinstance(beside, dict) else []
        if deeper:
            # Hydra's advice to add the key would make one that nothing reads.
            nearest = min(deeper, key=lambda path: path.count("."))
            return ConfigurationError(f"{first.removesuffix('.')}; did you mean '{nearest}'?")
        hint = did_you_mean(str(unknown.key), known) or f"; known keys: {', '.join(known)}"
        return ConfigurationError("\n".join([f"{first.removesuffix('.')}{hint}", *more]))
    override = getattr(error, "override", None)
    if override and "=" not in override and not override.startswith("~"):
        hint = f"a file is named by --config-name {shlex.quote(Path(override).stem)}"
        return ConfigurationError(f"{override}: expected KEY=VALUE; {hint}")
    return ConfigurationError(f"{override}: {message}" if override else message)


def _paths_to(key: str, node: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    """Yield the paths of the keys of this name, however deep."""
    for name, value in node.items():
        if name == key:
            yield f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _paths_to(key, value, f"{above}{name}.")


def _of_missing_file(message: str, name: str) -> str:
    """Say what else there is where a configuration was looked for."""
    problem, _, looked_in = message.partition("\nConfig search path")
    folders = [Path(path) for path in re.findall(r"provider=main, path=file://(.+)", looked_in)]
    known = [file.stem for folder in folders for file in folder.glob("*.y*ml")]
    if not known or not problem.startswith("Cannot find primary config"):
        return problem.strip()
    hint = did_you_mean(name, known) or f"; there are: {', '.join(sorted(known))}"
    return f"{problem.partition('. ')[0]} in {folders[0]}{hint}"


def _key(error: Exception, cfg: DictConfig) -> str:
    """The dotted key that an error is about."""
    found = _FULL_KEY.search(str(error))
    key = getattr(error, "full_key", None) or (found[1] if found else "")
    dotted = re.sub(r"\[(\w+)\]", r".\1", str(key))
    exists = OmegaConf.select(cfg, dotted, throw_on_resolution_failure=False) is not None
    # Where the last part is an item of a list, OmegaConf leaves the brackets out.
    return dotted if exists else re.sub(r"\.?(\d+)$", r".\1", dotted)


def as_written(key: str, steps: Sequence[str]) -> str:
    """Return a key as the user knows it.

    Of chosen steps, OmegaConf knows the positions and the user the names.
    """
    for position, step in enumerate(steps):
        chosen = f"{step.rpartition('.')[0]}.{position}"
        if f"{key}.".startswith(f"{chosen}."):
            return step + key.removeprefix(chosen)
    return key


def _of_itwinai(error: BaseException) -> ItwinaiError | None:
    link: BaseException | None = error
    while link is not None and not isinstance(link, ItwinaiError):
        link = link.__cause__
    return link


def _of_interpolation(error: OmegaConfBaseException, cfg: DictConfig) -> str:
    if isinstance(error, MissingMandatoryValue):
        return "the value is '???', which stands for one that has to be given"
    message = str(error.msg or error).splitlines()[0]
    variable = _NO_SUCH_VARIABLE.search(message)
    if variable:
        name = variable[1]
        return (
            f"${{oc.env:{name}}}: there is no environment variable '{name}'; set it, or give a "
            f"default as in ${{oc.env:{name},default}}"
        )
    missing = _NO_SUCH_KEY.search(message)
    if isinstance(error, InterpolationKeyError) and missing:
        hint = did_you_mean(missing[1], _dotted_keys(cfg))
        return f"${{{missing[1]}}}: the configuration has no key '{missing[1]}'{hint}"
    return message


def _dotted_keys(node: Any, prefix: str = "") -> Iterator[str]:
    if OmegaConf.is_dict(node):
        for key, child in node.items_ex(resolve=False):
            yield f"{prefix}{key}"
            yield from _dotted_keys(child, f"{prefix}{key}.")


def _of_own_code(key: str, cause: BaseException) -> ConfigurationError:
    return refusal(key, headline(cause), *own_frames(cause), SEE_ALL)
