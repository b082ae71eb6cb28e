"""What one trial needs, and whether any machine can ever give it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration

#: Slots that a study takes by itself; each is a process with torch in memory.
_MOST_SLOTS = 8


@dataclass(frozen=True)
class TrialResources:
    """Resources of one trial.

    Attributes:
        workers: Processes of a trial.
        per_worker: Ray resources of each.
        most: Trials at the same time at most, however many machines there are.
    """

    workers: int
    per_worker: Mapping[str, float]
    most: int

    @property
    def threads(self) -> int:
        """Threads of each process."""
        return max(1, int(self.per_worker.get("CPU", 1)))

    def concurrent(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Trials that run at the same time on machines with these resources."""
        return min(self.most, _places(self.per_worker, nodes) // self.workers)


def this_machine() -> dict[str, float]:
    """Cores that this process may use."""
    return {"CPU": float(len(os.sched_getaffinity(0)))}


def visible_gpus() -> int:
    """GPUs of NVIDIA that this process may use, told without loading what uses them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([device for device in chosen.split(",") if device.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def check_cores(configuration: StudyConfiguration) -> None:
    """Refuse, before Ray starts on this machine, to ask for more cores than it has.

    Other resources are known only once Ray has looked for them.

    Raises:
        ConfigurationError: If there are not enough cores for a trial.
    """
    wish = configuration.resources_per_worker or {"CPU": 1}
    cores = {name: amount for name, amount in wish.items() if name == "CPU"}
    _check_feasible(configuration.workers_per_trial, cores, [this_machine()])


def plan_resources(
    configuration: StudyConfiguration, nodes: Sequence[Mapping[str, float]], trials: int
) -> TrialResources:
    """Decide what each trial gets.

    Without a wish of the user's, the machines are divided evenly among as many trials as there are
    cores (or GPUs, where there are any), 8 at the most.

    Args:
        configuration: The study's settings.
        nodes: Resources of each node.
        trials: Trials that the study will run.

    Raises:
        ConfigurationError: If no node has what one worker needs, or all together cannot hold a
            trial.
    """
    workers = configuration.workers_per_trial
    wish = configuration.resources_per_worker
    per_worker = dict(wish) if wish else _even_share(configuration, nodes, trials)
    _check_feasible(workers, per_worker, nodes)
    most = min(configuration.max_concurrent_trials or trials, trials)
    return TrialResources(workers, per_worker, most)


def _even_share(
    configuration: StudyConfiguration, nodes: Sequence[Mapping[str, float]], trials: int
) -> dict[str, float]:
    cores = int(sum(node.get("CPU", 0) for node in nodes))
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    workers = configuration.workers_per_trial
    fitting = max(1, (gpus or cores) // workers)
    slots = min(configuration.max_concurrent_trials or _MOST_SLOTS, fitting, trials)
    share: dict[str, float] = {"GPU": 1} if gpus else {}
    cpus = max(1, cores // (slots * workers))
    # A worker lies on one node, so the share of the whole may be more than fits.
    while cpus > 1 and _places(share | {"CPU": cpus}, nodes) < slots * workers:
        cpus -= 1
    return share | {"CPU": cpus}


def _check_feasible(
    workers: int, per_worker: Mapping[str, float], nodes: Sequence[Mapping[str, float]]
) -> None:
    if _places(per_worker, nodes) >= workers:
        return
    asked = ", ".join(f"{amount:g} {name}" for name, amount in per_worker.items())
    have = "; ".join(
        ", ".join(f"{node.get(name, 0):g} {name}" for name in per_worker) for node in nodes
    )
    raise ConfigurationError(
        f"study.resources_per_worker: a trial needs {workers} worker(s) with {asked} each, which "
        f"no machine here can ever give (there is: {have}). Ask for less per worker, or for fewer "
        "study.workers_per_trial."
    )


def _places(per_worker: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> int:
    return sum(_fitting(per_worker, node) for node in nodes)


def _fitting(per_worker: Mapping[str, float], node: Mapping[str, float]) -> int:
    return min(
        (
            int(node.get(name, 0) / amount + 1e-9)
            for name, amount in per_worker.items()
            if amount > 0
        ),
        default=sys.maxsize,
    )
