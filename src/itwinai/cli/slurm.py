"""``itwinai slurm``: a training or a study as jobs of Slurm, from one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from itwinai.cli.exits import EXIT_CODES, clean_exit
from itwinai.cli.output import write_json

if TYPE_CHECKING:
    from itwinai.slurm.config import SlurmConfiguration
    from itwinai.slurm.status import RunStatus

app = typer.Typer(
    name="slurm",
    help="Submit, watch and cancel trainings and studies as jobs of Slurm.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)

Config = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The job's configuration.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values to use instead, as in nodes=4"),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="NAME", help="A package or address that pipelines of the job may name."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]

_DEFAULT = Path("slurm.yaml")


@app.command("script")
@clean_exit()
def script_command(
    config: Config = _DEFAULT, overrides: Overrides = None, allow: Allow = None
) -> None:
    """Write the job's script to standard output, and submit nothing."""
    from itwinai.config.allowing import allowed_names
    from itwinai.slurm.script import render

    names = allowed_names(allow or ())
    typer.echo(render(_load(config, overrides), names), nl=False)


@app.command("submit")
@clean_exit()
def submit_command(
    config: Config = _DEFAULT,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an earlier job has left.")
    ] = False,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """Submit the job; where its time limit cuts it off, the next one goes on."""
    from itwinai.config.allowing import allowed_names
    from itwinai.slurm.submission import log_of, script_of, submit

    configuration = _load(config, overrides)
    job = submit(configuration, resume, allowed_names(allow or ()))
    log, script = log_of(configuration, job), script_of(configuration)
    if as_json:
        write_json({"job": job, "log": str(log), "script": str(script)})
        return
    typer.echo(f"job {job} is submitted")
    typer.echo(f"log     {log}")
    typer.echo(f"script  {script}")


@app.command("status")
@clean_exit()
def status_command(
    config: Config = _DEFAULT, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Show the job, those that go on with it, and how far the study is."""
    from itwinai.slurm.status import status_of

    status = status_of(_load(config, overrides))
    if as_json:
        write_json(
            {
                **vars(status),
                "jobs": [vars(job) for job in status.jobs],
                "log": str(status.log),
                "studies": [vars(study) for study in status.studies],
            }
        )
    else:
        _show(status)


@app.command("cancel")
@clean_exit()
def cancel_command(
    config: Config = _DEFAULT, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Cancel the job and those that would go on with it; what was trained stays."""
    from itwinai.slurm.submission import cancel

    jobs = cancel(_load(config, overrides))
    if as_json:
        write_json({"cancelled": jobs})
    elif jobs:
        typer.echo(f"cancelled: {', '.join(jobs)}")
    else:
        typer.echo("nothing to cancel: all jobs are over")


def _load(config: Path, overrides: list[str] | None) -> SlurmConfiguration:
    from itwinai.slurm.config import load

    return load(config, overrides or [])


def _show(status: RunStatus) -> None:
    from itwinai.hpo.display import show, table, table_of_studies

    rows = [[j.job, j.state.lower(), j.elapsed, j.left, j.nodes, j.reason] for j in status.jobs]
    show(table(["job", "state", "elapsed", "left", "nodes", "reason"], rows))
    if status.studies:
        show(table_of_studies(status.studies))
    typer.echo(f"log            {status.log}")
    typer.echo(f"continuations  {status.continuations} left")
