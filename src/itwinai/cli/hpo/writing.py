"""``itwinai hpo export``, ``report`` and ``schema``: files for others."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from itwinai.cli.exits import clean_exit
from itwinai.cli.hpo.opening import best_of, load
from itwinai.cli.hpo.options import AsJson, StudyFolder, complete_study
from itwinai.cli.output import put_text, write_json

if TYPE_CHECKING:
    from itwinai.hpo.record import StudyResult


class Format(str, Enum):
    """Formats of ``export``."""

    CSV = "csv"
    PARQUET = "parquet"
    CONFIG = "config"
    OPTUNA = "optuna"


#: What the name of the file says where no format is given; anything else is CSV.
_BY_SUFFIX = {
    ".yaml": Format.CONFIG,
    ".yml": Format.CONFIG,
    ".parquet": Format.PARQUET,
    ".db": Format.OPTUNA,
}


@clean_exit()
def export_command(
    study: StudyFolder,
    format: Annotated[  # noqa: A002
        Format | None,
        typer.Option(
            help="csv, parquet: a row per trial. config: a configuration that trains the best "
            "with 'itwinai exec-pipeline'. optuna: a database in SQLite. Without it the file's "
            "name says which: .parquet, .yaml, .db; otherwise csv."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; csv and config also without."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study for other programs."""
    from itwinai.hpo.record import csv_text, export_study

    if format is None:
        format = _BY_SUFFIX.get("" if output is None else output.suffix, Format.CSV)  # noqa: A001
    is_text = format in (Format.CSV, Format.CONFIG)
    if output is None and (as_json or not is_text):
        raise typer.BadParameter("say which file to write: -o FILE")
    result = load(study)
    if format is Format.CONFIG:
        put_text(_best_config(study, result), output)
    elif output is None:
        put_text(csv_text(result), output)
    else:
        export_study(result, format.value, output)
    if as_json:
        write_json({"study": result.name, "format": format.value, "file": str(output)})


@clean_exit()
def report_command(
    studies: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY...", help="The studies' folders.", autocompletion=complete_study
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "report.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Write a page of HTML about a study, or several side by side; also while they run."""
    from itwinai.hpo.report import report_study

    results = [load(study) for study in studies]
    report_study(*results, file=output)
    if as_json:
        write_json({"studies": [result.name for result in results], "file": str(output)})
    else:
        typer.echo(f"{output} is written; open it in a browser")


@clean_exit()
def schema_command(as_json: AsJson = False) -> None:
    """Write the JSON schema of 'study' and 'search_space', for editors."""
    from itwinai.hpo.space import json_schema

    typer.echo(json.dumps(json_schema(), indent=None if as_json else 2))


def _best_config(study: Path, result: StudyResult) -> str:
    from omegaconf import OmegaConf

    from itwinai.cli.kept import KeptPipeline
    from itwinai.cli.retrain import program

    best = best_of(result)
    with KeptPipeline.read(study).going_on().in_place() as kept:
        config = kept.without_study(best.params, best.seed)
    head = f"# Trains the best configuration of study {result.name!r}, that of trial {best.number}."
    workers = 1 if result.setup is None else result.setup.workers
    if workers > 1:  # one process would see smaller batches
        start = " ".join(program(workers))
        head += f"\n# {workers} processes trained it together, as in {start} exec-pipeline"
    return f"{head}\n{OmegaConf.to_yaml(config)}"
