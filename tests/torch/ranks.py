"""Processes that train together, started as torchrun starts them but for its own three seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile


def run_ranks(
    program: Path, *arguments: str, ranks: int = 2, timeout: float = 240, folder: Path | None = None
) -> None:
    """Run a program on so many ranks, one of which is a process without any variable of torchrun.

    Args:
        program: What each runs.
        arguments: Its arguments.
        ranks: How many.
        timeout: Seconds that each may take.
        folder: Where it works; None: here.

    Raises:
        AssertionError: With what it wrote, if one fails.
    """
    command = [sys.executable, str(program), *arguments]
    variables = [{}] if ranks == 1 else _variables(ranks)
    with TemporaryFile("w+") as errors:
        processes = [
            subprocess.Popen(
                command, cwd=folder, env={**os.environ, **one}, stdout=errors, stderr=errors
            )
            for one in variables
        ]
        try:
            codes = [process.wait(timeout) for process in processes]
        finally:
            for process in processes:
                process.kill()
        errors.seek(0)
        assert codes == [0] * ranks, errors.read()[-4000:]


def _variables(ranks: int) -> Sequence[dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        {**together, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)
    ]
