"""The processes that train one trial together, kept warm from trial to trial."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import ray
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from itwinai.environ import kept_for_good
from itwinai.hpo.engine.energy import Held
from itwinai.hpo.engine.events import Ended, Event, Raised, Reported
from itwinai.hpo.engine.nodes import this_node
from itwinai.hpo.engine.worker import Place, Program, Worker
from itwinai.hpo.trial import Assignment

#: The error of a rank to which another one's failure was told, by name as nothing here knows torch.
_HEARSAY = "RankError"
#: Seconds in which the one that failed raises its own.
_MEANWHILE = 10


_UNHEARD = (
    "it reported once more than rank 0. All ranks must report the same number of times, or rank 0 "
    "alone"
)


@dataclass(frozen=True)
class Shipped:
    """A program on its way to the processes that run it.

    Attributes:
        reference: A list of one object reference, so that Ray leaves it unresolved and only those
            processes load the program that run it.
        import_path: The driver's ``sys.path``; the user's modules must be found before loading.
        folder: The driver's working directory, from which relative paths go.
    """

    reference: list[ray.ObjectRef]
    import_path: tuple[str, ...]
    folder: str

    @classmethod
    def of(cls, program: Any) -> Shipped:
        """Pack a program of the driver's."""
        return cls([ray.put(program)], tuple(sys.path), os.getcwd())

    def unpack(self) -> Program:
        """Load the program into this process, which works where the driver does from now on."""
        os.chdir(self.folder)
        sys.path.extend(entry for entry in self.import_path if entry not in sys.path)
        with kept_for_good():  # it brings PyTorch with it
            program: Program = ray.get(self.reference[0])
        return program


class TrialGroup(Protocol):
    """Runs one trial after another."""

    @property
    def nodes(self) -> Sequence[str]:
        """Names of the nodes that its processes are on."""
        ...

    def begin(self, assignment: Assignment) -> None:
        """Start a trial."""
        ...

    def proceed(self) -> Event:
        """Let the trial go on after its last report, and wait for what comes next."""
        ...

    def stop(self) -> None:
        """End the running trial, if any, at its last report."""
        ...

    def close(self) -> None:
        """End the running trial and the processes."""
        ...


class InProcess:
    """A group of one: the slot's own process trains.

    Args:
        program: What every trial runs.
        resources: Ray resources of the process.
        timeout: Seconds within which a trial must report; None: any time.
    """

    def __init__(
        self, program: Program, resources: Mapping[str, float], timeout: float | None
    ) -> None:
        self._worker = Worker(program, timeout)
        self._place = Place(**_devices(resources), held=Held.of(resources, [_gpus_here()]))
        self._unanswered = False
        self.nodes: Sequence[str] = [this_node()]

    def begin(self, assignment: Assignment) -> None:
        """Start a trial."""
        self._worker.begin(assignment, self._place)

    def proceed(self) -> Event:
        """Let the trial go on after its last report, and wait for what comes next."""
        return self._after_answer(stop=False)

    def stop(self) -> None:
        """End the running trial, if any, at its last report."""
        while self._unanswered:
            self._after_answer(stop=True)

    def close(self) -> None:
        """End the running trial; the process is the slot's."""
        self.stop()

    def _after_answer(self, stop: bool) -> Event:
        if self._unanswered:
            self._worker.answer(stop)
        event = self._worker.next_event()
        self._unanswered = isinstance(event, Reported)
        return event


class RemoteWorker(Worker):
    """A worker in a process of its own."""

    def __init__(self, program: Shipped, timeout: float | None) -> None:
        super().__init__(program.unpack(), timeout)

    def host(self) -> str:
        """Address of this process's node."""
        return str(ray.util.get_node_ip_address())

    def node(self) -> str:
        """Name of this process's node."""
        return this_node()

    def gpus(self) -> list[str]:
        """The GPUs of this process."""
        return _gpus_here()

    def free_port(self) -> int:
        """A port that is free on this node."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return int(probe.getsockname()[1])

    def first_event(self, assignment: Assignment, place: Place) -> Event:
        """Start a trial and wait for its first event, in one call between processes."""
        self.begin(assignment, place)
        return self.next_event()

    def event_after(self, stop: bool) -> Event:
        """Answer the last report and wait for what comes next, in one call between processes."""
        self.answer(stop)
        return self.next_event()


class Processes:
    """A group of several processes, one per bundle of the slot's placement group.

    Rank 0 speaks for the trial; another rank that reports as well hears the answer to the same
    report of rank 0. The first error of any rank ends the trial, and all processes with
    it, because the other ranks may wait for the failed one for ever; the next trial gets new ones.

    Args:
        program: What every trial runs.
        count: Number of processes.
        resources: Ray resources of each.
        timeout: Seconds within which a trial must report; None: any time.
    """

    def __init__(
        self,
        program: Shipped,
        count: int,
        resources: Mapping[str, float],
        timeout: float | None,
    ) -> None:
        self._program = program
        self._count = count
        self._resources = resources
        self._timeout = timeout
        self._actors: list[Any] = []
        self._unanswered: bool = False
        self._is_over: bool = False
        self._reports: list[int] = [0] * count
        self._forget_reports()
        self.nodes: Sequence[str] = []
        self._start_actors()

    def begin(self, assignment: Assignment) -> None:
        """Start a trial in all processes."""
        if not self._actors:
            self._start_actors()
        self._forget_reports()
        port = ray.get(self._actors[0].free_port.remote())
        self._pending = {
            actor.first_event.remote(assignment, place): place.rank
            for actor, place in zip(self._actors, self._places(port), strict=True)
        }

    def proceed(self) -> Event:
        """Let the trial go on after its last report, and wait for what comes next."""
        return self._after_answer(stop=False)

    def stop(self) -> None:
        """End the running trial, if any, at its last report."""
        while self._unanswered:
            self._after_answer(stop=True)

    def close(self) -> None:
        """End the running trial and the processes."""
        self.stop()
        self._kill_actors()

    def _after_answer(self, stop: bool) -> Event:
        if self._unanswered:
            self._answers.append(stop)
            self._unanswered = False
        while self._answer_waiting():
            (done,), _ = ray.wait(list(self._pending), num_returns=1)
            rank, event = self._pending.pop(done), ray.get(done)
            if isinstance(event, Raised):
                rank, event = self._cause(rank, event)
                self._kill_actors()
                return replace(event, rank=rank, spoilt=False)
            if isinstance(event, Reported):
                self._reports[rank] += 1
                self._waiting.add(rank)
            if rank == 0 and isinstance(event, Reported):
                self._unanswered = True
                return event
            if rank == 0:
                self._is_over = True
        if self._waiting:
            rank = min(self._waiting)
            self._kill_actors()
            return Raised("ReportError", _UNHEARD, rank=rank)
        return Ended()

    def _answer_waiting(self) -> bool:
        """Let ranks go on whose report rank 0 has made too; return whether there is more to hear.

        There is not when all have ended, or when one waits for a report that rank 0 never makes.
        """
        for rank in sorted(self._waiting):
            number = self._reports[rank]
            if number <= len(self._answers):
                self._waiting.remove(rank)
                answered = self._actors[rank].event_after.remote(self._answers[number - 1])
                self._pending[answered] = rank
        return bool(self._pending) and not (self._is_over and self._waiting)

    def _forget_reports(self) -> None:
        self._unanswered = self._is_over = False
        #: What rank 0 was answered; of each rank how often it reported; those that wait.
        self._answers: list[bool] = []
        self._reports = [0] * self._count
        self._waiting: set[int] = set()

    def _cause(self, rank: int, error: Raised) -> tuple[int, Raised]:
        """The error of the rank that failed, where one has raised that only heard of it."""
        if error.kind != _HEARSAY or not self._pending:
            return rank, error
        ended, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=_MEANWHILE)
        events = ((self._pending[reference], ray.get(reference)) for reference in ended)
        causes = [(r, e) for r, e in events if isinstance(e, Raised) and e.kind != _HEARSAY]
        return causes[0] if causes else (rank, error)

    def _start_actors(self) -> None:
        group = get_current_placement_group()
        # An empty head bundle is dropped by Ray, so the workers' bundles are the last ones.
        first = len(group.bundle_specs) - self._count
        options = _actor_options(self._resources)
        self._actors = [
            ray.remote(RemoteWorker)
            .options(
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, first + rank), **options
            )
            .remote(self._program, self._timeout)
            for rank in range(self._count)
        ]
        self._hosts: Sequence[str] = ray.get([actor.host.remote() for actor in self._actors])
        self.nodes = sorted(set(ray.get([actor.node.remote() for actor in self._actors])))
        gpus = ray.get([actor.gpus.remote() for actor in self._actors])
        # Rank 0 measures its own node alone: of a trial on several nothing is, rather than a part.
        self._held = Held.of(self._resources, gpus) if len(set(self._hosts)) == 1 else None

    def _kill_actors(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._pending = [], {}
        self._forget_reports()

    def _places(self, port: int) -> list[Place]:
        return [
            Place(
                rank=rank,
                world_size=self._count,
                local_rank=list(self._hosts[:rank]).count(host),
                local_world_size=list(self._hosts).count(host),
                address=self._hosts[0],
                port=port,
                **_devices(self._resources),
                held=None if rank else self._held,
            )
            for rank, host in enumerate(self._hosts)
        ]


def _devices(resources: Mapping[str, float]) -> dict[str, Any]:
    """What a process may use of them: threads, and GPUs."""
    return {"cpus": max(1, int(resources.get("CPU", 1))), "gpus": resources.get("GPU", 0)}


def _gpus_here() -> list[str]:
    return list(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))


def _actor_options(resources: Mapping[str, float]) -> dict[str, Any]:
    named = {"CPU": "num_cpus", "GPU": "num_gpus"}
    options: dict[str, Any] = {named[key]: resources[key] for key in named if key in resources}
    others = {key: value for key, value in resources.items() if key not in named}
    return {"num_cpus": 0, **options, "resources": others or None}
