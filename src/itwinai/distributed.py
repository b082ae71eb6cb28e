"""Where this process stands among those that run together."""

from __future__ import annotations

import os

from pydantic import BaseModel

#: For each launcher: variables of rank, local rank, world size, local world size.
_LAUNCHERS = (
    ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"),
)


class ClusterEnvironment(BaseModel):
    """Ranks and sizes of the current process."""

    global_rank: int = 0
    local_rank: int = 0
    global_world_size: int = 1
    local_world_size: int = 1


def detect_distributed_environment() -> ClusterEnvironment:
    """Read the variables of torchrun (which a study's workers set too), Open MPI or Slurm."""
    for rank, local_rank, size, local_size in _LAUNCHERS:
        if rank in os.environ and size in os.environ:
            return ClusterEnvironment(
                global_rank=int(os.environ[rank]),
                local_rank=int(os.environ.get(local_rank, 0)),
                global_world_size=int(os.environ[size]),
                local_world_size=int(os.environ.get(local_size, 1)),
            )
    return ClusterEnvironment()
