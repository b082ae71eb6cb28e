"""``itwinai download-mlflow-data`` and ``generate-scalability-report``: what MLflow's runs say."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from itwinai.compatibility.commands.experiments import LoggedRun

_COLUMNS = ("run_id", "run_name", "metric", "value", "step", "timestamp_ms")

TrackingUri = Annotated[
    str,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI", help="A server, or the folder that MLFlowLogger wrote."
    ),
]


def download_mlflow_data(
    experiment_id: Annotated[str, typer.Option(help="Whose runs.")],
    tracking_uri: TrackingUri = "mllogs/mlflow",
    output_file: Annotated[Path, typer.Option(metavar="FILE", help="The file.")] = Path(
        "mlflow_data.csv"
    ),
) -> None:
    """Write all that the runs of an experiment logged to a CSV file, a line for each value."""
    from itwinai.compatibility.commands.experiments import Experiments
    from itwinai.io.files import write_text

    runs = list(Experiments(tracking_uri).runs(experiment_id))
    write_text(output_file, _as_csv(runs))
    values = sum(len(run.measurements) for run in runs)
    typer.echo(f"{output_file}: {values} values of {len(runs)} runs")


def generate_scalability_report(
    experiment_name: Annotated[str, typer.Option(help="Whose runs.")],
    tracking_uri: TrackingUri = "mllogs/mlflow",
    run_names: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only the runs of these names.")
    ] = None,
    plot_dir: Annotated[Path, typer.Option(metavar="FOLDER", help="For the pictures.")] = Path(
        "plots"
    ),
    plot_file_suffix: Annotated[str, typer.Option(help="Form of the pictures.")] = ".png",
    include_communication: Annotated[
        bool, typer.Option("--include-communication", help="Not measured; a profile shows it.")
    ] = False,
    no_warnings: Annotated[
        bool, typer.Option("--no-warnings", help="Do without warnings.")
    ] = False,
) -> None:
    """Show how the time of an epoch falls with the number of workers, for each strategy."""
    from itwinai.compatibility.commands.experiments import Experiments
    from itwinai.compatibility.commands.scalability import EPOCH_TIME, draw, scales, table_of_scales
    from itwinai.hpo.display import show

    experiments = Experiments(tracking_uri)
    runs = experiments.runs(experiments.id_of(experiment_name), EPOCH_TIME)
    wanted = None if run_names is None else [name.strip() for name in run_names.split(",")]
    found = scales(runs, wanted)
    if include_communication and not no_warnings:
        typer.echo(
            "warning: --include-communication: communication is not in the report. "
            "enable_torch_profiling of a TorchTrainer shows it.",
            err=True,
        )
    show(table_of_scales(found))
    for picture in draw(found, plot_dir, plot_file_suffix):
        typer.echo(picture)


def _as_csv(runs: Sequence[LoggedRun]) -> str:
    params = sorted({name for run in runs for name in run.params})
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow([*_COLUMNS, *(f"params.{name}" for name in params)])
    for run in runs:
        values = [run.params.get(name, "") for name in params]
        for point in run.measurements:
            row = [run.run_id, run.name, point.metric, point.value, point.step, point.timestamp]
            lines.writerow([*row, *values])
    return text.getvalue()
