"""How a command ends when it cannot go on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from itwinai.errors import ItwinaiError
from itwinai.hpo.errors import StudyInterrupted
from itwinai.job import JobEnds

#: For the help of a group of commands; a group with more of them adds lines.
EXIT_CODES = """\
\b
Exit codes:
  0    done
  1    refused or failed; the reason is on standard error
  2    the command line is wrong
"""

#: Exit code of a repeated trial that was not the same.
DIFFERED = 3


@contextmanager
def clean_exit() -> Iterator[None]:
    """End an expected error with a message and code 1, an interruption with 130, a job with 75.

    Also a decorator. With ``ITWINAI_DEBUG=1`` the error goes on, traceback and all.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except JobEnds as end:
        typer.echo(end.message, err=True)
        raise
    except ItwinaiError as error:
        if os.environ.get("ITWINAI_DEBUG") == "1":
            raise
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(130 if isinstance(error, StudyInterrupted) else 1) from None
