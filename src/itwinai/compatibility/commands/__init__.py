"""Commands of itwinai 0.4 that are here for its users alone."""

from __future__ import annotations

from collections.abc import Callable

from itwinai.compatibility.commands.checks import as_check_distributed_cluster, sanity_check
from itwinai.compatibility.commands.mlflow_runs import (
    download_mlflow_data,
    generate_scalability_report,
)
from itwinai.compatibility.commands.mlflow_server import kill_mlflow_server, mlflow_server
from itwinai.compatibility.commands.slurm import generate_slurm, run


def commands(check: Callable[[], None]) -> dict[str, Callable[..., None]]:
    """Return each command by its name.

    Args:
        check: What ``itwinai check`` does.
    """
    return {
        "sanity-check": sanity_check,
        "check-distributed-cluster": as_check_distributed_cluster(check),
        "generate-slurm": generate_slurm,
        "run": run,
        "mlflow-server": mlflow_server,
        "kill-mlflow-server": kill_mlflow_server,
        "download-mlflow-data": download_mlflow_data,
        "generate-scalability-report": generate_scalability_report,
    }
