"""The state of a training, from its parts into a checkpoint and back, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itwinai.errors import CheckpointError
from itwinai.torch.checkpoints import files as checkpoints
from itwinai.torch.optimization.factories import build_model
from itwinai.torch.reproducibility import random_state, set_random_state

if TYPE_CHECKING:
    from itwinai.torch.strategies.base import TorchDistributedStrategy
    from itwinai.torch.trainer import TorchTrainer


def of_rank(trainer: TorchTrainer) -> dict[str, Any]:
    """What differs from rank to rank: the random numbers, and the position in their data."""
    return {**random_state(), "loader": trainer.torch_rng.get_state()}


def save(trainer: TorchTrainer, path: Path, best_validation_metric: float, writes: bool) -> None:
    """Write a checkpoint.

    Args:
        trainer: The training.
        path: The checkpoint's folder.
        best_validation_metric: Recorded in it.
        writes: Whether this rank writes it; the others only take part where states are sharded.
    """
    if trainer.checkpoint_sharded:
        _save_sharded(trainer, path, best_validation_metric)
        return
    strategy, average = trainer.strategy, trainer.optimization.average
    training = {"optimizer_state_dict": strategy.optimizer_state(trainer.model, trainer.optimizer)}
    if average is not None:
        training["trained_model_state_dict"] = _copied(strategy.model_state(trainer.model))
    with trainer.optimization.evaluated():
        model = strategy.model_state(trainer.model)
        if writes:
            training |= _of_training(trainer, best_validation_metric)
            checkpoints.save(path, model, training, trainer.config.snapshot(), _about(trainer))


def restore(trainer: TorchTrainer, path: Path, model: dict[str, Any], state: Any) -> None:
    """Put a checkpoint's state into a training whose parts are built.

    Args:
        trainer: The training.
        path: The checkpoint's folder, where it holds shards.
        model: The model's state dictionary; empty if it is in shards.
        state: The rest.

    Raises:
        CheckpointError: If the model is another one.
    """
    try:
        _restore_weights(trainer, path, model, state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: it does not fit this training: {error}") from error
    if trainer.lr_scheduler is not None and state["lr_scheduler_state_dict"] is not None:
        trainer.lr_scheduler.load_state_dict(state["lr_scheduler_state_dict"])
    trainer.optimization.load_state_dict(state.get("scaler_state_dict", {}))
    trainer.early_stopping.load_state_dict(
        state.get("early_stopping", trainer.early_stopping.state_dict())
    )
    for name, step in state.get("glob_steps", {}).items():
        setattr(trainer, name, step)
    _restore_random(trainer, state)


def untouched(model: Any, strategy: TorchDistributedStrategy) -> Any:
    """The model as the user gave it, for a strategy that takes it apart; otherwise itself."""
    return copy.deepcopy(model) if strategy.is_sharded else model


def whole_model(trainer: TorchTrainer, given: Any) -> Any:
    """The trained model, without wrapper and whole, on every rank.

    Where an own ``create_model_loss_optimizer`` made it and the strategy took it apart, there is
    nothing to put it together in, and it stays in parts.
    """
    strategy = trainer.strategy
    if not strategy.is_sharded or given is None:
        return strategy.unwrap(trainer.model)
    state = strategy.broadcast_obj(strategy.model_state(trainer.model), 0)
    model = build_model(given, trainer.config)
    model.load_state_dict(state)
    return model


def _save_sharded(trainer: TorchTrainer, path: Path, best_validation_metric: float) -> None:
    """Let every rank write its part; rank 0 adds the rest and makes the folder visible."""
    strategy = trainer.strategy

    def write(shards: Path) -> None:
        strategy.broadcast_obj(str(shards), 0)
        strategy.save_sharded(shards, trainer.model, trainer.optimizer)
        strategy.barrier()

    if strategy.is_main_worker:
        training = {
            "optimizer_state_dict": {},
            **_of_training(trainer, best_validation_metric),
        }
        about = _about(trainer)
        checkpoints.save(path, None, training, trainer.config.snapshot(), about, write)
    else:
        shards = Path(strategy.broadcast_obj(None, 0))
        strategy.save_sharded(shards, trainer.model, trainer.optimizer)
        strategy.barrier()
    strategy.barrier()  # from here on the folder has its name


def _of_training(trainer: TorchTrainer, best_validation_metric: float) -> dict[str, Any]:
    schedule = trainer.lr_scheduler
    own = of_rank(trainer)
    return {
        "epoch": trainer.current_epoch,
        "best_validation_metric": float(best_validation_metric),
        "lr_scheduler_state_dict": None if schedule is None else schedule.state_dict(),
        "scaler_state_dict": trainer.optimization.state_dict(),
        "early_stopping": trainer.early_stopping.state_dict(),
        "glob_steps": {
            name: getattr(trainer, name)
            for name in ("train_glob_step", "validation_glob_step", "test_glob_step")
        },
        "torch_rng_state": own["torch"],
        "random_states": trainer.random_states or [own],
        "random_seed": trainer.random_seed,
    }


def _about(trainer: TorchTrainer) -> dict[str, Any]:
    return {
        "epoch": trainer.current_epoch,
        "metrics": trainer.epoch_metrics,
        "run": trainer.run_id,
        "strategy": trainer.strategy.name,
        "world_size": trainer.strategy.global_world_size(),
    }


def _restore_weights(
    trainer: TorchTrainer, path: Path, model: dict[str, Any], state: Mapping[str, Any]
) -> None:
    strategy, average = trainer.strategy, trainer.optimization.average
    if not model:
        strategy.load_sharded(path / checkpoints.SHARDS, trainer.model, trainer.optimizer)
        return
    strategy.load_model_state(trainer.model, model)
    if average is not None:
        average.restart()
    if "trained_model_state_dict" in state:
        strategy.load_model_state(trainer.model, state["trained_model_state_dict"])
    strategy.load_optimizer_state(trainer.model, trainer.optimizer, state["optimizer_state_dict"])


def _restore_random(trainer: TorchTrainer, state: Mapping[str, Any]) -> None:
    """Go on with this rank's random numbers, if the checkpoint has them."""
    states = state.get("random_states", [])
    rank = trainer.strategy.global_rank()
    if rank < len(states):
        set_random_state(states[rank])
        trainer.torch_rng.set_state(states[rank]["loader"])


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in state.items()}
