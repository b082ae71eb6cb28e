"""Whether the driver keeps a large machine busy: the study itself, with thousands of workers.

The workers are simulated: an epoch takes 30 s of a virtual clock. The driver is real: every ask,
report and tell of the study takes on the virtual clock what it took on this machine, one after the
other, and the worker waits for its answer. The record is a real file.

    python -m benchmarks.scale --json scale.json
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import os
import platform
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

import numpy as np

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import load_study
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialState

EPOCHS = 27
EPOCH_SECONDS = (27.0, 33.0)
#: Costs are means over so many calls before each mark.
WINDOW = 2000
SPACE = {
    "lr": {"type": "loguniform", "lower": 1e-4, "upper": 1.0},
    "width": {"type": "randint", "lower": 8, "upper": 257},
    "activation": {"type": "choice", "categories": ["relu", "tanh"]},
}

T = TypeVar("T")


@dataclass
class Driver:
    """A study whose calls cost their real time, on a virtual clock."""

    study: Study
    free_at: float = 0.0
    costs: dict[str, deque[float]] = field(default_factory=dict)

    def call(self, kind: str, now: float, function: Callable[[], T]) -> tuple[T, float]:
        """Call at a virtual time, once the driver is free; return the answer and when it came."""
        begin = time.perf_counter()
        answer = function()
        cost = time.perf_counter() - begin
        self.costs.setdefault(kind, deque(maxlen=WINDOW)).append(cost)
        self.free_at = max(now, self.free_at) + cost
        return answer, self.free_at


@dataclass(order=True)
class Event:
    """An epoch that a worker trains, by the time at which it ends."""

    end: float
    worker: int
    number: int
    begin: float
    level: float


@dataclass
class Machine:
    """Workers that train the trials of a study.

    Attributes:
        driver: Who tells them what to do.
        workers: How many there are.
        marks: Numbers of ended trials at which costs are noted.
    """

    driver: Driver
    workers: int
    marks: list[int]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    rows: list[dict[str, Any]] = field(default_factory=list)
    busy: float = 0.0
    #: When the first worker found no more trial; from then on there is less to do.
    until: float | None = None
    ended: int = 0

    def run(self) -> float:
        """Train all trials; return the share of time in which the workers were busy."""
        events: list[Event] = []
        for worker in range(self.workers):
            self._ask(events, 0.0, worker)
        while events:
            event = heapq.heappop(events)
            if self.until is None:
                self.busy += event.end - event.begin
            self._epoch(events, event)
        assert self.until is not None
        return self.busy / (self.until * self.workers)

    def _epoch(self, events: list[Event], event: Event) -> None:
        study, number = self.driver.study, event.number
        epoch = self._epochs[number] = self._epochs[number] + 1
        metrics = {"validation_loss": event.level + 1 / epoch}
        verdict, now = self.driver.call(
            "report", event.end, lambda: study.report(number, metrics, None, epoch)
        )
        if verdict == "continue" and epoch < EPOCHS:
            self._train(events, now, event.worker, number, event.level)
            return
        _, now = self.driver.call("tell", now, lambda: study.tell(number, TrialState.COMPLETED))
        self.ended += 1
        if self.ended in self.marks:
            self.rows.append(self._row(self.ended))
        self._ask(events, now, event.worker)

    def _ask(self, events: list[Event], now: float, worker: int) -> None:
        trial, now = self.driver.call("ask", now, self.driver.study.ask)
        if trial is not None:
            self._epochs[trial.number] = 0
            level = float(np.log(trial.params["lr"]) ** 2)
            self._train(events, now, worker, trial.number, level)
        elif self.until is None:
            self.until = now
            self.busy += sum(max(0.0, now - event.begin) for event in events)

    def _train(
        self, events: list[Event], now: float, worker: int, number: int, level: float
    ) -> None:
        end = now + self.rng.uniform(*EPOCH_SECONDS)
        heapq.heappush(events, Event(end, worker, number, now, level))

    def _row(self, trials: int) -> dict[str, Any]:
        costs = {kind: 1e3 * mean(values) for kind, values in self.driver.costs.items()}
        record = self.driver.study.directory / "record.log"
        return {
            "trials": trials,
            **{f"{kind}_ms": costs.get(kind, 0.0) for kind in ("ask", "report", "tell")},
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "record_mib": record.stat().st_size / 2**20,
        }

    def __post_init__(self) -> None:
        self._epochs: dict[int, int] = {}


def main() -> None:
    options = _options()
    logging.getLogger("optuna").setLevel(logging.WARNING)
    marks = [n for n in (100, 10_000, 100_000) if n < options.trials] + [options.trials]
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(Path(folder), options.trials)
        machine = Machine(Driver(study), options.workers, marks)
        share = machine.run()
        study.close()
        opening = seconds_to_open(Path(folder), study.directory, options.trials)
    print(table(machine.rows))
    print(f"\n{options.workers} workers were busy {share:.2%} of the time.")
    print("The record: " + ", ".join(f"{kind} {s:.1f} s" for kind, s in opening.items()) + ".")
    if options.json is not None:
        figures = report(machine.rows, share, options.workers) | {"opening_seconds": opening}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def seconds_to_open(folder: Path, study: Path, trials: int) -> dict[str, float]:
    """How long it takes to show a study, and to begin to go on with it."""
    begin = time.perf_counter()
    load_study(study)
    shown = time.perf_counter()
    resumed = open_study(folder, trials + 1, resume=True)
    seconds = {"shown": shown - begin, "resumed": time.perf_counter() - shown}
    resumed.close()
    return seconds


def open_study(folder: Path, trials: int, resume: bool = False) -> Study:
    """The default study of so many trials."""
    configuration = StudyConfiguration(
        storage_path=folder,
        mode="min",
        num_samples=trials,
        seed=1,
        default_first=False,
        resume=resume,
    )
    return plan_study(configuration, SearchSpace.parse(SPACE), EPOCHS, default=None).open()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| trials | ask, ms | report, ms | tell, ms | memory, MiB | record, MiB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['trials']:,} | {row['ask_ms']:.2f} | {row['report_ms']:.2f} | "
        f"{row['tell_ms']:.2f} | {row['memory_mib']:.0f} | {row['record_mib']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def report(rows: list[dict[str, Any]], share: float, workers: int) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "scale",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": len(os.sched_getaffinity(0)), "architecture": platform.machine()},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("itwinai", "optuna")},
        "workers": workers,
        "busy": share,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
