"""Studies of any function that reports numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.functions.program import FunctionProgram
    from itwinai.hpo.functions.states import load_checkpoint
    from itwinai.hpo.functions.step import FunctionTrainer
    from itwinai.hpo.functions.trial import Trial
    from itwinai.hpo.functions.tuning import tune

__all__ = ["FunctionProgram", "FunctionTrainer", "Trial", "load_checkpoint", "tune"]

__getattr__ = lazily(
    __name__,
    {
        "program": "FunctionProgram",
        "states": "load_checkpoint",
        "step": "FunctionTrainer",
        "trial": "Trial",
        "tuning": "tune",
    },
)
