"""The command that trains a study's best configuration once more, without the study."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from itwinai.cli.kept import STUDY_KEYS, places_of, steps_by_path


def retrain_hints(cfg: DictConfig, args: Sequence[str], pipeline: Any) -> list[str]:
    """Say for each step that ran a study how to train its best configuration.

    Args:
        cfg: The whole configuration of the run.
        args: The run's arguments, after ``itwinai exec-pipeline``.
        pipeline: The pipeline that ran.
    """
    hints = []
    for path, step in steps_by_path(cfg, pipeline).items():
        result = getattr(step, "study_result", None)
        if result is None or result.best is None:
            continue
        places = places_of(step)
        params = {places.get(name, name): value for name, value in result.best.params.items()}
        if _can_be_overridden(cfg, f"{path}.config"):
            step_cfg = OmegaConf.select(cfg, path)
            command = retrain_command(args, path, step_cfg, params)
            hints.append(f"To train the best configuration of '{path}':\n{command}")
        else:
            hints.append(_edit_hint(path, params))
    return hints


def retrain_command(
    args: Sequence[str], path: str, present: Collection[Any], params: Mapping[str, Any]
) -> str:
    """Return the shell command that trains once with given hyper-parameters.

    Args:
        args: Arguments of the study's own run, after ``itwinai exec-pipeline``.
        path: Dotted path of the trainer in the configuration.
        present: The keys that the trainer's configuration holds.
        params: Hyper-parameters, which become keys of the trainer's ``config``.
    """
    without_study = [f"{path}.{key}=null" for key in STUDY_KEYS if key in present]
    values = [f"++{path}.config.{name}={_literal(value)}" for name, value in params.items()]
    return shlex.join(["itwinai", "exec-pipeline", *args, *without_study, *values])


def _can_be_overridden(cfg: DictConfig, path: str) -> bool:
    """Tell whether there are keys at the path, and no interpolation lies on it.

    An override would replace all of that.
    """
    node: Any = cfg
    for part in path.split("."):
        key = int(part) if OmegaConf.is_list(node) else part
        if OmegaConf.is_interpolation(node, key):
            return False
        node = node.get(key)
        if not OmegaConf.is_config(node):
            return not isinstance(node, str)
    return True


def _edit_hint(path: str, params: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name}: {_literal(value)}" for name, value in params.items())
    return (
        f"To train the best configuration of '{path}', put this into its config: in the YAML "
        f"file and remove its search space and study: {values}"
    )


def _literal(value: Any) -> str:
    """Write a value in the grammar of Hydra's overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_literal, value)) + "]"
    return QuotedString(text=str(value), quote=Quote.double).with_quotes()
