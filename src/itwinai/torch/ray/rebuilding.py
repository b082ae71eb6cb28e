"""A trained model, put together again from its trainer and its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from itwinai.torch.checkpoints import files as checkpoints
from itwinai.torch.ray.pickling import fresh_copy, pickled_trainer
from itwinai.torch.ray.tunables import apply_values
from itwinai.torch.reproducibility import set_seed
from itwinai.torch.strategies import NonDistributedStrategy
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer


def rebuilt_model(
    trainer: LocalTrainer, values: Mapping[str, Any], checkpoint: Path | None, datasets: Datasets
) -> nn.Module | None:
    """Return the model on the CPU, or None where its checkpoint holds none.

    Args:
        trainer: As it was trained by; it stays as it is.
        values: Hyper-parameters that differ from the trainer's own.
        checkpoint: Its folder.
        datasets: Training, validation and test set.
    """
    if checkpoint is None or not (checkpoint / checkpoints.MODEL).exists():
        return None
    copy = fresh_copy(pickled_trainer(trainer))
    apply_values(copy, values)
    copy.strategy = NonDistributedStrategy()
    copy.strategy.init()
    copy.torch_rng = set_seed(None)
    copy.create_dataloaders(*datasets)  # a schedule may want to know an epoch's steps
    copy.create_model_loss_optimizer()
    model: nn.Module = copy.model
    model.load_state_dict(checkpoints.load_model(checkpoint))
    return model.cpu().eval()
