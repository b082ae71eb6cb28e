"""``itwinai mlflow-ui`` and ``itwinai tensorboard-ui``: the pages that show what loggers wrote."""

from __future__ import annotations

import importlib.util
import os
import signal
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
    _check(path, ("mlflow", "flask"), "pip install mlflow")  # mlflow-skinny has no pages
    options = ["--backend-store-uri", path.absolute().as_uri()]
    # mlflow 3 reads plain files only when asked to.
    _serve(["mlflow", "ui", *options], path, host, port, {"MLFLOW_ALLOW_FILE_STORE": "true"})


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
    _check(path, ("tensorboard",), "pip install 'itwinai[tensorboard]'")
    _serve(["tensorboard.main", "--logdir", str(path)], path, host, port)


def _check(path: Path, packages: Sequence[str], install: str) -> None:
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(f"this page needs {name}: {install}")
    if not path.is_dir():
        raise ConfigurationError(
            f"--path {path}: there is no such folder. Give the one that the logger wrote, in its "
            "savedir."
        )


def _serve(
    module: Sequence[str],
    path: Path,
    host: str,
    port: int,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run a module of this Python, with processes of its own, until it ends or is interrupted."""
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
    raise ConfigurationError(
        f"{module[0]} ended with code {code}; its reason is above. If port {port} is taken, give "
        "another --port."
    )


def _tell(path: Path, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"{path}: http://{shown}:{port} (Ctrl-C ends it)")
    if host not in LOOPBACK:
        typer.echo(
            f"warning: --host {host}: whoever reaches this machine can read the page; nobody is "
            "asked for a password.",
            err=True,
        )
