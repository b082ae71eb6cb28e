"""What a program knows of the batch job that it runs in, from variables of the job's script.

``ITWINAI_STOP_FILE`` names a file; once it exists, the job's time is nearly over, and SIGTERM says
the same. ``ITWINAI_STOP_AT`` says when that will be, in seconds since 1970. ``ITWINAI_RUN``
identifies the work over all jobs that it takes: what an earlier job of the same run has left is
continued, and nothing else is.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

STOP_FILE = "ITWINAI_STOP_FILE"
STOP_AT = "ITWINAI_STOP_AT"
RUN = "ITWINAI_RUN"

#: Exit code of a program that ended before its work did, because its job asked for it; the same
#: program goes on in the next job. Known as EX_TEMPFAIL.
UNFINISHED = 75

#: How many trainings of this process have kept their checkpoints in a folder.
_trainings: Counter[Path] = Counter()

#: Set by a signal, in this process.
_signalled = threading.Event()


class JobEnds(SystemExit):
    """Ends the program, which has kept all that the next job needs to go on.

    Its exit code is 75. Processes that torchrun started end with 0, as it would report any other
    code as a failure; so the script that started them looks for the file ``<stop file>.met``.

    Args:
        message: What was done, and how it goes on.
    """

    def __init__(self, message: str) -> None:
        super().__init__(0 if "TORCHELASTIC_RUN_ID" in os.environ else UNFINISHED)
        self.message = message
        file = _stop_file()
        if file is not None:
            file.with_name(file.name + ".met").touch()


def may_stop() -> bool:
    """Whether this program runs in a job that can ask it to stop."""
    return _stop_file() is not None


def stop_requested() -> bool:
    """Whether the job asks its program to stop."""
    file = _stop_file()
    return file is not None and (_signalled.is_set() or file.exists())


def seconds_left() -> float | None:
    """Seconds until the job will ask its program to stop; None where nobody has said."""
    stops_at = os.environ.get(STOP_AT, "")
    return float(stops_at) - time.time() if may_stop() and stops_at.isdigit() else None


def variables() -> dict[str, str]:
    """The variables, for processes that do not inherit them."""
    return {name: os.environ[name] for name in (STOP_FILE, STOP_AT, RUN) if name in os.environ}


def run_id() -> str | None:
    """What identifies the work over all its jobs; None outside of such a job."""
    return os.environ.get(RUN) or None


def run_in(folder: Path) -> str | None:
    """What identifies the next training that keeps its checkpoints in a folder, over all jobs.

    Those of one program are told apart by their order.

    Returns:
        None outside of such a job.
    """
    run = run_id()
    if run is None:
        return None
    _trainings[folder.absolute()] += 1
    number = _trainings[folder.absolute()]
    return run if number == 1 else f"{run}-{number}"


@contextmanager
def listening() -> Iterator[None]:
    """In a job, take SIGTERM as the request to stop for the length of a block."""
    if not may_stop() or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _hear(number: int, frame: FrameType | None) -> None:
    _signalled.set()


def _stop_file() -> Path | None:
    name = os.environ.get(STOP_FILE)
    return Path(name) if name else None
