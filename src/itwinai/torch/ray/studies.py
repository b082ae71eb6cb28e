"""A trainer's study: checked, run, and its winner made a model again."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import itwinai
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import StudyPlan, plan_study, run_study
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import SearchSpace
from itwinai.torch.ray.program import TrainerProgram
from itwinai.torch.ray.rebuilding import rebuilt_model
from itwinai.torch.ray.runs import StudyRuns
from itwinai.torch.ray.tunables import (
    check_checkpoints,
    check_metrics,
    check_names,
    check_values,
    default_values,
)
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer


def tune(
    trainer: LocalTrainer,
    space: SearchSpace,
    study: StudyConfiguration,
    datasets: Datasets,
    pipeline: str | None = None,
) -> StudyResult:
    """Run a study of a trainer.

    Args:
        trainer: Trains every trial, with the trial's values.
        space: What is tuned.
        study: How.
        datasets: Training, validation and test set.
        pipeline: The pipeline that the trainer is a step of, which the study's folder keeps.

    Raises:
        ConfigurationError: For whatever cannot work, before anything starts.
        StudyError: As of :func:`itwinai.hpo.launch.run_study`.
    """
    plan = checked_plan(trainer, space, study, datasets)
    program = TrainerProgram(trainer, datasets)
    runs = StudyRuns(trainer.logger, program, trainer.time_ray)
    return run_study(
        plan,
        program,
        pipeline=pipeline,
        company=runs.of,
        checkpoint_bytes=_bytes_of(trainer.model),
    )


def checked_plan(
    trainer: LocalTrainer, space: SearchSpace, study: StudyConfiguration, datasets: Datasets
) -> StudyPlan:
    """Check all of a trainer's study that can be known before anything starts.

    Raises:
        ConfigurationError: For whatever cannot work.
    """
    check_names(trainer, space, space)
    check_values(trainer, space)
    plan = plan_study(study, space, trainer.epochs, _default(trainer, space, study))
    check_checkpoints(trainer, plan.scheduler)
    metrics = [objective.metric for objective in study.objectives]
    check_metrics(trainer, metrics, validates=datasets[1] is not None)
    return plan


def best_model(trainer: LocalTrainer, study: StudyResult, datasets: Datasets) -> nn.Module | None:
    """The best trial's model on the CPU, or None where it kept no checkpoint."""
    best = study.best
    return None if best is None else rebuilt_model(trainer, best.params, best.checkpoint, datasets)


def _default(
    trainer: LocalTrainer, space: SearchSpace, study: StudyConfiguration
) -> dict[str, Any] | None:
    default = default_values(trainer, [name for name in space if name not in space.defaults])
    if default is None and study.default_first:
        itwinai.logger.warning(
            "warning: the config lacks a value for some of %s, so there is no default "
            "configuration to compare with. Set them in the config, or study.default_first=false.",
            ", ".join(space),
        )
    return default


def _bytes_of(model: Any) -> int:
    """Bytes of a model's weights; nothing of one that is built in the trial."""
    state = model.state_dict().values() if isinstance(model, nn.Module) else ()
    return sum(value.nbytes for value in state if isinstance(value, torch.Tensor))
