"""What is believed of hyper-parameters before any trial has told."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.search.multifidelity.encoding import SearchSpaceLike
from itwinai.hpo.space import Float, Parameter

Array = NDArray[np.float64]

#: Normal priors, mean and deviation, on the logarithm of a length scale in units of the parameter's
#: range. Of all hyper-parameters the learning rate alone is known to need a short one: regressions
#: over the whole tables of the efficacy benchmark give 0.2 to 0.5 for it, 0.25 to 5 for the others.
_LEARNING_RATE = (math.log(0.3), 0.4)
_OTHER = (math.log(1.5), 0.8)


def length_priors(space: SearchSpaceLike) -> Array:
    """Return the priors (d, 2) on the logarithms of the length scales: means and deviations."""
    return np.array(
        [_LEARNING_RATE if _is_learning_rate(name, p) else _OTHER for name, p in space.items()]
    )


def equal_priors(space: SearchSpaceLike) -> Array:
    """Return priors (d, 2) that know of no difference between the hyper-parameters."""
    return np.array([_OTHER for _ in space.items()])


def _is_learning_rate(name: str, parameter: Parameter) -> bool:
    if not (isinstance(parameter, Float) and parameter.log):
        return False
    words = re.findall(r"[a-z]+", name.lower())
    return "lr" in words or "learningrate" in "".join(words)
