"""Face of :mod:`itwinai.compatibility.slurm`, for programs written for itwinai 0.4."""

from itwinai.compatibility.slurm.configuration import (
    DEFAULT_PY_SPY_DIR,
    DEFAULT_SLURM_LOG_DIR,
    DEFAULT_SLURM_SAVE_DIR,
)

__all__ = ["DEFAULT_PY_SPY_DIR", "DEFAULT_SLURM_LOG_DIR", "DEFAULT_SLURM_SAVE_DIR"]
