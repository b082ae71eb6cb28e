"""The state of a training, from its parts into a checkpoint and back, bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

import itwinai
from itwinai.errors import CheckpointError
from itwinai.torch.checkpoints import files as checkpoints
from itwinai.torch.checkpoints.plain import odd_part
from itwinai.torch.optimization.factories import build_model
from itwinai.torch.optimization.schedules import goes_by_step, stand_after
from itwinai.torch.reproducibility import (
    generator_state,
    random_state,
    set_generator_state,
    set_random_state,
)
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.strategies.watch import SAVING
from itwinai.torch.training import own_values, stateful
from itwinai.torch.training.between import data_states, load_data_states
from itwinai.torch.training.precedence import (
    Settings,
    merged,
    note_rates,
    settings_of,
    take_precedence,
)
from itwinai.torch.training.protocol import Built, Restored, Trainable, Training
from itwinai.torch.training.source import generators_of, keeps_processes

#: Of batches and steps so far.
_COUNTERS = ("train_glob_step", "validation_glob_step", "test_glob_step", "optimizer_steps")


def of_rank(training: Built) -> dict[str, Any]:
    """What differs from rank to rank: the random numbers, their data, and the position in it."""
    own = {
        **random_state(),
        "loader": training.torch_rng.get_state(),
        "data": data_states(training),
        "generators": _own_generators(training),
        "values": own_values.changes(training, training.first_values),
    }
    if training.position.is_saved:
        own["position"] = training.position.state()
    return own


def save_due(training: Training, always: bool) -> None:
    """Write the checkpoints that are due after this epoch; one ``always``."""
    loss = training.epoch_metrics.get("validation_loss")
    improved = loss is not None and loss < training.best_validation_metric
    if loss is not None and improved:
        training.best_validation_metric = loss
    ended = training.current_epoch + 1 == training.epochs
    last = ended or training.early_stopping.is_due
    due = training.checkpoints.due(training.current_epoch, improved, last)
    own = checkpoints.name_of(training.current_epoch)
    if always and own not in due:
        due = [own, *due]
    _save_all(training, due)
    if own in due and training.step_watch is not None:
        training.step_watch.saved()
    training.whereabouts.hook = "train()"


def save_within_epoch(training: Training) -> None:
    """Write a checkpoint after the step of the running epoch that was made last."""
    training.position.is_saved = True
    _save_all(training, [checkpoints.name_of(training.current_epoch, training.position.steps)])
    training.position.is_saved = False
    if training.step_watch is not None:
        training.step_watch.saved()


def hold_place(training: Training, again: bool) -> None:
    """Let a checkpoint that a user's own code writes from now on go on here, within the epoch.

    Args:
        training: Which is released by :func:`release_place`.
        again: Whether what is evaluated before it is written will be evaluated again then.
    """
    position = training.position
    if position.batches and position.keeps_place:
        position.is_saved, position.counters = True, _counters(training) if again else None
        training.random_states = training.strategy.gather_obj(of_rank(training)) or []


def release_place(training: Training) -> None:
    """Let a checkpoint be of an epoch that has ended again."""
    training.position.is_saved, training.position.counters = False, None
    training.random_states = []


def _save_all(training: Training, names: Sequence[str]) -> None:
    """Write checkpoints, each with the state of all ranks."""
    if not names:
        return
    hook, training.whereabouts.hook = training.whereabouts.hook, SAVING
    stateful.check_ranks_agree(training)
    training.random_states = training.strategy.gather_obj(of_rank(training)) or []
    for name in names:
        training.save_checkpoint(name)
    training.random_states = []
    training.whereabouts.hook = hook


def save(training: Built, path: Path, best_validation_metric: float, writes: bool) -> None:
    """Write one checkpoint.

    Args:
        training: What is saved.
        path: The checkpoint's folder.
        best_validation_metric: Recorded in it.
        writes: Whether this rank writes it; the others only take part where states are sharded.
    """
    with training.optimization.trained():
        if training.checkpoint_sharded:
            _save_sharded(training, path, best_validation_metric)
        else:
            _save_whole(training, path, best_validation_metric, writes)


def _save_whole(training: Built, path: Path, best_validation_metric: float, writes: bool) -> None:
    strategy, average = training.strategy, training.optimization.average
    state: dict[str, Any] = {
        "optimizer_state_dict": strategy.optimizer_state(training.model, training.optimizer)
    }
    state["stateful"] = stateful.states(training)
    if average is not None:
        state["trained_model_state_dict"] = _copied(strategy.model_state(training.model))
    with training.optimization.evaluated():
        model = strategy.model_state(training.model)
        if writes:
            state |= _of_training(training, best_validation_metric)
            checkpoints.save(path, model, state, training.config.snapshot(), _about(training))


def begin_after(training: Trainable, restored: Restored) -> None:
    """Let a training begin after a checkpoint that was read; what it builds takes the rest."""
    training.restored = restored
    saved = restored[-1]
    training.current_epoch = _epochs_ended(saved)
    training.best_validation_metric = saved["best_validation_metric"]


def restore(training: Built, path: Path, model: dict[str, Any], state: Any) -> None:
    """Put a checkpoint's state into a training whose parts are built.

    Args:
        training: The training.
        path: The checkpoint's folder, where it holds shards.
        model: The model's state dictionary; empty if it is in shards.
        state: The rest.

    Raises:
        CheckpointError: If the model is another one.
    """
    try:
        _restore_weights(training, path, model, state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: it does not fit this training: {error}") from error
    if "stateful" in state:
        stateful.load_states(training, state["stateful"])
    if "step" in state:
        _restore_position(training, state)
    _settle(training, state)
    training.optimization.load_state_dict(state.get("scaler_state_dict", {}))
    training.early_stopping.load_state_dict(
        state.get("early_stopping", training.early_stopping.state_dict())
    )
    for name, step in state.get("glob_steps", {}).items():
        setattr(training, name, step)
    if keeps_processes(training.train_dataloader):
        iter(training.train_dataloader)  # starts them, as they were: later epochs draw no seed
    _restore_random(training, state)


def measure_anew(training: Trainable, state: Mapping[str, Any]) -> None:
    """Forget the best loss of a checkpoint if that was another validation set's.

    No loss of this one can be compared with it: none might ever be better.

    Args:
        training: Whose other state was restored; all ranks do as rank 0 finds.
        state: The checkpoint's.
    """
    now = training.samples.get("validation")
    then = state.get("samples", {}).get("validation", now)
    if not training.strategy.broadcast_obj(now is not None and tuple(then) != tuple(now), 0):
        return
    training.best_validation_metric = training.initial_best_validation_metric
    training.early_stopping.restart()
    for schedule in _schedules(training).values():
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.best, schedule.num_bad_epochs = schedule.mode_worse, 0
    if training.strategy.is_main_worker:
        itwinai.logger.info(
            "the validation set is another one than that of the checkpoint, whose best loss (%g) "
            "counts no more",
            state["best_validation_metric"],
        )


def untouched(model: Any, strategy: TorchDistributedStrategy) -> Any:
    """The model as the user gave it, for a strategy that takes it apart; otherwise itself."""
    return copy.deepcopy(model) if strategy.is_sharded else model


def whole_model(training: Built, given: Any) -> Any:
    """The trained model, without wrapper and whole, on every rank.

    Where an own ``create_model_loss_optimizer`` made it and the strategy took it apart, there is
    nothing to put it together in, and it stays in parts.
    """
    strategy = training.strategy
    strategy.share_buffers(training.model)
    if not strategy.is_sharded or given is None:
        return strategy.unwrap(training.model)
    state = strategy.broadcast_obj(strategy.model_state(training.model), 0)
    model = build_model(given, training.config)
    model.load_state_dict(state)
    return model


def _save_sharded(training: Built, path: Path, best_validation_metric: float) -> None:
    """Let every rank write its part; rank 0 adds the rest and makes the folder visible."""
    strategy = training.strategy
    states = stateful.states(training)

    def write(shards: Path) -> None:
        strategy.broadcast_obj(str(shards), 0)
        _write_shards(training, shards)

    if strategy.is_main_worker:
        own = {"optimizer_state_dict": {}, "stateful": states}
        state = own | _of_training(training, best_validation_metric)
        about = _about(training)
        checkpoints.save(path, None, state, training.config.snapshot(), about, write)
    else:
        _write_shards(training, Path(strategy.broadcast_obj(None, 0)))
    strategy.barrier()  # from here on the folder has its name


def _write_shards(training: Built, shards: Path) -> None:
    """Write this rank's part of the weights to keep, and of those that train on, if they differ."""
    strategy, model = training.strategy, training.model
    with training.optimization.evaluated():
        strategy.save_sharded(shards, model, training.optimizer)
    if training.optimization.average is not None:
        strategy.save_sharded(shards.with_name(checkpoints.TRAINED), model, None)
    strategy.barrier()


def _of_training(training: Built, best_validation_metric: float) -> dict[str, Any]:
    schedule = training.lr_scheduler
    own = of_rank(training)
    return {
        **_where(training),
        "best_validation_metric": float(best_validation_metric),
        "lr_scheduler_state_dict": None if schedule is None else schedule.state_dict(),
        "built": training.built,
        "scaler_state_dict": training.optimization.state_dict(),
        "early_stopping": training.early_stopping.state_dict(),
        "glob_steps": training.position.counters or _counters(training),
        "torch_rng_state": own["torch"],
        "random_states": _of_ranks(training, own),
        "random_seed": training.random_seed,
        "order_seed": training.torch_rng.initial_seed(),
        "first_random_state": training.first_random_state,
        "samples": training.samples,
    }


def _of_ranks(training: Built, own: Mapping[str, Any]) -> list[Any]:
    """What differs from rank to rank: now, or where the training will evaluate again."""
    if training.random_states and training.position.counters:
        return training.random_states
    return [own, *training.random_states[1:]]


def _counters(training: Built) -> dict[str, int]:
    return {name: getattr(training, name) for name in _COUNTERS}


def _where(training: Built) -> dict[str, int]:
    """The epoch that has ended, or the running one and its step that was made last."""
    step = {"step": training.position.steps} if training.position.is_saved else {}
    return {"epoch": training.current_epoch, **step}


def _epochs_ended(state: Mapping[str, Any]) -> int:
    """How many epochs a checkpoint has behind it."""
    return int(state["epoch"]) + ("step" not in state)


def _about(training: Built) -> dict[str, Any]:
    return {
        **_where(training),
        "metrics": training.epoch_metrics,
        "run": training.run_id,
        "strategy": training.strategy.name,
        "world_size": training.strategy.global_world_size(),
    }


def _restore_weights(
    training: Built, path: Path, model: dict[str, Any], state: Mapping[str, Any]
) -> None:
    strategy, average = training.strategy, training.optimization.average
    if not model:
        strategy.load_sharded(path / checkpoints.SHARDS, training.model, training.optimizer)
        if average is not None:
            average.restart()
        if (path / checkpoints.TRAINED).exists():
            strategy.load_sharded(path / checkpoints.TRAINED, training.model, None)
        return
    strategy.load_model_state(training.model, model)
    if average is not None:
        average.restart()
    if "trained_model_state_dict" in state:
        strategy.load_model_state(training.model, state["trained_model_state_dict"])
    strategy.load_optimizer_state(training.model, training.optimizer, state["optimizer_state_dict"])


def as_built(training: Built) -> dict[str, Any]:
    """The settings of all optimizers and schedules, before anything is trained or restored."""
    optimizers, schedules = _optimizers(training), _schedules(training)
    return {
        "optimizers": {name: settings_of(one) for name, one in optimizers.items()},
        "schedules": {name: copy.deepcopy(one.state_dict()) for name, one in schedules.items()},
    }


def _settle(training: Built, state: Mapping[str, Any]) -> None:
    """Let what this run has built otherwise take effect, and schedules stand where the epochs say.

    A checkpoint of an earlier version does not tell how its run began: there, all goes on.
    """
    then = state.get("built") or training.built
    changes = [
        change
        for name, optimizer in _optimizers(training).items()
        for change in _settled(optimizer, *_pair(training.built, then, "optimizers", name))
    ]
    saved = {"lr_scheduler": state["lr_scheduler_state_dict"], **state.get("stateful", {})}
    for name, schedule in _schedules(training).items():
        now, before = _pair(training.built, then, "schedules", name)
        if goes_by_step(schedule) or saved.get(name) is None:
            stand_after(schedule, _epochs_ended(state), _steps_left(training))
        else:
            schedule.load_state_dict(merged(saved[name], now, before))
            if now != before:
                note_rates(schedule)
        if before.get("epochs") != now.get("epochs"):
            changes.append(f"{name} goes to the end of {now['epochs']} epochs")
    if changes and training.strategy.is_main_worker:
        itwinai.logger.info(
            "the configuration rules over the checkpoint: %s", ", ".join(dict.fromkeys(changes))
        )


def _pair(now: Mapping[str, Any], then: Mapping[str, Any], kind: str, name: str) -> tuple[Any, Any]:
    """What was built under a name now and then; the same where there was nothing then."""
    return now[kind][name], then[kind].get(name, now[kind][name])


def _settled(optimizer: Optimizer, now: Settings, then: Settings) -> list[str]:
    return take_precedence(optimizer, now, then) if len(now) == len(then) else []


def _optimizers(training: Built) -> dict[str, Optimizer]:
    others = stateful.stateful(training).items()
    return {
        "optimizer": training.optimizer,
        **{name: value for name, value in others if isinstance(value, Optimizer)},
    }


def _schedules(training: Built) -> dict[str, LRScheduler]:
    found = {"lr_scheduler": training.lr_scheduler, **stateful.stateful(training)}
    return {name: value for name, value in found.items() if isinstance(value, LRScheduler)}


def _restore_random(training: Built, state: Mapping[str, Any]) -> None:
    """Go on with this rank's random numbers, and those of its data, if the checkpoint has them."""
    states = state.get("random_states", [])
    rank = training.strategy.global_rank()
    if states:
        load_data_states(training, [one.get("data", {}) for one in states])
        training.saved_values = states[rank if rank < len(states) else 0].get("values", {})
        own_values.bring_back(training, training.first_values, training.saved_values)
    if rank < len(states):
        set_random_state(states[rank])
        training.torch_rng.set_state(states[rank]["loader"])
        for name, own in states[rank].get("generators", {}).items():
            set_generator_state(getattr(training, name, None), own)


def _own_generators(training: Built) -> dict[str, Any]:
    """The states of generators that the trainer has as attributes, as far as they are plain."""
    known = [training.torch_rng, *generators_of(training.train_dataloader).values()]
    others = {n: v for n, v in vars(training).items() if not any(v is one for one in known)}
    found = {name: generator_state(value) for name, value in others.items()}
    return {n: s for n, s in found.items() if s is not None and odd_part(s) is None}


def _restore_position(training: Built, state: Mapping[str, Any]) -> None:
    """Go on in the middle of an epoch."""
    rank, size = training.strategy.global_rank(), training.strategy.global_world_size()
    loader, epoch = training.train_dataloader, training.current_epoch
    training.position.resume(state["random_states"], rank, size, loader, epoch)


def _steps_left(training: Built) -> int | None:
    """Optimizer steps of an epoch to go on in, where that is known; None at the end of one."""
    left = training.position.left
    if left is None:
        return None
    window: int = training.config.snapshot()["gradient_accumulation_steps"]
    return math.ceil(left / window)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in state.items()}
