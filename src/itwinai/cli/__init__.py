"""The command line, and its pipeline runner for use from Python."""

from itwinai.cli.exec_pipeline import exec_pipeline, exec_pipeline_with_compose
from itwinai.cli.main import app

__all__ = ["app", "exec_pipeline", "exec_pipeline_with_compose"]
