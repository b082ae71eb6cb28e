"""One training in this process: join the other ranks, build everything, train, leave."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import itwinai
from itwinai.confidential import hidden
from itwinai.errors import ConfigurationError
from itwinai.loggers.running import running
from itwinai.torch.checkpoints import files
from itwinai.torch.optimization.early_stopping import EarlyStopping
from itwinai.torch.optimization.schedules import goes_by_step, stands
from itwinai.torch.optimization.step import Optimization
from itwinai.torch.reproducibility import part_streams, set_random_state, set_seed, state_on_cpu
from itwinai.torch.strategies import resolve_strategy
from itwinai.torch.training import hooks, state
from itwinai.torch.training.between import data_states
from itwinai.torch.training.effects import Effects
from itwinai.torch.training.own_values import own_values
from itwinai.torch.training.protocol import Datasets, Trainable
from itwinai.torch.training.samples import check_same_on_ranks, samples_of, tell_other_samples
from itwinai.torch.training.stateful import (
    buffers_lost,
    buffers_unsaved,
    check_ranks_agree,
    check_states,
    tell_unclaimed,
)
from itwinai.torch.training.steps import check_steps, warn_unheard


def train(training: Trainable, datasets: Datasets) -> Any:
    """Do all of one training; return the model, without any wrapper.

    Raises:
        ConfigurationError: If this trainer has trained before.
    """
    check_untrained(training)
    training.load_checkpoint()
    training.torch_rng = set_seed(training.random_seed)
    training.strategy = _strategy_here(training)
    training.strategy.init()
    silence = training.config.silence_timeout
    try:
        with training.strategy.watched(training.whereabouts, silence):
            model = _trained(training, datasets)
    finally:
        # A wrapper that outlives its process group can hold up the end of its process.
        training.model = training.strategy.unwrap(training.model)
        training.strategy.clean_up()
    return model


def check_untrained(training: Trainable) -> None:
    """Refuse a trainer that has trained before.

    Raises:
        ConfigurationError: If it has.
    """
    if hasattr(training, "optimization"):
        raise ConfigurationError(
            f"{type(training).__name__}: a trainer trains once, and this one has: its model, "
            "epochs and metrics stand where that training ended. Build a new one for another "
            "training, with from_checkpoint to go on where this one ended."
        )


def _strategy_here(training: Trainable) -> Any:
    """What the strategy is among the processes that train.

    It is the object that the program has asked for, unless that was where other processes were.
    """
    here = resolve_strategy(training.chosen_strategy, training.config)
    return training.known_strategy if type(training.known_strategy) is type(here) else here


def _trained(training: Trainable, datasets: Datasets) -> Any:
    """Build, train and return the model, whole."""
    _agree(training)
    given, where = state.untouched(training.model, training.strategy), training.whereabouts
    training.effects = Effects(training.config)
    with _logging(training):
        where.hook = "create_dataloaders()"
        training.create_dataloaders(*datasets)
        training.samples = samples_of(training)
        check_same_on_ranks(training)
        where.hook = "create_model_loss_optimizer()"
        training.create_model_loss_optimizer()
        hooks.check_built(training)
        _tell_pace(training)
        _tell_sum(training)
        _tell_missing_sets(training)
        check_steps(training)
        _make_ready(training)
        unsaved = buffers_unsaved(training)
        where.hook = "train()"
        training.train()
        tell_unclaimed(training)
        _tell_lost(training, buffers_lost(training, unsaved))
        where.hook = "the end of the training"
        check_ranks_agree(training)
        training.effects.look(certain=True)
        warn_unheard(training)
        if training.optimization.average is not None:
            training.optimization.average.exchange()
    model = state.whole_model(training, given)
    training.strategy.barrier()  # no rank goes on before rank 0 has saved all
    return model


def _tell_pace(training: Trainable) -> None:
    """Say where a schedule has no time to fall."""
    warmup, epochs = training.config.snapshot()["lr_warmup_epochs"], training.epochs
    is_main = training.strategy.is_main_worker
    if goes_by_step(training.lr_scheduler) and warmup >= epochs and is_main:
        training.reporter.note(
            "lr_warmup_epochs",
            f"warning: config.lr_warmup_epochs={warmup:g} is all of the {epochs} epochs, so the "
            "learning rate only rises. Let it be less.",
        )


def _tell_sum(training: Trainable) -> None:
    """Say that a loss is a sum where all that is done with it takes a mean."""
    if getattr(training.loss, "reduction", None) == "sum" and training.strategy.is_main_worker:
        name = type(training.loss).__name__
        training.reporter.note(
            "reduction",
            f"warning: {name} has reduction='sum', but the loss of a batch is taken for the mean "
            "over its samples: that of an epoch, and steps of several batches or ranks, will "
            "depend on the size of the batches. Let it be 'mean'.",
        )


def _tell_missing_sets(training: Trainable) -> None:
    """Say what was asked for and goes by a set that there is not."""
    patience = training.config.snapshot()["early_stopping_patience"]
    asked = {
        "validation": ("config.early_stopping_patience", patience),
        "test": ("test_every", training.test_every),
    }
    for name, (argument, value) in asked.items():
        is_there = getattr(training, f"{name}_dataloader") is not None
        own = training.overrides(f"{name}_epoch", "train")
        if value and not is_there and not own and training.strategy.is_main_worker:
            text = f"warning: {argument}={value} has no effect: there is no {name} set"
            training.reporter.note(argument, text)


def _tell_lost(training: Trainable, buffers: list[str]) -> None:
    """Say what of the model was trained and no checkpoint holds."""
    if buffers and training.strategy.is_main_worker:
        training.reporter.note(
            "buffers",
            f"warning: the training has changed {', '.join(buffers[:5])} of the model, which no "
            "checkpoint holds, as it is a buffer with persistent=False: a training that goes on, "
            "and a model from a checkpoint, have the one that they begin with. Register it with "
            "persistent=True.",
        )


def _agree(training: Trainable) -> None:
    """Let all ranks begin with rank 0's checkpoint, order of the data, and run."""
    strategy, restored = training.strategy, training.restored
    own = None if restored is None else str(restored[0])
    chosen = strategy.broadcast_obj(own, 0)
    if chosen is None:
        training.restored, training.current_epoch = None, 0
    elif chosen != own:
        state.begin_after(training, files.load(Path(chosen)))
    training.first_random_state = None
    if training.random_seed is None:
        saved = {} if training.restored is None else training.restored[-1]
        order = saved.get("order_seed", training.torch_rng.initial_seed())
        training.torch_rng.manual_seed(strategy.broadcast_obj(order, 0))
        # What is split at random must be so on all ranks, and once more after an interruption.
        first = saved.get("first_random_state") or state_on_cpu()
        training.first_random_state = strategy.broadcast_obj(first, 0)
        set_random_state(training.first_random_state)
    strategy.order_seed = training.torch_rng.initial_seed()
    _name_run(training)


def _name_run(training: Trainable) -> None:
    """Give a training the name of the run that it continues, or one of its own."""
    location, restored = Path(training.checkpoints_location), training.restored
    if training.run_id is not None:
        return
    if restored is not None and location.absolute() in restored[0].absolute().parents:
        training.run_id = files.run_of(restored[0])
        return
    training.run_id = uuid.uuid4().hex
    others = [name for names in files.runs_in(location).values() for name in names]
    if others and training.strategy.is_main_worker:
        itwinai.logger.warning(
            "warning: %s holds checkpoints of an earlier training (%s). This one begins anew, and "
            "replaces those of the same names.",
            location,
            ", ".join(reversed(others)),
        )


def _make_ready(training: Trainable) -> None:
    """Make ready to train what was built; go on where a checkpoint was."""
    config, strategy = training.config, training.strategy
    training.optimization = Optimization(config, strategy, strategy.unwrap(training.model))
    values = config.snapshot()  # they count as read once they are asked
    training.early_stopping = EarlyStopping(
        values["early_stopping_patience"], values["early_stopping_min_delta"]
    )
    training.built, training.first_values = state.as_built(training), own_values(training)
    check_states(training)
    data_states(training)  # refuses what a checkpoint could not give back
    part_streams(training.torch_rng, strategy.global_rank(), training.current_epoch)
    if training.restored is not None:
        path, _, saved = training.restored
        is_same_run = files.run_of(path) == training.run_id
        if is_same_run:
            tell_other_samples(training, saved.get("samples", {}))
        with training.effects.restoring():
            state.restore(training, *training.restored)
        if not is_same_run:
            state.measure_anew(training, saved)
        training.restored = None
    training.values_built = frozenset(own_values(training))
    training.schedule_stood = stands(training.lr_scheduler)
    listener = training.reporter if strategy.is_main_worker else None
    training.effects.begin(training.lr_scheduler, listener)


@contextmanager
def _logging(training: Trainable) -> Iterator[None]:
    """Log within a run of this training; its loggers' failures are counted, and no more."""
    logger, strategy = training.logger, training.strategy
    hyper_parameters = hidden(training.config.snapshot())
    hyper_parameters["distributed_strategy"] = type(strategy).__name__
    with running(
        logger, strategy, hyper_parameters, training.run_name, training.run_context
    ) as guarded:
        training.open_logger = None if logger is None else guarded
        try:
            for name, value in _facts(strategy).items():
                training.log(value, name, kind="param")
            yield
        finally:
            training.open_logger = None


def _facts(strategy: Any) -> dict[str, Any]:
    return {
        "strategy": strategy.name,
        "global_rank": strategy.global_rank(),
        "global_world_size": strategy.global_world_size(),
    }
