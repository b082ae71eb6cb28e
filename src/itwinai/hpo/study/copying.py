"""Population based training: the copy of a good member that takes a poor one's place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from itwinai.hpo.space import Float, Integer, SearchSpace

#: Probability that a value is drawn anew, and how far it moves otherwise.
_RESAMPLE, _STEP = 0.25, 0.1


def perturbed(
    space: SearchSpace, params: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    """Change a member's values a little (Jaderberg et al. 2017, section 4.1.1: explore).

    Each is drawn anew with probability 0.25; otherwise a number moves by a tenth of its (maybe
    logarithmic) range, a step at least, and a category stays.
    """
    values: dict[str, Any] = {}
    for name, parameter in space.items():
        if not space.exists(name, values):
            continue
        known = name in params and parameter.contains(params[name])
        if not known or rng.random() < _RESAMPLE:
            values[name] = parameter.at(rng.random())
        elif isinstance(parameter, Float | Integer):
            values[name] = _moved(parameter, params[name], int(rng.choice([-1, 1])))
        else:
            values[name] = params[name]
    return values if space.feasible(values) else space.sample(rng) or values


def _moved(parameter: Float | Integer, value: Any, direction: int) -> Any:
    place = parameter.position(value) + direction * _STEP
    moved = parameter.at(float(np.clip(place, 0, 1)))
    if moved != value or parameter.step is None:
        return moved
    return parameter.nearest(value + direction * parameter.step)


def copy_checkpoint(checkpoint: Path, directory: Path) -> str | None:
    """Copy a checkpoint into another trial's folder, where that trial's own ones replace it."""
    if not checkpoint.exists():
        return None
    target = directory / checkpoint.name
    shutil.copytree(checkpoint, target, dirs_exist_ok=True)
    return str(target)
