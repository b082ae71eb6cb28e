"""What a trial's process tells its slot: a report, the end, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from itwinai.hpo.engine.energy import Energy
from itwinai.reporting import END_OF_EPOCH, Progress

#: What a note is about, and its text.
Note = tuple[str, str]


@dataclass(frozen=True)
class Reported:
    """An epoch has ended, or a part of one.

    Attributes:
        metrics: By name.
        checkpoint: Folder of the newest checkpoint, or None.
        progress: How far the training has come.
        notes: What the user should know, since the last report.
        energy: What was used so far, where that can be measured.
    """

    metrics: Mapping[str, float]
    checkpoint: str | None = None
    progress: Progress = END_OF_EPOCH
    notes: tuple[Note, ...] = ()
    energy: Energy | None = None


@dataclass(frozen=True)
class Ended:
    """The training has ended of itself, or because it was told to.

    Attributes:
        energy: What was used, where that can be measured.
    """

    energy: Energy | None = None


@dataclass(frozen=True)
class Raised:
    """The training raised an error.

    Attributes:
        kind: The error's class name.
        message: Its text.
        log: Name of the file, in the trial's folder, that holds the traceback, or None.
        rank: Of several processes, the one that raised.
        out_of_memory: Whether there was too little memory.
        spoilt: Whether the process is unfit for further trials.
        lacking: Whether the machine lacked something (space, a file system, ...), through no fault
            of the training.
        energy: What was used, where that can be measured.
    """

    kind: str
    message: str
    log: str | None = None
    rank: int | None = None
    out_of_memory: bool = False
    spoilt: bool = False
    lacking: bool = False
    energy: Energy | None = None


Event = Reported | Ended | Raised
