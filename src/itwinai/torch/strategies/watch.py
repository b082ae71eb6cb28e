"""Ranks that watch each other: none waits for one that has failed, left or fallen silent.

Each rank gives a sign of life in the store in which the ranks have met, says there where it is, and
looks at the rank after it. What decides is silence, and never how long something takes: rank 0 may
save for an hour.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Any

from torch.distributed import DistError
from torch.distributed.distributed_c10d import PrefixStore, Store

import itwinai
from itwinai.errors import one_line, text_of
from itwinai.job import JobEnds
from itwinai.reporting import TrialStopped
from itwinai.torch.type import RankError

#: Seconds between two signs of life.
_BEAT = 1.0
#: Beats after which two ranks that wait for different things are sure to wait for ever, and after
#: which a rank that goes on with a training that has failed is ended.
_PATIENCE = 5
#: How long a rank that failed waits for the others to hear of it.
_HEARING = timedelta(seconds=5)
_FAILURE, _ENDED = "failure", "ended"

#: The hook in which a rank may end what it does, whatever has happened.
SAVING = "save_checkpoint()"

#: Ends of a block that all ranks have agreed upon.
_AGREED = (TrialStopped, JobEnds)


@dataclass
class Whereabouts:
    """Where a rank is in its training.

    Attributes:
        hook: The one that runs.
        epoch: The running epoch, from 1; 0 before the first.
        batch: The running batch, from 1; 0 outside of them.
        meeting: What it waits for all other ranks for; empty where it does not.
        meetings: How often it has.
    """

    hook: str = "its start"
    epoch: int = 0
    batch: int = 0
    meeting: str = ""
    meetings: int = 0

    @contextmanager
    def waiting(self, meeting: str) -> Iterator[None]:
        """Say for a block that it ends only when all ranks have come to it."""
        outer = self.meeting
        self.meeting, self.meetings = outer or meeting, self.meetings + 1
        try:
            yield
        finally:
            self.meeting = outer

    def __str__(self) -> str:
        epoch = f", epoch {self.epoch}" if self.epoch else ""
        batch = f", batch {self.batch}" if self.batch else ""
        return f"{self.hook}{epoch}{batch}"


class Watch:
    """Gives signs of life of this rank and looks at another, for the length of a training.

    As a context, it tells the other ranks of an error that leaves its block, and turns the error of
    a message that never came into one that says which rank is to blame.

    Args:
        store: In which the ranks have met. Beside the training, it is asked over a connection of
            the watch's own.
        rank: This process.
        world_size: Number of processes.
        whereabouts: Where it is, kept up to date by the training.
        silence: Seconds without a sign of life after which a rank counts as lost.
    """

    def __init__(
        self, store: Store, rank: int, world_size: int, whereabouts: Whereabouts, silence: float
    ) -> None:
        self._store = PrefixStore("watch", store)
        self._rank = rank
        self._others = [other for other in range(world_size) if other != rank]
        self._next = (rank + 1) % world_size
        self._whereabouts = whereabouts
        self._silence = silence
        self._beats = 0
        self._silent, self._apart, self._stuck = _Steady(), _Steady(), _Steady()
        #: Why the training cannot go on, if that was not this rank.
        self._cause: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        with suppress(DistError):  # the first beat says it
            self._give_sign()
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._over.set()
        self._thread.join()
        with suppress(DistError):  # the store is gone, and so is whoever would read this
            if error is None or isinstance(error, _AGREED):
                self._store.set(f"sign-{self._rank}", _ENDED)
            else:
                self._tell(error)
        if self._cause is not None and _is_of_message(error):
            raise RankError(self._cause) from error

    def _tell(self, error: BaseException) -> None:
        """Tell the others of an error of this rank, and stay until they have heard."""
        text = f"{type(error).__name__}: {one_line(text_of(error))}"
        own = f"rank {self._rank} failed in {self._whereabouts}: {text}"
        if _is_of_message(error):
            self._hear(self._first(self._cause or self._gone() or own))
        elif self._first(own) == own:
            itwinai.logger.error(own)
            self._await_hearing()
        else:  # where all fail, none waits for another
            self._note_heard()

    def _first(self, failure: str) -> str:
        """Put a failure on record, unless there is one; return the one on record."""
        return self._store.compare_set(_FAILURE, "", failure).decode()

    def _hear(self, failure: str) -> None:
        self._cause = failure
        self._note_heard()

    def _note_heard(self) -> None:
        self._store.set(f"heard-{self._rank}", "")

    def _await_hearing(self) -> None:
        """Stay until the others have heard; with rank 0 the store goes that tells them."""
        self._store.wait([f"heard-{other}" for other in self._others], _HEARING)

    def _gone(self) -> str | None:
        """Which rank gives no sign of life any more, so that its messages do not come."""
        before = {other: self._sign(other) for other in self._others}
        threading.Event().wait(3 * _BEAT)
        gone = [o for o, sign in before.items() if sign != _ENDED and sign == self._sign(o)]
        return f"rank {gone[0]} is gone{_last_seen(before[gone[0]])}" if gone else None

    def _sign(self, rank: int) -> str:
        """A rank's last sign of life; empty if it never gave one."""
        key = f"sign-{rank}"
        return self._store.get(key).decode() if self._store.check([key]) else ""

    # -- beside the training -------------------------------------------------------------------

    def _run(self) -> None:
        while not self._over.wait(_BEAT):
            try:
                self._beat()
            except DistError:
                self._cause = self._cause or "rank 0, which keeps what the ranks tell, is gone"
            here = self._whereabouts
            stuck = self._stuck.beats(astuple(here)) >= _PATIENCE and here.hook != SAVING
            if self._cause is not None and stuck:
                itwinai.logger.error("%s. Rank %d ends with it.", self._cause, self._rank)
                with suppress(DistError):
                    self._await_hearing()
                os._exit(1)  # nothing else ends the wait for a message

    def _beat(self) -> None:
        if self._beats == 1:
            # Not earlier: PyTorch asks for a host's name at every connection, which takes seconds
            # where the name service is slow, and a training may be over by then.
            self._store = self._store.clone()  # type: ignore[attr-defined]
        own = self._give_sign()
        if self._cause is not None:
            return
        if self._store.check([_FAILURE]):
            self._hear(self._store.get(_FAILURE).decode())
            return
        sign = self._sign(self._next)
        fault = None if sign == _ENDED else self._silence_of(sign) or self._parting_of(sign, own)
        if fault is not None:
            self._hear(self._first(fault))

    def _give_sign(self) -> list[Any]:
        """Say that this rank lives, and where it is; return what it said of that."""
        self._beats += 1
        own = [str(self._whereabouts), self._whereabouts.meeting, self._whereabouts.meetings]
        self._store.set(f"sign-{self._rank}", json.dumps([self._beats, *own]))
        return own

    def _silence_of(self, sign: str) -> str | None:
        if self._silent.beats(sign) * _BEAT < self._silence:
            return None
        return f"rank {self._next} has been silent for {self._silence:g} s{_last_seen(sign)}"

    def _parting_of(self, sign: str, own: list[Any]) -> str | None:
        """Say that two ranks wait for different things, which none of them will get."""
        other = json.loads(sign)[1:] if sign else ["", "", 0]
        apart = own[1] and other[1] and own[1] != other[1]
        if self._apart.beats((own, other)) < _PATIENCE or not apart:
            return None
        return (
            f"the ranks have parted: rank {self._rank} waits for {own[1]} in {own[0]}, and rank "
            f"{self._next} for {other[1]} in {other[0]}"
        )


class _Steady:
    """Counts for how many beats something has stayed the same."""

    def __init__(self) -> None:
        self._value: Any = None
        self._beats = 0

    def beats(self, value: Any) -> int:
        """Look at it once more."""
        self._beats = self._beats + 1 if value == self._value else 0
        self._value = value
        return self._beats


def _is_of_message(error: BaseException | None) -> bool:
    """Whether an error says that a message between ranks did not come."""
    return isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and "gloo" in text_of(error)
    )


def _last_seen(sign: str) -> str:
    return f". It was last seen in {json.loads(sign)[1]}" if sign else ""
