"""The end of a process: PyTorch's threads of a process group rest before the interpreter goes.

Such a thread lets go of a message a moment after the program has gone on, and needs the interpreter
for it. One that asks for an interpreter that is ending aborts the process, after all that it had to
do is done (https://github.com/pytorch/pytorch/issues/190489).
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")
#: What PyTorch calls the threads of a gloo group that carry messages.
_CARRIER = "pt_gloo_runloop"
#: What of a thread's status tells whether it slept, and how often it has fallen asleep.
_TELLING = ("State:", "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:")
#: Seconds from one look at the threads to the next, and looks after which the process ends anyway.
_PAUSE, _LOOKS = 0.01, 3000


def await_rest() -> None:
    """Wait until no thread of this process that carries messages has anything left to do.

    It has not if it slept from one look to the next, while the interpreter was free to be taken.
    Only Linux tells; elsewhere there is nothing to wait for.
    """
    before = _states()
    for _ in range(_LOOKS if before else 0):
        threading.Event().wait(_PAUSE)
        now = _states()
        if now == before and all(state[0].startswith("State:\tS") for state in now.values()):
            return
        before = now


def _states() -> dict[str, list[str]]:
    """What the kernel tells of each such thread."""
    states = {}
    for task in _TASKS.glob("*"):
        with suppress(OSError):  # it has just ended
            if (task / "comm").read_text().strip() == _CARRIER:
                status = (task / "status").read_text().splitlines()
                states[task.name] = [line for line in status if line.startswith(_TELLING)]
    return states
