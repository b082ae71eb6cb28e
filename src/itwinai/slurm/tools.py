"""Slurm's own commands: argument lists in, text out, within a time limit."""

from __future__ import annotations

import os
import re
import subprocess

from itwinai.environ import as_one_process
from itwinai.errors import ItwinaiError

_PATIENCE_S = 60


class SlurmError(ItwinaiError):
    """Slurm is not here, does not answer, or refused something."""


class RefusedError(SlurmError):
    """A command of Slurm ended with an error; its text is in ``reason``."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def run_tool(name: str, *arguments: str) -> str:
    """Run one of Slurm's commands; return what it writes.

    What it makes belongs to the user alone, as do the files of a job that it submits. Such a job
    inherits this process's environment, but not its rank.

    Raises:
        RefusedError: If it ended with an error.
        SlurmError: If it is not there, or gives no answer.
    """
    try:
        done = subprocess.run(
            [name, *arguments],
            env=as_one_process(os.environ),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            umask=0o077,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmError(
            f"{name}: this command of Slurm is not here. Use a login node of the cluster; "
            "'itwinai slurm script' writes the script without it."
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{name}: no answer within {_PATIENCE_S} s, so Slurm is busy or out of reach. Look "
            "with 'itwinai slurm status' before you try again."
        ) from None
    if done.returncode != 0:
        lines = [
            re.sub(rf"^{name}: (error|fatal): ", "", line) for line in done.stderr.splitlines()
        ]
        reason = "; ".join(filter(None, lines)) or f"it ended with code {done.returncode}"
        raise RefusedError(f"{name}: {reason}", reason)
    return done.stdout
