"""Running a study: Tune's controller over warm slots, until the study has no more trials."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import tune

from itwinai import job
from itwinai.environ import environment
from itwinai.hpo.engine.adapters import StudyScheduler, StudySearcher
from itwinai.hpo.engine.group import Shipped
from itwinai.hpo.engine.private import memory_kills_as_losses
from itwinai.hpo.engine.resources import TrialResources
from itwinai.hpo.engine.slot import TrialSlot
from itwinai.hpo.engine.worker import Program
from itwinai.hpo.study import Study

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

    Returns when the study has no more trials, or when it was interrupted (SIGINT); what then still
    runs is the caller's to close.

    Args:
        study: Asked for trials, told of epochs and ends.
        program: What every trial runs; it crosses to each process once.
        resources: What every trial gets.
    """
    scratch = study.directory / ".tune"
    at_once = _at_once(study, resources)
    scheduler = StudyScheduler(study)
    # By itself Tune starts one slot after the other.
    settings = {**_TUNE_SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(at_once or 1)}
    tuner = tune.Tuner(
        _slot(program, resources, study.configuration.report_timeout_s),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, scheduler),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(scratch),
            verbose=0,
            log_to_file=False,
            failure_config=tune.FailureConfig(max_failures=study.configuration.max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        with environment(settings), _quiet(), memory_kills_as_losses(), job.listening():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _at_once(study: Study, resources: TrialResources) -> int | None:
    """Trials that Tune may know at the same time, so that none is asked for before it can start.

    For a scheduler of Ray's that is the user's own limit: trials that it pauses would count.
    """
    if study.scheduler.ray is not None:
        return study.configuration.max_concurrent_trials
    return resources.concurrent


def _slot(program: Program, resources: TrialResources, timeout: float | None) -> type[TrialSlot]:
    bundles = [dict(resources.per_worker)] * resources.workers
    # With several workers the slot itself only waits; it takes no resources.
    groups = bundles if resources.workers == 1 else [{}, *bundles]
    trainable = tune.with_parameters(
        TrialSlot,
        program=Shipped([ray.put(program)], tuple(sys.path)),
        workers=resources.workers,
        resources=dict(resources.per_worker),
        timeout=timeout,
    )
    slot: type[TrialSlot] = tune.with_resources(trainable, tune.PlacementGroupFactory(groups))
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
