"""DeepSpeed: ZeRO divides optimizer states, gradients and weights among the processes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import itwinai
import itwinai.distributed as cluster
from itwinai.environ import environment
from itwinai.errors import ConfigurationError, MissingPackageError
from itwinai.torch.strategies import deepspeed_config
from itwinai.torch.strategies.process_group import Backend, ProcessGroupStrategy
from itwinai.torch.strategies.zero_state import ZeroState, drop_gradients, is_part

if TYPE_CHECKING:
    from itwinai.torch.config import TrainingConfiguration


class DeepSpeedStrategy(ProcessGroupStrategy):
    """Microsoft's DeepSpeed, whose ZeRO has four stages.

    Stage 0 divides nothing, 1 the optimizer's state, 2 the gradients too, 3 the weights too.

    Args:
        backend: ``nccl``, ``gloo`` or ``mpi``; without a GPU for each process, nccl becomes gloo.
    """

    name = "deepspeed"
    #: The package, after :meth:`init`.
    deepspeed: Any = None

    def __init__(self, backend: Backend = "nccl") -> None:
        super().__init__(backend)
        #: Each engine, with its state if that is in parts.
        self._engines: list[tuple[Any, ZeroState | None]] = []

    def init(self) -> None:
        """Join the other processes, as torchrun, Open MPI or Slurm tell.

        Raises:
            MissingPackageError: If DeepSpeed is not installed.
            DistributedStrategyError: If it was called before, or the processes cannot meet.
        """
        self.check_not_initialized()
        self.deepspeed = _import_deepspeed()
        super().init()
        with environment(cluster.rendezvous()):
            self.deepspeed.init_distributed(dist_backend=self.backend, verbose=False)

    def clean_up(self) -> None:
        """End the engines and leave the other processes."""
        self.check_initialized()
        for engine, _ in self._engines:
            engine.destroy()
        self._engines = []
        if self._made_group:
            # DeepSpeed keeps references to the group, which the next training must not find.
            self.deepspeed.comm.destroy_process_group()
        super().clean_up()

    def default_options(self, config: TrainingConfiguration) -> dict[str, Any]:
        """DeepSpeed's configuration, as it follows from a training's.

        Its key ``deepspeed`` wins, a mapping or the path of a JSON file.

        Raises:
            ConfigurationError: If that file cannot be read, or has a schedule.
        """
        options = deepspeed_config.from_training(config)
        if cluster.detect_distributed_environment().global_rank == 0:
            for text in deepspeed_config.without_effect(config):
                itwinai.logger.warning("warning: %s", text)
        return {"config": options}

    def distributed(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        model_parameters: Iterable[nn.Parameter] | None = None,
        config: Mapping[str, Any] | str | Path | None = None,
        config_params: Mapping[str, Any] | str | Path | None = None,
        **init_kwargs: Any,
    ) -> tuple[nn.Module, Optimizer, LRScheduler | None]:
        """Wrap the model in an engine.

        Args:
            model: The model.
            optimizer: One of PyTorch's, or DeepSpeed's.
            lr_scheduler: The optimizer's; whoever trains calls its ``step()``.
            model_parameters: Parameters to train; None: the optimizer's.
            config: DeepSpeed's configuration, a mapping or the path of a JSON file.
            config_params: The same under its older name.
            init_kwargs: Further arguments of ``deepspeed.initialize``.

        Returns:
            The engine, an optimizer that drives it, and the schedule.

        Raises:
            ConfigurationError: If gradients are to be accumulated by DeepSpeed, or weights are to
                be in 16 bits at stage 0.
        """
        self.check_initialized()
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model.to(self.device()), optimizer, lr_scheduler
        if not any(is_part(parameter) for parameter in model.parameters()):  # by zero.Init
            self._take_weights_of_rank_0(model.to(self.device()))
        given = config if config is not None else config_params
        settings = deepspeed_config.complete(deepspeed_config.read(given))
        groups = [list(group["params"]) for group in optimizer.param_groups]
        with environment(cluster.rendezvous()):
            engine, *_ = self.deepspeed.initialize(
                model=model,
                optimizer=optimizer,
                model_parameters=model_parameters,
                config=settings,
                dist_init_required=False,
                **init_kwargs,
            )
        self.is_sharded = engine.zero_optimization_stage() > 0
        self.scales_loss = engine.fp16_enabled()
        if not self.is_sharded:
            _check_format(engine)
            # Refused at stage 0 by default; here it is right, for step() adds the gradients up.
            engine._support_torch_style_backward = True
        zero = ZeroState(self.deepspeed, optimizer, groups) if self.is_sharded else None
        self._engines.append((engine, zero))
        return engine, DeepSpeedOptimizer(engine, optimizer), lr_scheduler

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the user's model inside the engine."""
        engine = self._engine(model)
        inner: nn.Module = model if engine is None else engine.module
        return inner

    def backward(self, loss: torch.Tensor, model: nn.Module) -> None:
        """Add the gradients of a loss to those that are there."""
        engine = self._engine(model)
        if engine is None:
            super().backward(loss, model)
        else:
            engine.backward(loss, scale_wrt_gas=False)

    def clip_gradients(self, model: nn.Module, max_norm: float) -> None:
        """Let the coming step scale the gradients down to a norm, over all parameters and ranks."""
        engine = self._engine(model)
        if engine is None:
            super().clip_gradients(model, max_norm)
        else:
            _set_clipping(engine, max_norm)

    # -- state ---------------------------------------------------------------------------------

    def model_state(self, model: nn.Module) -> dict[str, Any]:
        """Whole state dictionary; if it is sharded, on rank 0, and all ranks must ask for it."""
        zero = self._zero(model)
        inner = self.unwrap(model)
        return inner.state_dict() if zero is None else zero.model(inner, self._on_rank_0)

    def load_model_state(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`model_state` returned, on every rank."""
        zero = self._zero(model)
        if zero is None:
            self.unwrap(model).load_state_dict(state)
        else:
            zero.load_model(self.unwrap(model), state)

    def optimizer_state(self, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """Whole state dictionary, as a single process would have it; on rank 0, if sharded."""
        zero = self._zero(model)
        if zero is None:
            return optimizer.state_dict()
        state = zero.optimizer(model, self._on_rank_0)
        return state if self.is_main_worker else {}

    def load_optimizer_state(
        self, model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]
    ) -> None:
        """Put back what :meth:`optimizer_state` returned, on every rank."""
        zero = self._zero(model)
        if zero is None:
            optimizer.load_state_dict(dict(state))
        else:
            zero.load_optimizer(model, state)

    def save_sharded(self, path: Path, model: nn.Module, optimizer: Optimizer | None) -> None:
        """Let every rank write its share of the tensors, each of them whole."""
        from itwinai.torch.checkpoints import sharded

        zero, inner = self._zero(model), self.unwrap(model)
        if zero is None:
            super().save_sharded(path, model, optimizer)
            return
        weights = zero.model(inner, self._by_turns)
        states = sharded.NO_OPTIMIZER
        if optimizer is not None:
            states = zero.optimizer(model, self._by_turns)
        sharded.write_shards(path, weights, states, inner.state_dict(keep_vars=True))

    def load_sharded(self, path: Path, model: nn.Module, optimizer: Optimizer | None) -> None:
        """Put back what :meth:`save_sharded` wrote, with any strategy and number of processes."""
        from itwinai.torch.checkpoints import sharded

        model_state, optimizer_state = sharded.merge_shards(path)
        self.load_model_state(model, model_state)
        if optimizer is not None:
            self.load_optimizer_state(model, optimizer, optimizer_state)

    def _on_rank_0(self, number: int) -> bool:
        return self.is_main_worker

    def _by_turns(self, number: int) -> bool:
        return number % self.global_world_size() == self.global_rank()

    def _engine(self, model: nn.Module) -> Any | None:
        return next((engine for engine, _ in self._engines if engine is model), None)

    def _zero(self, model: nn.Module) -> ZeroState | None:
        """The state of an engine whose state is in parts."""
        return next((zero for engine, zero in self._engines if engine is model), None)


class DeepSpeedOptimizer(Optimizer):
    """Drives an engine as PyTorch's optimizers are driven.

    Args:
        engine: DeepSpeed's.
        base: The user's optimizer, whose groups and state these are; the engine steps it.
    """

    def __init__(self, engine: Any, base: Optimizer) -> None:
        # Not super().__init__(), which makes groups and a state of its own.
        self.engine = engine
        self.base = base
        self.defaults = base.defaults

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The user's, with the learning rate."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """Of this rank."""
        return self.base.state

    def state_dict(self) -> dict[str, Any]:
        """Of this rank; the whole of it is the strategy's ``optimizer_state()``."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of this rank; the whole of it is the strategy's ``load_optimizer_state()``."""
        self.base.load_state_dict(state_dict)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Add the gradients up over all ranks, and change the weights."""
        loss = None if closure is None else closure()
        self.engine.step()
        _set_clipping(self.engine, self.engine.config["gradient_clipping"])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, those that are divided among the ranks included."""
        if self.engine.zero_optimization():
            drop_gradients(self.engine.optimizer)
        else:
            self.engine.zero_grad()


def _import_deepspeed() -> Any:
    on_cpu = {} if torch.cuda.is_available() else {"DS_ACCELERATOR": "cpu"}
    try:
        with environment(on_cpu):
            deepspeed = importlib.import_module("deepspeed")
    except ImportError as error:
        raise MissingPackageError(
            f"the strategy 'deepspeed' needs DeepSpeed ({error}). Install it: "
            "DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed"
        ) from error
    if not hasattr(deepspeed.DeepSpeedEngine, "managed_gradient_accumulation"):
        raise MissingPackageError(
            f"the strategy 'deepspeed' needs DeepSpeed 0.19.8 or newer, and this is "
            f"{deepspeed.__version__}. Update it: "
            "DS_BUILD_OPS=0 pip install --upgrade --no-build-isolation deepspeed"
        )
    if on_cpu:
        # Only for inference, and it would be compiled at the first start.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _check_format(engine: Any) -> None:
    if engine.fp16_enabled() or engine.bfloat16_enabled():
        raise ConfigurationError(
            "deepspeed: weights in 16 bits have their exact copy in ZeRO's parts, which stage 0 "
            "does not have. Set zero_optimization.stage to 1 or more."
        )


def _set_clipping(engine: Any, max_norm: float) -> None:
    engine._config.gradient_clipping = max_norm  # what the engine reads at stage 0
    engine.optimizer.clip_grad = max_norm  # what ZeRO reads
