"""What a spool holds, sent to a service: from a thread while a training runs, or afterwards."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol, TypeVar

from itwinai import logger as library_logger
from itwinai.errors import text_of
from itwinai.loggers.spool import Call, Spool

#: Seconds between two tries, from the first to the longest.
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0

#: Most calls that are sent as one.
_TOGETHER = 500

Item = TypeVar("Item")


class Service(Protocol):
    """Makes the calls of one spool."""

    #: Names of the calls that can be made together with others of their name.
    together: frozenset[str]
    #: What it is, for messages.
    name: str

    def make(self, calls: Sequence[Call]) -> list[Exception]:
        """Make calls of one name; return an error for each that the service refuses.

        Raises:
            Exception: If the service does not answer, or cannot tell; they are tried again.
        """
        ...

    def finish(self) -> None:
        """Give a run its end whose process was killed before it could.

        Raises:
            Exception: If the service does not answer.
        """
        ...


def send_some(spool: Spool, service: Service) -> list[Exception]:
    """Send the next calls of a spool; return an error for each that the service refuses.

    Raises:
        Exception: If the service does not answer. The spool keeps what was to be sent.
    """
    calls = spool.untaken()
    first = calls[0][0]["call"]
    most = _TOGETHER if first in service.together else 1
    calls = list(takewhile(lambda one: one[0]["call"] == first, calls[:most]))
    refused = service.make([call for call, _ in calls])
    spool.take(calls[-1][1])
    for call, _ in calls:
        if "file" in call:
            spool.forget(call["file"])
    return refused


def all_or_each(
    send: Callable[[Sequence[Item]], Any],
    items: Sequence[Item],
    is_refusal: Callable[[Exception], bool],
) -> list[Exception]:
    """Send items together, and if that is refused, each alone: none takes another with it.

    Args:
        send: Sends some of them.
        items: All of them.
        is_refusal: Whether an error is about what was sent.

    Returns:
        An error for each that is refused.

    Raises:
        Exception: What ``send`` raises that is no refusal.
    """
    try:
        send(items)
    except Exception as error:
        if not is_refusal(error):
            raise
        if len(items) == 1:
            return [error]
        return [one for item in items for one in all_or_each(send, [item], is_refusal)]
    return []


def described(spool: Spool) -> str:
    """Say what a spool holds that the service does not have; nothing if there is nothing."""
    counts = Counter(call["call"] for call in spool.all_untaken())
    return ", ".join(f"{number} {name}" for name, number in counts.items())


class Sender:
    """Sends a spool from a thread of its own, in order, again and again until the service has it.

    Args:
        spool: Deleted once all is sent and the sender was closed.
        service: Where to send it.
    """

    def __init__(self, spool: Spool, service: Service) -> None:
        self.spool, self._service = spool, service
        self.folder: Path = spool.folder
        #: Errors about what the service refused.
        self.refused: list[Exception] = []
        self._left: str | None = None
        self._changed = threading.Condition()
        self._tried = self._answers = self._told = False
        self._closing = self._was_away = self._abandoned = self._all_sent = False
        self._thread = threading.Thread(target=self._work, name="itwinai-logger", daemon=True)
        self._thread.start()

    @property
    def answers(self) -> bool:
        """Whether the service has answered the last time."""
        return self._answers

    def add(self, call: Call) -> None:
        """Keep a call, to be made soon."""
        with self._changed:
            self.spool.append(call)
            self._all_sent = False
            self._changed.notify_all()

    def wait_for_answer(self, timeout_s: float) -> bool:
        """Wait until the service has answered, or has failed to; return whether it answers."""
        with self._changed:
            self._changed.wait_for(lambda: self._tried, timeout_s)
            return self._answers

    def wait_for_all(self, timeout_s: float) -> bool:
        """Wait until all is sent, as long as the service answers; return whether it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._all_sent or not self._answers, timeout_s)
            return self._all_sent

    def close(self, timeout_s: float) -> str:
        """Send what is left, and say what could not be sent.

        A service that has not answered so far gets one more try, another one all the time.

        Args:
            timeout_s: Seconds to wait at most.

        Returns:
            What is left in the spool; empty if it is all sent.
        """
        with self._changed:
            self._closing, self._was_away = True, not self._answers
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
            return described(self.spool) if self._left is None else self._left

    def _work(self) -> None:
        pause = _PAUSE_S
        try:
            while self._has_calls():
                try:
                    refused = send_some(self.spool, self._service)
                except Exception as error:  # noqa: BLE001 - each means that it is tried again
                    if not self._goes_on_after(error, pause):
                        return
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                else:
                    pause = _PAUSE_S
                    self._note_answer(refused)
        finally:
            self._end()

    def _has_calls(self) -> bool:
        """Wait for calls; return whether there are some to be sent now."""
        with self._changed:
            while not self._abandoned:
                if self.spool.untaken():
                    return True
                self._all_sent = True
                self._changed.notify_all()
                if self._closing:
                    break
                self._changed.wait()
            return False

    def _note_answer(self, refused: list[Exception]) -> None:
        with self._changed:
            self.refused += refused
            self._tried = self._answers = True
            self._changed.notify_all()

    def _goes_on_after(self, error: Exception, pause_s: float) -> bool:
        """Wait before the next try; return whether there is to be one."""
        with self._changed:
            self._tried, self._answers = True, False
            self._changed.notify_all()
        self._tell_once(error)
        with self._changed:
            if self._closing and self._was_away:
                return False
            was_closing = self._closing
            self._changed.wait_for(
                lambda: self._abandoned or self._closing is not was_closing, pause_s
            )
            return not self._abandoned

    def _tell_once(self, error: Exception) -> None:
        if self._told:
            return
        self._told = True
        library_logger.warning(
            "%s does not take what is logged (%s). The work goes on; all of it waits in %s.",
            self._service.name,
            shorten(text_of(error), 300, placeholder=" ..."),
            self.folder,
        )

    def _end(self) -> None:
        with self._changed:
            try:
                self._left = described(self.spool)
                if not self._left:
                    self.spool.delete()
            finally:
                self.spool.close()
