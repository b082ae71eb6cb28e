"""The steps as a configuration describes them: their places in it, and what is missing in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from itwinai.errors import ConfigurationError, one_line, with_notes

#: Keys that say how an object is built; they are no arguments of it.
SPECIAL_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def refusal(key: str, problem: str, *more: str) -> ConfigurationError:
    """Return an error at a key of the configuration; what else there is to say comes last."""
    return ConfigurationError(with_notes(problem, [place(key), *more]))


def place(key: str) -> str:
    """Say which key, and of which file if one is being run."""
    return f"in {_file()}{key}" if key else f"in {_file()}".removesuffix(": ")


def _file() -> str:
    if not HydraConfig.initialized():
        return ""
    name = str(HydraConfig.get().job.config_name)
    return f"{name if name.endswith(('.yaml', '.yml')) else f'{name}.yaml'}: "


def shown(value: Any) -> str:
    """A value as YAML has it, in one line."""
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return "null" if plain is None else one_line(repr(plain))


def check_keys(pipeline: DictConfig, paths: Sequence[str]) -> None:
    """Refuse steps that describe no component, and special keys that are misspelt.

    Args:
        pipeline: A pipeline's configuration, with the selected steps alone.
        paths: The steps' paths in the whole configuration.

    Raises:
        ConfigurationError: For the first of them.
    """
    steps = pipeline.steps
    for key, path in zip(_keys(steps), paths, strict=True):
        # What an interpolation points to is looked at where it is resolved.
        if not OmegaConf.is_interpolation(steps, key):
            _check_step(steps[key], path)


def unresolvable(cfg: DictConfig, pipeline: str) -> str:
    """Return the path of the first value of a pipeline whose interpolation fails, or nothing."""
    node: Any = cfg
    path = ""
    for part in pipeline.split("."):
        path = f"{path}.{part}".lstrip(".")
        if not _resolves(node, part):
            return path
        node = node[part]
    return next(_unresolvable(node, path), "")


def is_meant_by(key: str, given: Iterable[str]) -> str:
    """Return ``"; is 'x' meant for it?"`` for the closest key that was given, or nothing."""
    closest = get_close_matches(key, list(given), n=1, cutoff=0.6)
    return f"; is '{closest[0]}' meant for it?" if closest else ""


def _check_step(step: Any, path: str) -> None:
    if not OmegaConf.is_dict(step):
        raise refusal(path, f"expected a mapping with the key '_target_', not {shown(step)}")
    keys = list(map(str, step))
    if "_target_" not in keys:
        meant = is_meant_by("_target_", keys) or ", as in '_target_: module.Class'"
        raise refusal(path, f"the step has no key '_target_', which names its class{meant}")
    if step.get("_partial_"):
        raise refusal(path, "_partial_: a step is built at once; remove this key")
    _check_special(step, path)


def _check_special(node: Any, path: str) -> None:
    """Refuse keys like ``_targt_`` at any depth."""
    for key in _keys(node):
        where = f"{path}.{key}"
        # Users have keys of their own, such as 'target': only what is very close is a mistake.
        special = get_close_matches(str(key), SPECIAL_KEYS, n=1, cutoff=0.8)
        if special and key not in SPECIAL_KEYS and str(key).startswith("_"):
            raise refusal(where, f"{key}: unknown key; did you mean '{special[0]}'?")
        child = node._get_node(key)
        if OmegaConf.is_config(child) and not OmegaConf.is_interpolation(node, key):
            _check_special(child, where)


def _unresolvable(node: Any, path: str) -> Iterator[str]:
    for key in _keys(node):
        where = f"{path}.{key}"
        if OmegaConf.is_missing(node, key):
            continue
        if not _resolves(node, key):
            yield where
        elif OmegaConf.is_config(node[key]):
            yield from _unresolvable(node[key], where)


def _resolves(node: Any, key: Any) -> bool:
    try:
        node[key]
    except OmegaConfBaseException:
        return False
    return True


def _keys(node: Any) -> list[Any]:
    if node._is_none() or node._is_missing():
        return []
    return list(node) if OmegaConf.is_dict(node) else list(range(len(node)))
