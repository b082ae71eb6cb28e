"""Where scripts and logs go in programs written for itwinai 0.4."""

from __future__ import annotations

DEFAULT_SLURM_LOG_DIR = "slurm-job-logs"
DEFAULT_SLURM_SAVE_DIR = "slurm-scripts"
DEFAULT_PY_SPY_DIR = "py-spy-output"
