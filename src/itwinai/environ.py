"""The process, changed for the length of a block, and the environment of those that it starts."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: The variable that names what pipelines may name, besides what they may anyway; with commas.
ALLOW = "ITWINAI_ALLOW"

#: What srun, torchrun, Open MPI and the process managers beneath them tell each of their processes.
_OF_A_TASK = re.compile(
    r"SLURM_(STEP|TASK|NTASKS|NPROCS|PROCID|LOCALID|NODEID|GTIDS)|PMIX?_|OMPI_COMM_WORLD_"
    r"|TORCHELASTIC_|((LOCAL|GROUP|ROLE|NODE)_)?(RANK|WORLD_SIZE)$"
)


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables (None: remove), and put back what was there when the block ends."""
    before = {name: os.environ.get(name) for name in variables}
    _put(variables)
    try:
        yield
    finally:
        _put(before)


def as_one_process(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables without those that make a process one of several.

    What a launcher's process starts may inherit them, and take that one's rank for its own. What
    describes the job stays.
    """
    return {name: value for name, value in variables.items() if not _OF_A_TASK.match(name)}


@contextmanager
def paused_collection() -> Iterator[None]:
    """Make a million objects that stay, without looking for garbage among them all the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def kept_for_good() -> Iterator[None]:
    """Make what this process keeps until it ends, and never look for garbage in it."""
    with paused_collection():
        yield
        gc.freeze()


def _put(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
