"""How a command ends when it cannot go on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from itwinai.errors import ItwinaiError, notes_of, visible, with_notes
from itwinai.frames import SEE_ALL, headline, own_frames
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
    """End an error with a message and code 1, an interruption with 130, a job with 75.

    Also a decorator. With ``ITWINAI_DEBUG=1`` the error goes on, traceback and all, and always if
    it is neither one of itwinai, nor out of the user's own code, nor about a file, or comes up in a
    batch job, which nobody likes to repeat for a traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except JobEnds as end:
        typer.echo(end.message, err=True)
        raise
    except Exception as error:
        told = _told(error)
        if not told or os.environ.get("ITWINAI_DEBUG") == "1":
            raise
        typer.echo(f"error: {visible(told)}", err=True)
        raise SystemExit(130 if isinstance(error, StudyInterrupted) else 1) from None


def _told(error: Exception) -> str:
    """What the user is told of an error; empty if only its traceback tells enough."""
    if isinstance(error, ItwinaiError):
        return with_notes(str(error), notes_of(error))
    if "SLURM_JOB_ID" in os.environ:
        return ""
    frames = own_frames(error)
    if frames:
        return with_notes(headline(error), [*notes_of(error), *frames, SEE_ALL])
    if isinstance(error, OSError) and error.filename is not None:
        return with_notes(f"{error.filename}: {error.strerror}", [SEE_ALL])
    return ""
