"""The energy that a trial uses of a node, by the counters of its processors and GPUs.

A trial is charged its own share: of processors and memory by the cores that it holds, of a GPU by
the part that it holds. So trials on one node never count anything twice, and what no trial holds is
charged to none.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from itwinai.hpo.trial import NVML, RAPL

#: Where Linux shows the counters of processors; most systems let root alone read them.
POWERCAP = Path("/sys/class/powercap")

#: Seconds between two looks: a counter begins again at 0 after some minutes of full load.
_LOOK_EVERY = 30


@dataclass(frozen=True)
class Held:
    """What a trial holds of a node.

    Attributes:
        cores: Cores.
        gpus: The part that it holds of each GPU, by its index or UUID.
    """

    cores: float
    gpus: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, per_worker: Mapping[str, float], gpus: Sequence[Sequence[str]]) -> Held:
        """What workers hold that have these GPUs each."""
        amount = per_worker.get("GPU", 0.0)
        parts = {gpu: amount / len(several) for several in gpus for gpu in several}
        return cls(per_worker.get("CPU", 0.0) * len(gpus), parts)


@dataclass(frozen=True)
class Energy:
    """What a trial has used in one process.

    Attributes:
        since: When that began, in seconds since 1970; it tells one process from the next.
        joules: By source; what could not be measured is not in it.
    """

    since: float
    joules: Mapping[str, float]


class Counter(Protocol):
    """A source of energy."""

    def joules(self) -> float:
        """What the trial has used since the counter was made.

        Raises:
            OSError: If it cannot be read.
        """
        ...


class EnergyMeter:
    """Measures what a trial uses of this node from now on.

    Args:
        held: What the trial holds of the node; None: nothing is measured.
        powercap: Where the counters of processors are; None: where Linux has them.
    """

    def __init__(self, held: Held | None, powercap: Path | None = None) -> None:
        self._since = time.time()
        self._counters = {} if held is None else dict(_counters(held, powercap or POWERCAP))
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if RAPL in self._counters:
            threading.Thread(target=self._look, name="energy", daemon=True).start()

    def read(self) -> Energy | None:
        """What was used so far; None where nothing can be measured."""
        with self._lock:
            joules = {}
            for source, counter in list(self._counters.items()):
                try:
                    joules[source] = counter.joules()
                except OSError:  # a part would be taken for all
                    del self._counters[source]
        return Energy(self._since, joules) if joules else None

    def close(self) -> None:
        """End the looking."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(_LOOK_EVERY):
            self.read()


def _counters(held: Held, powercap: Path) -> Iterator[tuple[str, Counter]]:
    """The sources that can be read here."""
    if held.cores:
        with suppress(OSError):
            yield RAPL, Processors(held.cores / (os.cpu_count() or 1), powercap)
    if held.gpus:
        with suppress(OSError):
            yield NVML, Gpus(held.gpus)


class Processors:
    """A share of this node's processors and memory, by Linux's powercap (RAPL; Intel and AMD).

    Args:
        share: The share of all cores.
        powercap: Where the counters are.

    Raises:
        OSError: If there are none, or they may not be read.
    """

    def __init__(self, share: float, powercap: Path) -> None:
        self._share = share
        self._zones = [zone for zone in powercap.glob("intel-rapl:*") if _counts(zone)]
        if not self._zones:
            raise FileNotFoundError(f"{powercap}: no counter of a processor")
        self._ranges = [_microjoules(zone, "max_energy_range_uj") for zone in self._zones]
        self._last = self._now()
        self._used = 0

    def joules(self) -> float:
        """The share of what was used since this was made."""
        now = self._now()
        for before, after, most in zip(self._last, now, self._ranges, strict=True):
            self._used += (after - before) % most  # it begins again at 0
        self._last = now
        return self._share * self._used / 1e6

    def _now(self) -> list[int]:
        return [_microjoules(zone, "energy_uj") for zone in self._zones]


def _counts(zone: Path) -> bool:
    """Whether a zone is a processor or memory: others are parts of those, or the sum of all."""
    name = (zone / "name").read_text().strip()
    return name.startswith("package-") or name == "dram"


def _microjoules(zone: Path, file: str) -> int:
    return int((zone / file).read_text())


class Gpus:
    """Parts of some GPUs, by NVIDIA's NVML, which counts from Volta on.

    Args:
        parts: The part of each, by its index or UUID.

    Raises:
        OSError: If one of them cannot be read, or the package is missing.
    """

    def __init__(self, parts: Mapping[str, float]) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise OSError("the counters of GPUs need: pip install 'itwinai[energy]'") from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            handles = [(self._handle(gpu), part) for gpu, part in parts.items()]
        except pynvml.NVMLError as error:
            raise OSError(str(error)) from error
        self._begun = [(handle, part, self._millijoules(handle)) for handle, part in handles]

    def joules(self) -> float:
        """The parts of what was used since this was made."""
        used = (part * (self._millijoules(gpu) - before) for gpu, part, before in self._begun)
        return sum(used) / 1e3

    def _handle(self, gpu: str) -> object:
        if gpu.isdigit():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(gpu))
        return self._nvml.nvmlDeviceGetHandleByUUID(gpu)

    def _millijoules(self, handle: object) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except self._nvml.NVMLError as error:
            raise OSError(str(error)) from error
