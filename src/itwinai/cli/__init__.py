"""The command line, and what of it Python programs call."""

from itwinai.cli.exec_pipeline import exec_pipeline, exec_pipeline_with_compose
from itwinai.cli.main import app
from itwinai.compatibility.commands.slurm import generate_slurm

__all__ = ["app", "exec_pipeline", "exec_pipeline_with_compose", "generate_slurm"]
