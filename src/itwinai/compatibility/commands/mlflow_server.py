"""``itwinai mlflow-server`` and ``kill-mlflow-server``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from itwinai.errors import ConfigurationError

#: A line of ``ps`` with a server of MLflow as ``serve_mlflow`` starts it: process and port.
_SERVER = re.compile(r"\s*(\d+) .* -m mlflow ui .*--port (\d+)\s*")

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")]


def mlflow_server(
    path: Annotated[Path, typer.Option(help="Folder for the runs; made if there is none.")] = Path(
        "mllogs/mlflow"
    ),
    port: Port = 5000,
) -> None:
    """Take in and show runs of MLflow on this machine, until interrupted (Ctrl-C)."""
    from itwinai.loggers.serving import LOOPBACK, check_mlflow, serve_mlflow

    check_mlflow()
    path.mkdir(parents=True, exist_ok=True)
    serve_mlflow(path, LOOPBACK[0], port)


def kill_mlflow_server(port: Port = 5000) -> None:
    """End your server of MLflow on a port, as mlflow-server and mlflow-ui start it."""
    servers = _servers(port)
    if not servers:
        raise ConfigurationError(
            f"--port {port}: no server there that you have started with 'itwinai mlflow-server' "
            "or 'itwinai mlflow-ui'."
        )
    for pid in servers:
        os.killpg(pid, signal.SIGTERM)
        typer.echo(f"process {pid} is told to end")


def _servers(port: int) -> list[int]:
    """Return the user's processes that serve MLflow on a port, each the leader of its group."""
    command = ["ps", "-ww", "-U", str(os.getuid()), "-o", "pid=,args="]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise ConfigurationError("ps: this command is not here. End the server itself.") from None
    found = filter(None, map(_SERVER.fullmatch, lines.splitlines()))
    return [int(match[1]) for match in found if int(match[2]) == port]
