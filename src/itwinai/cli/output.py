"""What commands write: text for people, or one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import typer

from itwinai.errors import visible


@contextmanager
def messages_aside(as_json: bool) -> Iterator[None]:
    """Send what is meant for people to standard error, where standard output is to be JSON."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def put_text(text: str, output: Path | None) -> None:
    """Write a text to a file, or to standard output."""
    from itwinai.io.files import write_text

    if output is None:
        typer.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
    else:
        write_text(output, text)


def write_json(content: Any) -> None:
    """Write the one JSON document of a command."""
    from itwinai.hpo.record import plain

    typer.echo(json.dumps(plain(content), allow_nan=False))
