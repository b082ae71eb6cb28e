"""Who proposes: search algorithms by name, and the default one in ``multifidelity``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.search.algorithms import ALGORITHMS, Algorithm, Task, build_algorithm
    from itwinai.hpo.search.multifidelity import Observation

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Observation",
    "Task",
    "build_algorithm",
]

__getattr__ = lazily(
    __name__,
    {
        "algorithms": "ALGORITHMS Algorithm Task build_algorithm",
        "multifidelity": "Observation",
    },
)
