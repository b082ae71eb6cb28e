"""What Slurm has allotted to a job on this node, as options of ``ray start``.

Ray would take the whole node, which the job may share with others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_MIB = 1024**2

#: Ray's own share of memory for objects, and the least that it accepts.
_SHARE_OF_OBJECTS = 0.3
_LEAST_FOR_OBJECTS = 100 * _MIB

#: Where the count of GPUs may be read, if Slurm does not tell it: lists of devices.
_LISTS_OF_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Allotment:
    """A job's share of a node.

    Attributes:
        cpus: Cores.
        gpus: GPUs.
        memory: Bytes for processes.
        objects: Bytes of shared memory, for data that processes have in common.
    """

    cpus: int
    gpus: int
    memory: int
    objects: int

    def options(self) -> list[str]:
        """The options of ``ray start`` that say so."""
        return [
            f"--num-cpus={self.cpus}",
            f"--num-gpus={self.gpus}",
            f"--memory={self.memory}",
            f"--object-store-memory={self.objects}",
        ]


def allotment(variables: Mapping[str, str]) -> Allotment:
    """Read what is allotted here from a step's environment variables."""
    cpus = int(variables.get("SLURM_CPUS_ON_NODE") or len(os.sched_getaffinity(0)))
    total = _memory(variables, cpus)
    objects = min(int(total * _SHARE_OF_OBJECTS), int(_free_shared_memory() * 0.9))
    objects = max(objects, _LEAST_FOR_OBJECTS)
    return Allotment(cpus, _gpus(variables), max(total - objects, _LEAST_FOR_OBJECTS), objects)


def _gpus(variables: Mapping[str, str]) -> int:
    count = variables.get("SLURM_GPUS_ON_NODE")
    if count:
        return int(count)
    lists = (variables[name] for name in _LISTS_OF_GPUS if name in variables)
    devices = next(lists, "").split(",")
    return sum(device.strip() not in ("", "-1", "NoDevFiles") for device in devices)


def _memory(variables: Mapping[str, str], cpus: int) -> int:
    # Slurm counts in MiB; 0 stands for the whole node.
    per_node = int(variables.get("SLURM_MEM_PER_NODE") or 0) * _MIB
    per_cpu = int(variables.get("SLURM_MEM_PER_CPU") or 0) * _MIB
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    share = min(1.0, cpus / (os.cpu_count() or cpus))
    return min(per_node or per_cpu * cpus or int(whole * share), whole)


def _free_shared_memory() -> int:
    disk = os.statvfs("/dev/shm")
    return disk.f_bavail * disk.f_frsize
