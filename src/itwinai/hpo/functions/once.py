"""A function's training without a study: once, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itwinai.distributed import detect_distributed_environment
from itwinai.hpo.engine import Place, this_machine, visible_gpus
from itwinai.hpo.functions.configuration import TrialConfig
from itwinai.hpo.functions.program import Function, apart
from itwinai.hpo.functions.trial import Task, Trial
from itwinai.hpo.trial import Assignment
from itwinai.io.newest import NewestCheckpoint
from itwinai.reporting import NullReporter, TellingReporter


def train_once(
    function: Function,
    config: Mapping[str, Any],
    epochs: int,
    data: Any,
    seed: int | None,
    folder: Path,
) -> Any:
    """Call a function as a trial would, and tell the user what it reports.

    Args:
        function: Takes the configuration and the trial.
        config: The configuration.
        epochs: Epochs of a full training.
        data: What ``trial.data`` is; not a copy.
        seed: Of all random numbers; None: they are not seeded.
        folder: What ``trial.folder`` is, with the checkpoints.

    Returns:
        What the function returns.
    """
    place = _place_here()
    values = TrialConfig(config)
    assignment = Assignment(0, {}, str(folder.absolute()), seed=seed)
    task = Task(assignment, place, values, data, epochs, NewestCheckpoint(folder.absolute()))
    reporter = TellingReporter() if place.rank == 0 else NullReporter()
    with apart(seed, place):
        return function(values, Trial(task, reporter))


def _place_here() -> Place:
    """This process: alone, or among those that torchrun or Slurm has started."""
    here = detect_distributed_environment()
    cores = int(this_machine()["CPU"])
    return Place(
        rank=here.global_rank,
        world_size=here.global_world_size,
        local_rank=here.local_rank,
        local_world_size=here.local_world_size,
        cpus=max(1, cores // here.local_world_size),
        gpus=visible_gpus(),
    )
