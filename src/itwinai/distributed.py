"""Where this process stands among those that run together.

What only programs written for itwinai 0.4 use is in :mod:`itwinai.compatibility.processes`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pydantic import BaseModel

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.compatibility.processes import distributed_patch_print as distributed_patch_print
    from itwinai.compatibility.processes import (
        get_adaptive_ray_scaling_config as get_adaptive_ray_scaling_config,
    )
    from itwinai.compatibility.processes import initialize_ray as initialize_ray
    from itwinai.compatibility.processes import ray_cluster_is_running as ray_cluster_is_running
    from itwinai.compatibility.processes import suppress_workers_output as suppress_workers_output
    from itwinai.compatibility.processes import suppress_workers_print as suppress_workers_print


class ClusterEnvironment(BaseModel):
    """Ranks and sizes of the current process."""

    global_rank: int = 0
    local_rank: int = 0
    global_world_size: int = 1
    local_world_size: int = 1


#: For each launcher, alternatives for rank, local rank, world size, local world size.
_LAUNCHERS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("RANK",), ("LOCAL_RANK",), ("WORLD_SIZE",), ("LOCAL_WORLD_SIZE",)),
    (
        ("OMPI_COMM_WORLD_RANK",),
        ("OMPI_COMM_WORLD_LOCAL_RANK",),
        ("OMPI_COMM_WORLD_SIZE",),
        ("OMPI_COMM_WORLD_LOCAL_SIZE",),
    ),
    (
        ("SLURM_PROCID",),
        ("SLURM_LOCALID",),
        ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        ("SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE"),
    ),
)


def detect_distributed_environment() -> ClusterEnvironment:
    """Read the variables of torchrun (which a study's workers set too), Open MPI or Slurm."""
    for rank, local_rank, size, local_size in _LAUNCHERS:
        if _is_one_process(rank):
            continue
        if _first(rank) is not None and _first(size) is not None:
            return ClusterEnvironment(
                global_rank=int(_first(rank) or 0),
                local_rank=int(_first(local_rank) or 0),
                global_world_size=int(_first(size) or 1),
                local_world_size=_tasks_here(_first(local_size) or "1"),
            )
    return ClusterEnvironment()


def _is_one_process(rank: tuple[str, ...]) -> bool:
    """Whether these are the variables of a job whose script started this process without srun.

    In a job of several tasks they look like those of its first task, but there is no other one.
    """
    return rank == ("SLURM_PROCID",) and _first(_STEP) is None


#: What srun alone sets, and not the script of a job.
_STEP = ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")


def rendezvous() -> dict[str, str]:
    """Return those of torchrun's variables that are not set, as far as they can be known.

    Under Slurm, rank 0 is on the first host of the step, and the port follows from the numbers of
    job and step. Under Open MPI this is known on a single node only.
    """
    here = detect_distributed_environment()
    found = {
        "RANK": str(here.global_rank),
        "LOCAL_RANK": str(here.local_rank),
        "WORLD_SIZE": str(here.global_world_size),
        "LOCAL_WORLD_SIZE": str(here.local_world_size),
    }
    if here == ClusterEnvironment():
        return {}
    hosts = _first(("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"))
    if here.local_world_size == here.global_world_size:
        found["MASTER_ADDR"] = "127.0.0.1"
    elif hosts is not None:
        found["MASTER_ADDR"] = first_host(hosts)
    found["MASTER_PORT"] = str(_port_of_job())
    return {name: value for name, value in found.items() if name not in os.environ}


def first_host(hosts: str) -> str:
    """Return the first of Slurm's list of hosts, such as ``node[003-005,007],login1``."""
    match = re.match(r"(?:[^,\[]|\[[^\]]*\])+", hosts)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", match[0]) if match else hosts


def _first(names: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _tasks_here(tasks: str) -> int:
    """Tasks on this node, of a number or of Slurm's list of all nodes: ``4(x2),3``."""
    per_node: list[int] = []
    for entry in tasks.split(","):
        number, _, times = entry.rstrip(")").partition("(x")
        per_node += [int(number)] * int(times or 1)
    node = int(os.environ.get("SLURM_NODEID", 0))
    return per_node[node] if node < len(per_node) else per_node[0]


def _port_of_job() -> int:
    """A port below those that systems give out, the same in all processes of a job's step."""
    job = int(_first(("SLURM_JOB_ID", "SLURM_JOBID")) or 0)
    step = int(_first(("SLURM_STEP_ID", "SLURM_STEPID")) or 0)
    return 15_000 + (job * 7 + step) % 15_000


__getattr__ = lazily(
    __name__,
    {
        "processes": (
            "distributed_patch_print get_adaptive_ray_scaling_config initialize_ray "
            "ray_cluster_is_running suppress_workers_output suppress_workers_print"
        )
    },
    "itwinai.compatibility",
)
