"""The command ``itwinai``. Heavy imports live inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from itwinai import __version__
from itwinai.cli.check import check_command
from itwinai.cli.exec_pipeline import run_pipeline
from itwinai.cli.exits import clean_exit
from itwinai.cli.hpo import app as hpo_app
from itwinai.cli.kubernetes import app as kubernetes_app
from itwinai.cli.loggers import app as loggers_app
from itwinai.cli.slurm import app as slurm_app
from itwinai.cli.ui import app as ui_app
from itwinai.compatibility.commands import commands

app = typer.Typer(
    name="itwinai",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("check")(check_command)
app.add_typer(hpo_app)
app.add_typer(slurm_app)
app.add_typer(kubernetes_app)
app.add_typer(loggers_app)
app.add_typer(ui_app)

compatibility_app = typer.Typer()
for _name, _command in commands(check_command).items():
    compatibility_app.command(_name)(clean_exit()(_command))
app.add_typer(compatibility_app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-v", help="Show the version.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """From a PyTorch training pipeline to a distributed hyper-parameter study."""


@app.command(
    "exec-pipeline",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    options_metavar="[OPTIONS] [KEY=VALUE]...",
)
@clean_exit()
def exec_pipeline_command(context: typer.Context) -> None:
    """Run a pipeline that a YAML configuration describes.

    \b
    Which configuration:
      -cp, --config-path PATH   folder of the configuration (here)
      -cn, --config-name NAME   its file name without .yaml (config), or the URL of a file
      -cd, --config-dir PATH    one more folder to search
      --experimental-rerun FILE run a pickled configuration again

    \b
    Which pipeline, which values:
      +pipe_key=KEY             dotted key of the pipeline (training_pipeline)
      +pipe_steps=[A,B]         only these steps, by name or position
      KEY=VALUE                 set a value; +KEY=VALUE adds one, ~KEY removes one
      --strategy NAME           the same as ++strategy=NAME
      --run-name NAME           the same as ++run_name=NAME
      --allow NAME              a package or address that the configuration may name, besides
                                public classes and the modules in its own folder; may be given
                                several times, or as ITWINAI_ALLOW=A,B

    \b
    Show instead of run:
      -c, --cfg job|hydra|all   the configuration; with -p, --package KEY a part of it,
                                with --resolve its final values
      -i, --info [TOPIC]        what Hydra found where
      --hydra-help, --version   about Hydra

    \b
    How:
      -r, --run                 once (the default)
      -m, --multirun            once for each of the values KEY=A,B
      -sc, --shell-completion   install or uninstall the completion of Hydra
    """  # noqa: D301
    run_pipeline(context.args)
