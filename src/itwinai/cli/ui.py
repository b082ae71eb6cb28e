"""The pages of MLflow and TensorBoard, which show what loggers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from itwinai.cli.exits import clean_exit
from itwinai.errors import ConfigurationError

app = typer.Typer()

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
    from itwinai.loggers.serving import check_mlflow, serve_mlflow

    check_mlflow()
    _check_folder(path)
    serve_mlflow(path, host, port)


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
    from itwinai.loggers.serving import check_tensorboard, serve_tensorboard

    check_tensorboard()
    _check_folder(path)
    serve_tensorboard(path, host, port)


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise ConfigurationError(
            f"--path {path}: there is no such folder. Give the one that the logger wrote, in its "
            "savedir."
        )
