"""``itwinai loggers``: what loggers left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from itwinai.cli.exits import EXIT_CODES, clean_exit

if TYPE_CHECKING:
    from itwinai.loggers.syncing import Synced

app = typer.Typer(
    name="loggers",
    help="Send what loggers could not send.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("sync")
@clean_exit()
def sync_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="[FOLDER]", help="A logger's savedir, or a folder in it."),
    ] = Path("mllogs"),
) -> None:
    """Send to the tracking server what it did not take while trainings ran."""
    from itwinai.loggers.syncing import sync

    all_synced = list(map(_tell, sync(folder)))
    if not all_synced:
        typer.echo(f"{folder}: nothing is unsent")
    if not all(all_synced):
        raise typer.Exit(1)


def _tell(one: Synced) -> bool:
    """Say in a line what became of a run; return whether all of it was sent."""
    if one.sent:
        typer.echo(f"{one.folder}: sent {one.sent} to {one.service}")
    if one.refused:
        count, first = len(one.refused), one.refused[0]
        typer.echo(f"error: {one.folder}: {count} of these were refused: {first}", err=True)
    if one.why:
        left = f"{one.left} not sent: " if one.left else ""
        typer.echo(f"error: {one.folder}: {left}{one.why}", err=True)
    return not (one.refused or one.why)
