"""One process of a trial slot: it trains one trial after another, in a thread.

The thread stops at each report until the slot has answered, so that the slot's owner can be asked
for the next event (a report, or the end) like any other method call.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import itwinai
from itwinai.environ import as_one_process, environment
from itwinai.errors import text_of
from itwinai.hpo.engine.deadline import ReportDeadline
from itwinai.hpo.engine.ends import (
    is_of_the_machine,
    ran_out_of_memory,
    spoils_its_process,
)
from itwinai.hpo.engine.energy import EnergyMeter, Held
from itwinai.hpo.engine.events import Ended, Event, Note, Raised, Reported
from itwinai.hpo.engine.output import captured_output
from itwinai.hpo.engine.writes import RelativeWrites
from itwinai.hpo.trial import Assignment
from itwinai.reporting import END_OF_EPOCH, Progress, Reporter, TrialStopped


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its trial.

    Attributes:
        rank: From 0 to ``world_size`` - 1.
        world_size: Processes of the trial.
        local_rank: Rank among those on the same node.
        local_world_size: Processes of the trial on the same node.
        cpus: Threads that one process may use.
        gpus: GPUs that one process has, or a share of one.
        address: Host name of rank 0.
        port: A free port of rank 0.
        held: What the trial holds of this node, for the process that measures what it uses.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    cpus: int = 1
    gpus: float = 0
    address: str = "127.0.0.1"
    port: int = 0
    held: Held | None = None

    def environment(self) -> dict[str, str | None]:
        """The variables of torchrun that describe this place; None: those of who started Ray."""
        others: dict[str, str | None]
        others = dict.fromkeys(os.environ.keys() - as_one_process(os.environ).keys())
        if self.world_size == 1:
            return others
        return {
            **others,
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


class Program(Protocol):
    """What a slot runs: one training, for given hyper-parameters, in one process of a trial."""

    def __call__(self, assignment: Assignment, place: Place, reporter: Reporter) -> None:
        """Train, reporting each epoch, until the end or until the reporter says stop."""
        ...


class Worker:
    """Runs a program's trials, one at a time.

    Args:
        program: Shared by all trials of this process, with the data sets it holds.
        timeout: Seconds within which a trial must report, or its process ends; None: any time.
    """

    def __init__(self, program: Program, timeout: float | None = None) -> None:
        self._program = program
        self._timeout = timeout
        self._thread: threading.Thread | None = None
        self._folder = Path.cwd()
        self._notes: list[Note] = []
        self._noted: set[str] = set()
        self._writes = RelativeWrites(self.note)

    def begin(self, assignment: Assignment, place: Place) -> None:
        """Start a trial."""
        self._noted.clear()
        self._events: queue.Queue[Event] = queue.Queue()
        self._answers: queue.Queue[bool] = queue.Queue()
        # Only rank 0 reports; it waits for the other ranks, so their time is in its own.
        self._deadline = ReportDeadline(self._timeout if place.rank == 0 else None)
        self._meter = EnergyMeter(place.held)
        self._thread = threading.Thread(
            target=self._train,
            args=(assignment, place),
            name=f"trial-{assignment.number}",
            daemon=True,
        )
        self._thread.start()

    def next_event(self) -> Event:
        """Wait for the next report, or the end, of the running trial."""
        return self._events.get()

    def answer(self, stop: bool) -> None:
        """Let the trial go on after a report, or end there."""
        self._answers.put(stop)

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        """Hand a report over and wait for the answer (called by the training)."""
        plain = {name: float(value) for name, value in metrics.items()}
        saved = None if checkpoint is None else str(checkpoint)
        notes, self._notes = tuple(self._notes), []
        with self._deadline.paused():
            self._events.put(Reported(plain, saved, progress, notes, self._meter.read()))
            return self._answers.get()

    def note(self, about: str, text: str) -> None:
        """Tell the user once, in the log and with the next report (called by the training)."""
        if about not in self._noted:
            self._noted.add(about)
            itwinai.logger.warning(text)
            self._notes.append((about, text))

    def _train(self, assignment: Assignment, place: Place) -> None:
        directory = Path(assignment.directory)
        log = "log.txt" if place.rank == 0 else f"log-{place.rank}.txt"
        try:
            os.chdir(self._folder)  # an earlier trial may have gone elsewhere
            with (
                captured_output(directory / log),
                self._writes.of(assignment.number),
                environment(place.environment()),
                self._deadline.watch(directory),
            ):
                event = self._outcome(assignment, place, log)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is no end of a training
            event = _raised(error, directory, log=None)
        energy = self._meter.read()
        self._meter.close()
        self._events.put(replace(event, energy=energy))

    def _outcome(self, assignment: Assignment, place: Place, log: str) -> Event:
        try:
            self._program(assignment, place, self)
        except TrialStopped:
            return Ended()
        except BaseException as error:  # noqa: BLE001 - the user's code may raise, or exit
            with suppress(Exception):  # the training may have closed what it prints to
                traceback.print_exc()
            return _raised(error, Path(assignment.directory), log)
        return Ended()


def _raised(error: BaseException, directory: Path, log: str | None) -> Raised:
    return Raised(
        type(error).__name__,
        text_of(error),
        log,
        out_of_memory=ran_out_of_memory(error),
        spoilt=spoils_its_process(error),
        lacking=is_of_the_machine(error, directory),
    )
