"""The servers of MLflow and TensorBoard, which show what loggers wrote."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from itwinai.cli.exits import clean_exit
from itwinai.errors import ConfigurationError, MissingPackageError

app = typer.Typer()

LOOPBACK = ("127.0.0.1", "localhost", "::1")

#: A line of ``ps`` with a server of MLflow as it is started here: process and port.
_SERVER = re.compile(r"\s*(\d+) .* -m mlflow ui .*--port (\d+)\s*")

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")]
Host = Annotated[
    str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines see the page.")
]


@app.command("mlflow-ui")
@clean_exit()
def mlflow_ui_command(
    path: Annotated[Path, typer.Option(help="Folder that MLFlowLogger wrote.")] = Path(
        "mllogs/mlflow"
    ),
    port: Port = 5000,
    host: Host = "127.0.0.1",
) -> None:
    """Show the runs of MLflow in a browser, until interrupted (Ctrl-C)."""
    _check_mlflow()
    _check_folder(path)
    _serve_mlflow(path, host, port)


@app.command("mlflow-server")
@clean_exit()
def mlflow_server_command(
    path: Annotated[Path, typer.Option(help="Folder for the runs; made if there is none.")] = Path(
        "mllogs/mlflow"
    ),
    port: Port = 5000,
) -> None:
    """Take in and show runs of MLflow on this machine, until interrupted (Ctrl-C)."""
    _check_mlflow()
    path.mkdir(parents=True, exist_ok=True)
    _serve_mlflow(path, LOOPBACK[0], port)


@app.command("kill-mlflow-server")
@clean_exit()
def kill_mlflow_server_command(port: Port = 5000) -> None:
    """End your server of MLflow on a port, as mlflow-server and mlflow-ui start it."""
    servers = _mlflow_servers(port)
    if not servers:
        raise ConfigurationError(
            f"--port {port}: no server there that you have started with 'itwinai mlflow-server' "
            "or 'itwinai mlflow-ui'."
        )
    for pid in servers:
        os.killpg(pid, signal.SIGTERM)
        typer.echo(f"process {pid} is told to end")


@app.command("tensorboard-ui")
@clean_exit()
def tensorboard_ui_command(
    path: Annotated[Path, typer.Option(help="Folder that TensorBoardLogger wrote.")] = Path(
        "mllogs/tensorboard"
    ),
    port: Port = 6006,
    host: Host = "127.0.0.1",
) -> None:
    """Show the runs of TensorBoard in a browser, until interrupted (Ctrl-C)."""
    _check_package("tensorboard", "pip install 'itwinai[tensorboard]'")
    _check_folder(path)
    _serve(["tensorboard.main", "--logdir", str(path)], path, host, port)


def _check_mlflow() -> None:
    for name in ("mlflow", "flask"):  # mlflow-skinny has no pages
        _check_package(name, "pip install mlflow")


def _check_package(name: str, install: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise MissingPackageError(f"this page needs {name}: {install}")


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise ConfigurationError(
            f"--path {path}: there is no such folder. Give the one that the logger wrote, in its "
            "savedir."
        )


def _serve_mlflow(path: Path, host: str, port: int) -> None:
    options = ["--backend-store-uri", path.absolute().as_uri()]
    # mlflow 3 reads plain files only when asked to.
    _serve(["mlflow", "ui", *options], path, host, port, {"MLFLOW_ALLOW_FILE_STORE": "true"})


def _mlflow_servers(port: int) -> list[int]:
    """Return the user's processes that serve MLflow on a port, each the leader of its group."""
    command = ["ps", "-ww", "-U", str(os.getuid()), "-o", "pid=,args="]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise ConfigurationError("ps: this command is not here. End the server itself.") from None
    found = filter(None, map(_SERVER.fullmatch, lines.splitlines()))
    return [int(match[1]) for match in found if int(match[2]) == port]


def _serve(
    module: Sequence[str],
    path: Path,
    host: str,
    port: int,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run a module of this Python, with processes of its own, until it ends or is interrupted."""
    _check_port(host, port)
    command = [sys.executable, "-m", *module, "--host", host, "--port", str(port)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(command, env={**os.environ, **variables}, start_new_session=True)
    try:
        _tell(path, host, port)
        code = process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        return
    if code in (0, -signal.SIGTERM):
        typer.echo("ended from outside")
        return
    raise ConfigurationError(f"{module[0]} ended with code {code}; its reason is above")


def _check_port(host: str, port: int) -> None:
    """Refuse an address on which nothing can listen: MLflow then ends as if all had gone well."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        raise ConfigurationError(
            f"--host {host} --port {port}: no server can listen there: {error.strerror}. Give "
            "another --port, or --host."
        ) from error


def _tell(path: Path, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"{path}: http://{shown}:{port} (Ctrl-C ends it)")
    if host not in LOOPBACK:
        typer.echo(
            f"warning: --host {host}: whoever reaches this machine can read the page; nobody is "
            "asked for a password.",
            err=True,
        )
