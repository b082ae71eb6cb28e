"""The command that trains a study's best configuration once more, without the study."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from itwinai.cli.kept import STUDY_KEYS, KeptPipeline, steps_by_path, studies_in

#: A dotted path as Hydra's overrides take it.
_KEY = re.compile(r"(?:[a-z_][\w-]*|\d+)(?:\.(?:[a-z_][\w-]*|\d+))*", re.ASCII | re.IGNORECASE)


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
        kept = KeptPipeline("", Path(), (), cfg).of_step(path, step)
        values = {kept.place_of(name): value for name, value in result.best.params.items()}
        if all(_is_key(cfg, f"{path}.{place}") for place in values):
            step_cfg = OmegaConf.select(cfg, path)
            given = [*args, *_others_go_on(cfg, path)]
            workers = 1 if result.setup is None else result.setup.workers
            command = retrain_command(given, path, step_cfg, values, workers)
            hints.append(f"To train the best configuration of '{path}':\n{command}")
        else:
            hints.append(_edit_hint(path, values))
    return hints


def _others_go_on(cfg: DictConfig, path: str) -> list[str]:
    """Overrides with which the other studies of the pipeline, which exist now, are not refused."""
    others = [other for other in studies_in(cfg) if other != path]
    return [f"++{o}.study.resume=true" for o in others if _can_be_overridden(cfg, f"{o}.study")]


def retrain_command(
    args: Sequence[str],
    path: str,
    present: Collection[Any],
    values: Mapping[str, Any],
    workers: int = 1,
) -> str:
    """Return the shell command that trains once with given hyper-parameters.

    Args:
        args: Arguments of the study's own run, after ``itwinai exec-pipeline``.
        path: Dotted path of the trainer in the configuration.
        present: The keys that the trainer's configuration holds.
        values: Hyper-parameters, by their places below the trainer.
        workers: Processes that trained each trial together.
    """
    without_study = [f"{path}.{key}=null" for key in STUDY_KEYS if key in present]
    overrides = [f"++{path}.{place}={_literal(value)}" for place, value in values.items()]
    return shlex.join([*program(workers), "exec-pipeline", *args, *without_study, *overrides])


def program(workers: int) -> list[str]:
    """How so many processes of this machine are started to train together."""
    several = ["torchrun", "--nproc_per_node", str(workers), "-m", "itwinai"]
    return several if workers > 1 else ["itwinai"]


def _is_key(cfg: DictConfig, path: str) -> bool:
    """Tell whether an override can set this value, whose name may be none for Hydra."""
    return bool(_KEY.fullmatch(path)) and _can_be_overridden(cfg, path.rpartition(".")[0])


def _can_be_overridden(cfg: DictConfig, path: str) -> bool:
    """Tell whether there are keys at the path, and no interpolation lies on it.

    An override would replace all of that.
    """
    node: Any = cfg
    for part in path.split("."):
        key = int(part) if OmegaConf.is_list(node) else part
        if OmegaConf.is_dict(node) and key not in node.keys():  # noqa: SIM118 - even one unresolved
            return True
        if OmegaConf.is_interpolation(node, key):
            return False
        node = node[key]
        if not OmegaConf.is_config(node):
            return not isinstance(node, str)
    return True


def _edit_hint(path: str, values: Mapping[str, Any]) -> str:
    told = ", ".join(f"{place}: {_literal(value)}" for place, value in values.items())
    return (
        f"To train the best configuration of '{path}', set this below it in the YAML file and "
        f"remove its search space and study: {told}"
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
