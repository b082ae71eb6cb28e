"""``itwinai kubernetes``: a study as a RayJob, from one YAML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from itwinai.cli.exits import clean_exit

app = typer.Typer(
    name="kubernetes",
    help="Write the manifest of a study for the KubeRay operator.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def main() -> None:
    """Write the manifest of a study for the KubeRay operator."""


@app.command("manifest")
@clean_exit()
def manifest_command(
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The study's configuration.")
    ] = Path("kubernetes.yaml"),
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Values to use instead, as in nodes=4"),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="NAME", help="A package or address that the pipeline may name."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of YAML.")] = False,
) -> None:
    """Write a RayJob to standard output; 'kubectl apply -f -' takes it."""
    from itwinai.config.allowing import allowed_names
    from itwinai.config.writing import as_yaml
    from itwinai.kubernetes import load, manifest

    content = manifest(load(config, overrides or []), allowed_names(allow or ()))
    typer.echo(json.dumps(content) if as_json else as_yaml(content))
