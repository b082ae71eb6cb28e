"""The servers of MLflow and TensorBoard, whose pages show what loggers wrote."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import typer

from itwinai.errors import ConfigurationError, MissingPackageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_mlflow() -> None:
    """Refuse to go on without the packages that MLflow's pages need.

    Raises:
        MissingPackageError: If one is not installed.
    """
    for name in ("mlflow", "flask"):  # mlflow-skinny has no pages
        _check_package(name, "pip install mlflow")


def check_tensorboard() -> None:
    """Refuse to go on without TensorBoard.

    Raises:
        MissingPackageError: If it is not installed.
    """
    _check_package("tensorboard", "pip install 'itwinai[tensorboard]'")


def serve_mlflow(path: Path, host: str, port: int) -> None:
    """Take in and show the runs of a folder, until interrupted.

    Raises:
        ConfigurationError: If no server can listen there, or it fails.
    """
    options = ["--backend-store-uri", path.absolute().as_uri()]
    # mlflow 3 reads plain files only when asked to.
    _serve(["mlflow", "ui", *options], path, host, port, {"MLFLOW_ALLOW_FILE_STORE": "true"})


def serve_tensorboard(path: Path, host: str, port: int) -> None:
    """Show the runs of a folder, until interrupted.

    Raises:
        ConfigurationError: If no server can listen there, or it fails.
    """
    _serve(["tensorboard.main", "--logdir", str(path)], path, host, port)


def _check_package(name: str, install: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise MissingPackageError(f"this page needs {name}: {install}")


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
