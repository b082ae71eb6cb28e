"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_study(incomplete: str) -> list[str]:
    """Complete the folder of a study in a shell."""
    folders = [path.parent for path in Path("studies").glob("*/record.log")]
    return [str(folder) for folder in folders if str(folder).startswith(incomplete)]


StudyFolder = Annotated[
    Path,
    typer.Argument(metavar="STUDY", help="The study's folder.", autocompletion=complete_study),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Write JSON to standard output, messages to standard error."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="NAME", help="A package or address that the pipeline may name, too."
    ),
]
