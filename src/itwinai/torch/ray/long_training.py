"""One long training on a cluster, without a search: Ray Train places it and mends its failures."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer as RayTrain
from torch import nn

from itwinai import job
from itwinai.environ import environment
from itwinai.hpo.engine import Shipped, check_nodes, ray_cluster
from itwinai.loggers import RunContext
from itwinai.torch.checkpoints import files as checkpoints
from itwinai.torch.checkpoints.keeping import KeepEvery
from itwinai.torch.ray.arguments import RayArguments
from itwinai.torch.ray.pickling import SharedDatasets, fresh_copy, pickled_trainer
from itwinai.torch.ray.rebuilding import rebuilt_model
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer

#: Times that lost workers are replaced, where the user's run configuration says nothing.
MAX_FAILURES = 2


class LongTraining:
    """What each of Ray Train's workers runs.

    Args:
        trainer: As the user configured it.
        datasets: Training, validation and test set.
        run: Identifies this training among others that saved to the same place.
    """

    def __init__(self, trainer: LocalTrainer, datasets: Datasets, run: str) -> None:
        self._trainer = pickled_trainer(trainer)
        self._datasets = SharedDatasets(datasets)
        self._run = run
        self._job = job.variables()

    def __call__(self) -> None:
        """Train; after a failure, go on from the newest good checkpoint."""
        trainer = fresh_copy(self._trainer)
        trainer.run_id = self._run
        runs = Path(trainer.checkpoints_location) / ".runs" / self._run
        trainer.run_context = RunContext(folder=runs)
        own = checkpoints.newest_of_run(Path(trainer.checkpoints_location), self._run)
        trainer.from_checkpoint = own or trainer.from_checkpoint
        regular = trainer.checkpoint_every is not None
        trainer.checkpoints = KeepEvery(
            trainer.checkpoint_every or 1,
            trainer.checkpoint_last if regular else trainer.checkpoint_last or 2,
            final=True,
            steps=trainer.checkpoint_every_steps,
        )
        # It is the job of the user's program, not of this process.
        with self._datasets.copies() as datasets, environment(self._job), suppress(job.JobEnds):
            trainer.train_in_this_process(*datasets)


def train_on_ray(
    trainer: LocalTrainer, arguments: RayArguments, datasets: Datasets
) -> nn.Module | None:
    """Train with the resources of ``arguments.scaling``, by Ray Train.

    A lost worker or node costs the epochs since the last checkpoint; ``checkpoint_every`` None
    means each epoch here, of which the newest two are kept.

    Returns:
        The model after the last epoch on the CPU; None where its checkpoint is in shards.

    Raises:
        ray.train.TrainingFailedError: If it failed more often than allowed.
        JobEnds: If the job asked it to stop before the last epoch.
    """
    location = Path(trainer.checkpoints_location).absolute()
    run = job.run_in(location) or uuid.uuid4().hex
    settings = {"RAY_TRAIN_V2_ENABLED": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    with environment(settings), ray_cluster(show_output=True):
        check_nodes(os.getcwd(), location)
        program = Shipped.of(LongTraining(trainer, datasets, run))
        RayTrain(
            _train_in_worker,
            train_loop_config={"program": program},
            torch_config=arguments.torch,
            dataset_config=arguments.data,
            scaling_config=_scaling(arguments.scaling),
            run_config=_run_config(arguments.run, location),
        ).fit()
    newest = checkpoints.newest_of_run(location, run)
    if job.stop_requested() and newest != location / checkpoints.name_of(trainer.epochs - 1):
        raise job.JobEnds("the training goes on in the next job")
    return rebuilt_model(trainer, {}, newest, datasets)


def _train_in_worker(config: dict[str, Any]) -> None:
    program: Any = config["program"].unpack()
    program()


def _scaling(given: Any) -> ScalingConfig:
    """The user's ``ScalingConfig``, which may be one of ``ray.tune``'s time."""
    names = ("num_workers", "use_gpu", "resources_per_worker")
    return ScalingConfig(**{name: getattr(given, name) for name in names})


def _run_config(given: Any, location: Path) -> RunConfig:
    failures = getattr(given, "failure_config", None)
    return RunConfig(
        name=getattr(given, "name", None) or "training",
        storage_path=getattr(given, "storage_path", None) or str(location / ".ray"),
        failure_config=FailureConfig(
            max_failures=MAX_FAILURES if failures is None else failures.max_failures
        ),
    )
