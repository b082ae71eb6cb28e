"""Running a study: Tune's controller over warm slots, until the study has no more trials."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray import tune

from itwinai import job
from itwinai.environ import environment
from itwinai.hpo.engine.adapters import StudyScheduler, StudySearcher
from itwinai.hpo.engine.group import Shipped
from itwinai.hpo.engine.machines import Machines
from itwinai.hpo.engine.resources import TrialResources
from itwinai.hpo.engine.signals import ended_like_ctrl_c
from itwinai.hpo.engine.slot import TrialSlot
from itwinai.hpo.engine.worker import Program
from itwinai.hpo.ray_private import idle_processes_taken, memory_kills_as_losses
from itwinai.hpo.study import Study

#: Seconds between two looks for what the machines lack.
_LOOK_EVERY = 0.5

#: Tune writes, checks and prints for its own record; ours takes its place.
_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "31536000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_trials(study: Study, program: Program, resources: TrialResources) -> None:
    """Run a study's trials on the connected Ray cluster.

    Returns when the study has no more trials, or when it was interrupted (Ctrl-C, SIGTERM, SIGHUP);
    what then still runs is the caller's to close. While the machines lack something it waits.

    Args:
        study: Asked for trials, told of epochs and ends.
        program: What every trial runs; it crosses to each process once.
        resources: What every trial gets.
    """
    while _run_tune(study, program, resources) and _waits(study):
        pass


def _waits(study: Study) -> bool:
    """Wait until what is lacking is there again; return whether the study goes on then."""
    nothing = threading.Event()
    try:
        with ended_like_ctrl_c():
            while study.held and not study.finished:
                nothing.wait(_LOOK_EVERY)
    except KeyboardInterrupt:
        return False
    return not study.finished


def _run_tune(study: Study, program: Program, resources: TrialResources) -> bool:
    """Run Tune once; return whether it has ended only for what the machines lacked."""
    scratch = study.directory / ".tune"
    machines = Machines(resources)
    study.note_room(machines.has_room)
    scheduler = StudyScheduler(study, machines)
    # Trials that a scheduler of Ray's pauses count for Tune: only the user's own limit holds then.
    pauses = study.scheduler.ray is not None
    limit = study.configuration.max_concurrent_trials if pauses else None
    # By itself Tune starts one slot after the other.
    pending = (limit or 1) if pauses else resources.most
    searcher = StudySearcher(study, scheduler, None if pauses else machines)
    settings = {**_TUNE_SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(pending)}
    slot = _slot(program, resources, machines, study.configuration.report_timeout_s)
    try:
        with (
            environment(settings),
            _quiet(),
            idle_processes_taken(),
            memory_kills_as_losses(),
            ended_like_ctrl_c(),
            job.listening(),
        ):
            # A Tuner would read Tune's own notes back in the end, which a full disk spoils.
            tune.run(
                slot,
                name="run",
                storage_path=str(scratch),
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=limit,
                max_failures=study.configuration.max_failures,
                reuse_actors=not study.configuration.fresh_processes,
                raise_on_failed_trial=False,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return searcher.held_back and not study.has_running


def _slot(
    program: Program, resources: TrialResources, machines: Machines, timeout: float | None
) -> type[TrialSlot]:
    trainable = tune.with_parameters(
        TrialSlot,
        program=Shipped.of(program),
        workers=resources.workers,
        resources=dict(resources.per_worker),
        timeout=timeout,
    )
    slot: type[TrialSlot] = tune.with_resources(trainable, machines.placement(()))
    return slot


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Tune's own messages; what a user should know, the study says."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
