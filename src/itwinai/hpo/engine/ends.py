"""How trials end without a result: what an error, or a process that is gone, tells."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from itwinai.errors import text_of
from itwinai.hpo.engine.deadline import FILE_NAME as HUNG
from itwinai.hpo.trial import TrialState
from itwinai.io.files import why_unusable

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from itwinai.hpo.engine.events import Raised

End = tuple[TrialState, str]

#: Errors of too little memory, by name because nothing here imports torch.
_MEMORY = {"MemoryError", "OutOfMemoryError"}

#: PyTorch's allocator on the CPU, and the operating system, say it in words alone.
_NO_MEMORY = "allocate memory"

#: Errors of the system that tell of the machine, not of the program.
_LACKS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EMFILE,
    errno.ENFILE,
}

#: Of these a process has its own share, which a new one does not need to have used up.
_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}

#: The same in the words of libraries that tell no number; the last are PyTorch's, of a file that it
#: could not write whole. What it cannot read may be the program's own fault.
_LACKS_IN_WORDS = (
    *(os.strerror(number) for number in _LACKS),
    *("PytorchStreamWriter failed", "unexpected pos "),
)

#: Errors after which CUDA refuses everything in the same process.
_BROKEN = {"AcceleratorError"}

#: What Ray's memory monitor leaves of a process that it ended.
_LOW_MEMORY = "low on memory"

#: Last line of a Python traceback.
_LAST_LINE = re.compile(r"([\w.]*\w(?:Error|Exception|Exit|Interrupt)(?:: .*)?)\s*\Z")


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether there was too little memory, maybe behind other errors."""
    return any(_MEMORY & _names(e) or _NO_MEMORY in text_of(e) for e in _chain(error))


def spoils_its_process(error: BaseException) -> bool:
    """Tell whether the process is unfit for further trials, because of its memory or of CUDA."""
    broken = any(_BROKEN & _names(e) or _number(e) in _DESCRIPTORS for e in _chain(error))
    return broken or ran_out_of_memory(error)


def is_of_the_machine(error: BaseException, directory: Path) -> bool:
    """Tell whether an error comes of what the machine lacks (space, a file system, descriptors).

    Args:
        error: What a trial raised.
        directory: The trial's folder; if no file can be written there now, that is it.
    """
    words = (text_of(e) for e in _chain(error))
    told = any(_number(e) in _LACKS for e in _chain(error))
    told = told or any(w in text for text in words for w in _LACKS_IN_WORDS)
    return told or bool(why_unusable(directory))


def of_error(error: Raised, directory: Path) -> End:
    """The end of a trial that raised, in a study's words.

    Args:
        error: What it raised.
        directory: The trial's folder.
    """
    text = f"{error.kind}: {error.message}" if error.message else error.kind
    notes = [] if error.rank is None else [f"rank {error.rank}"]
    if error.log is not None:
        notes.append(f"traceback: {_short(directory / error.log)}")
    state = _state_of(error)
    return state, f"{text} ({', '.join(notes)})" if notes else text


def of_lost_process(trial: Trial, directory: Path, timeout: float | None) -> End | None:
    """The end of a trial whose process is gone, or None if it starts again.

    Args:
        trial: Tune's trial, which has taken note of the loss.
        directory: The trial's folder.
        timeout: Seconds after which a trial without a report ended its process.
    """
    stacks = directory / HUNG
    if timeout is not None and stacks.exists():
        if stacks.stat().st_size:
            return TrialState.HUNG, f"no report within {timeout:g} s (stacks: {_short(stacks)})"
        stacks.unlink()
    words = _last_error(trial)
    if _LOW_MEMORY in words:
        return TrialState.OUT_OF_MEMORY, "Ray ended its process: the machine ran out of memory"
    if trial.should_recover():
        return None
    times = "once" if trial.num_failures <= 1 else f"{trial.num_failures} times"
    reason = f"its worker was lost {times} (study.max_failures={trial.max_failures})"
    last = _LAST_LINE.search(words)
    return TrialState.LOST, f"{reason}: {last.group(1)}" if last else reason


def _state_of(error: Raised) -> TrialState:
    if error.lacking:
        return TrialState.INTERRUPTED
    return TrialState.OUT_OF_MEMORY if error.out_of_memory else TrialState.FAILED


def _number(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _last_error(trial: Trial) -> str:
    """What Tune wrote down of a trial's last failure; its file has all of them."""
    file = trial.error_file
    text = Path(file).read_text() if file is not None and Path(file).exists() else ""
    return text.rpartition("Failure #")[2]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised from or after."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _short(path: Path) -> str:
    """A file of a trial, from the study's folder."""
    return "/".join(path.parts[-3:])
