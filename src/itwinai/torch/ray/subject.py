"""A trainer with its data sets, for whoever trains a trial of its study again."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import StudyPlan
from itwinai.hpo.space import SearchSpace
from itwinai.torch.ray.program import TrainerProgram
from itwinai.torch.ray.studies import checked_plan
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer

#: A checkpoint's size over its model's, with the two moments that Adam keeps of each weight.
_WITH_OPTIMIZER = 3


@dataclass(frozen=True)
class TrainerSubject:
    """A trainer, its study and its data sets.

    Attributes:
        trainer: Trains every trial.
        space: What is tuned; None where only trials of a finished study are trained again.
        study: How.
        datasets: Training, validation and test set.
    """

    trainer: LocalTrainer
    space: SearchSpace | None
    study: StudyConfiguration
    datasets: Datasets

    @property
    def epochs(self) -> int:
        """Epochs of a full training."""
        return self.trainer.epochs

    @property
    def seed(self) -> int | None:
        """The trainer's own seed."""
        return self.trainer.random_seed

    def checked_plan(self) -> StudyPlan:
        """Check all of the study that can be known before anything starts."""
        return checked_plan(self.trainer, self.space or SearchSpace({}), self.study, self.datasets)

    def checkpoint_bytes(self) -> float | None:
        """Size of a checkpoint of a model that is there already."""
        model = self.trainer.model
        if not isinstance(model, nn.Module):
            return None
        tensors = [*model.parameters(), *model.buffers()]
        return float(_WITH_OPTIMIZER * sum(t.numel() * t.element_size() for t in tensors))

    def program(self, seed: int | None, epochs: int, tests: bool = False) -> TrainerProgram:
        """What trains, without loggers."""
        prepared = copy.copy(self.trainer)
        prepared.random_seed = seed
        prepared.epochs = epochs
        prepared.logger = None
        if tests:
            prepared.test_every = None if self.datasets[2] is None else epochs
            prepared.reports_test = True
        return TrainerProgram(prepared, self.datasets)
