"""From a composed configuration to a pipeline object.

The configuration may name the pipeline (``pipe_key``, a dotted path) and some of its steps
(``pipe_steps``).
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from itwinai.config.allowing import Gate, check_targets, targets_in
from itwinai.config.explaining import as_written, explained
from itwinai.config.steps import check_keys, is_meant_by, refusal, shown
from itwinai.errors import did_you_mean
from itwinai.utils import filter_pipeline_steps

DEFAULT_PIPE_KEY = "training_pipeline"


def register_resolvers() -> None:
    """Make ``${itwinai.cwd:}``, ``${itwinai.range:}`` and ``${itwinai.multiply:}`` known."""
    resolvers: dict[str, Callable[..., Any]] = {
        "itwinai.cwd": os.getcwd,
        "itwinai.range": lambda *bounds: list(range(*map(_number, bounds))),
        "itwinai.multiply": lambda one, other: _number(one) * _number(other),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _number(value: Any) -> Any:
    """A number, which is a text if it comes from the environment: twice "4" would be "44"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    try:
        return int(value) if re.fullmatch(r"[-+]?\d+", value) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no number") from None


def build_pipeline(cfg: DictConfig, allow: Iterable[str] = (), folders: Iterable[Path] = ()) -> Any:
    """Build the pipeline that the configuration selects.

    Args:
        cfg: A whole configuration; left unchanged.
        allow: Packages and addresses that it may name, besides the public classes of
            :mod:`itwinai.config.public` and the modules of its own folders.
        folders: Its own folders; by default the working folder and that of the program.

    Raises:
        ConfigurationError: If the selected pipeline or step does not exist, cannot be built, or
            names what it may not name. In the last case nothing that is refused was imported.
        ItwinaiError: Whatever the constructor of a component raised of this kind.
    """
    register_resolvers()
    # The copy is of the whole, so that interpolations still find what they point to.
    whole = copy.deepcopy(cfg)
    paths: list[str] = []
    try:
        pipeline_cfg = select_pipeline(whole)
        paths = step_paths(cfg)
        if "pipe_steps" in cfg:
            _look_up(pipeline_cfg.steps, step_keys(cfg))
            filter_pipeline_steps(pipeline_cfg, step_keys(cfg))
        check_keys(pipeline_cfg, paths)
        mentions = [
            mention._replace(key=as_written(mention.key, paths))
            for mention in targets_in(pipeline_cfg, pipe_key(cfg))
        ]
        check_targets(mentions, Gate(tuple(allow), tuple(folders)))
        return instantiate(pipeline_cfg, _convert_="all")
    # TypeError: of a flag, such as _partial_.
    except (InstantiationException, OmegaConfBaseException, TypeError) as error:
        raise explained(error, whole, pipe_key(cfg), paths) from error


def pipe_key(cfg: DictConfig) -> str:
    """Return the dotted path of the selected pipeline."""
    return str(cfg.get("pipe_key") or DEFAULT_PIPE_KEY)


def select_pipeline(cfg: DictConfig) -> DictConfig:
    """Return the selected pipeline's part of the configuration."""
    key = pipe_key(cfg)
    node = _block_at(cfg, key)
    for required in ("_target_", "steps"):
        if required not in node:
            keys = list(map(str, node))
            raise refusal(
                key,
                f"{key}: this is not a pipeline, it has no key '{required}'"
                f"{is_meant_by(required, keys) or '.'} Choose a pipeline with +pipe_key=<key>. "
                f"Known keys: {', '.join(keys)}.",
            )
    if not OmegaConf.is_config(node.steps):
        raise refusal(f"{key}.steps", f"expected steps by name, or a list, not {shown(node.steps)}")
    return node


def _block_at(cfg: DictConfig, key: str) -> DictConfig:
    node = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        known = _blocks(node)
        if part not in known or not OmegaConf.is_dict(node[part]):
            raise refusal(
                ".".join(parts[:depth]),
                f"pipe_key={key}: the configuration has no pipeline '{part}'"
                f"{did_you_mean(part, known) or '.'} Known keys: {', '.join(known) or 'none'}.",
            )
        node = node[part]
    return node


def step_paths(cfg: DictConfig) -> list[str]:
    """Return the dotted paths of the selected steps."""
    return [f"{pipe_key(cfg)}.steps.{name}" for name in step_keys(cfg)]


def step_keys(cfg: DictConfig) -> list[str | int]:
    """Return the names (or positions, if the steps are a list) of the selected steps."""
    chosen = cfg.get("pipe_steps")
    if chosen is not None:
        return list(chosen) if OmegaConf.is_list(chosen) else [chosen]
    steps = select_pipeline(cfg).steps
    return list(steps) if OmegaConf.is_dict(steps) else list(range(len(steps)))


def _look_up(steps: Any, chosen: Iterable[str | int]) -> None:
    """Resolve what some steps take from others while those are there.

    What cannot be resolved is told where the pipeline is built.
    """
    for key in chosen:
        with suppress(OmegaConfBaseException):
            if OmegaConf.is_config(steps[key]):
                OmegaConf.resolve(steps[key])


def _blocks(cfg: DictConfig) -> list[str]:
    """Return the keys that hold more keys, or point to something."""
    return [
        str(name)
        for name, child in cfg.items_ex(resolve=False)
        if OmegaConf.is_dict(child) or OmegaConf.is_interpolation(cfg, str(name))
    ]
