"""From a composed configuration to a pipeline object.

The configuration may name the pipeline (``pipe_key``, a dotted path) and some of its steps
(``pipe_steps``).
"""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Callable
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from itwinai.errors import ConfigurationError, ItwinaiError, did_you_mean
from itwinai.utils import filter_pipeline_steps, get_root_cause

DEFAULT_PIPE_KEY = "training_pipeline"


def register_resolvers() -> None:
    """Make ``${itwinai.cwd:}``, ``${itwinai.range:}`` and ``${itwinai.multiply:}`` known."""
    resolvers: dict[str, Callable[..., Any]] = {
        "itwinai.cwd": os.getcwd,
        "itwinai.range": lambda *bounds: list(range(*bounds)),
        "itwinai.multiply": operator.mul,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def build_pipeline(cfg: DictConfig) -> Any:
    """Build the pipeline that the configuration selects.

    Args:
        cfg: A whole configuration; left unchanged.

    Raises:
        ConfigurationError: If the selected pipeline or step does not exist or cannot be built.
        ItwinaiError: Whatever the constructor of a component raised of this kind.
    """
    register_resolvers()
    # The copy is of the whole, so that interpolations still find what they point to.
    pipeline_cfg = select_pipeline(copy.deepcopy(cfg))
    if "pipe_steps" in cfg:
        filter_pipeline_steps(pipeline_cfg, step_keys(cfg))
    try:
        return instantiate(pipeline_cfg, _convert_="all")
    except InstantiationException as error:
        raise _explained(error) from error
    except OmegaConfBaseException as error:
        raise ConfigurationError(str(error)) from error


def pipe_key(cfg: DictConfig) -> str:
    """Return the dotted path of the selected pipeline."""
    return str(cfg.get("pipe_key") or DEFAULT_PIPE_KEY)


def select_pipeline(cfg: DictConfig) -> DictConfig:
    """Return the selected pipeline's part of the configuration."""
    key = pipe_key(cfg)
    node = cfg
    for part in key.split("."):
        known = _blocks(node)
        if part not in known or not OmegaConf.is_dict(node[part]):
            raise ConfigurationError(
                f"pipe_key={key}: the configuration has no pipeline '{part}'"
                f"{did_you_mean(part, known)}. Known keys: {', '.join(known) or 'none'}."
            )
        node = node[part]
    for required in ("_target_", "steps"):
        if required not in node:
            raise ConfigurationError(
                f"{key}: this is not a pipeline, it has no key '{required}'; choose a pipeline "
                f"with +pipe_key=<key>. Known keys: {', '.join(map(str, node))}."
            )
    return node


def step_keys(cfg: DictConfig) -> list[str | int]:
    """Return the names (or positions, if the steps are a list) of the selected steps."""
    chosen = cfg.get("pipe_steps")
    if chosen is not None:
        return list(chosen) if OmegaConf.is_list(chosen) else [chosen]
    steps = select_pipeline(cfg).steps
    return list(steps) if OmegaConf.is_dict(steps) else list(range(len(steps)))


def _blocks(cfg: DictConfig) -> list[str]:
    """Return the keys that hold more keys, or point to something."""
    return [
        str(name)
        for name, child in cfg.items_ex(resolve=False)
        if OmegaConf.is_dict(child) or OmegaConf.is_interpolation(cfg, str(name))
    ]


def _explained(error: InstantiationException) -> ItwinaiError:
    """Return the component's own complaint; otherwise say which key could not be built and why."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ItwinaiError):
            return link
        link = link.__cause__
    text = str(error).replace(", set env var HYDRA_FULL_ERROR=1 to see chained exception.", ":")
    cause = get_root_cause(error)
    if cause is not error and repr(cause) not in text:
        text = f"{text}\n{cause!r}"
    return ConfigurationError(f"{text}\nSet ITWINAI_DEBUG=1 to see the traceback.")
