"""One training in this process: join the other ranks, build everything, train, leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from itwinai.loggers.running import running
from itwinai.torch.optimization.early_stopping import EarlyStopping
from itwinai.torch.optimization.step import Optimization
from itwinai.torch.reproducibility import set_seed
from itwinai.torch.strategies import resolve_strategy
from itwinai.torch.training import state
from itwinai.torch.training.protocol import Datasets, Trainable


def train(training: Trainable, datasets: Datasets) -> Any:
    """Do all of one training; return the model, without any wrapper."""
    training.load_checkpoint()
    training.torch_rng = set_seed(training.random_seed)
    training.strategy = resolve_strategy(training.strategy, training.config)
    training.strategy.init()
    try:
        given = state.untouched(training.model, training.strategy)
        with _logging(training):
            training.create_dataloaders(*datasets)
            training.create_model_loss_optimizer()
            _make_ready(training)
            training.train()
            if training.optimization.average is not None:
                training.optimization.average.exchange()
        model = state.whole_model(training, given)
        training.strategy.barrier()  # no rank goes on before rank 0 has saved all
    finally:
        # A wrapper that outlives its process group can hold up the end of its process.
        training.model = training.strategy.unwrap(training.model)
        training.strategy.clean_up()
    return model


def _make_ready(training: Trainable) -> None:
    """Make ready to train what was built; go on where a checkpoint was."""
    config, strategy = training.config, training.strategy
    training.optimization = Optimization(config, strategy, strategy.unwrap(training.model))
    training.early_stopping = EarlyStopping(
        config.early_stopping_patience, config.early_stopping_min_delta
    )
    if training.restored is not None:
        state.restore(training, *training.restored)
        training.restored = None


@contextmanager
def _logging(training: Trainable) -> Iterator[None]:
    """Log within a run of this training; its loggers' failures are counted, and no more."""
    logger, strategy = training.logger, training.strategy
    hyper_parameters = training.config.snapshot()
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
