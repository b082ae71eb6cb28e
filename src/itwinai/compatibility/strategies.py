"""Strategies by their names of itwinai 0.4."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from itwinai.compatibility.processes import initialize_ray, ray_is_there
from itwinai.errors import ConfigurationError
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.strategies.ddp import TorchDDPStrategy
from itwinai.torch.strategies.deepspeed import DeepSpeedStrategy
from itwinai.torch.strategies.process_group import Backend
from itwinai.torch.strategies.table import NO_HOROVOD

Method = TypeVar("Method", bound=Callable[..., Any])


def check_initialized(method: Method) -> Method:
    """Refuse a strategy's method before its ``init()``."""

    @functools.wraps(method)
    def checked(self: TorchDistributedStrategy, *args: Any, **kwargs: Any) -> Any:
        self.check_initialized()
        return method(self, *args, **kwargs)

    return cast("Method", checked)


class HorovodStrategy:
    """Left out.

    Raises:
        ConfigurationError: Always.
    """

    name = "horovod"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ConfigurationError(NO_HOROVOD)


class RayTorchDistributedStrategy(TorchDistributedStrategy):
    """Mark of the strategies that run in Ray Train's workers, whose process group they use."""

    @property
    def ray_train(self) -> Any:
        """The package ``ray.train``, with its module ``torch``."""
        # Asked for each time: a strategy that holds a module could not travel to a worker.
        importlib.import_module("ray.train.torch")
        return importlib.import_module("ray.train")


class RayDDPStrategy(TorchDDPStrategy, RayTorchDistributedStrategy):
    """DDP in Ray Train's workers.

    Raises:
        RuntimeError: If no Ray cluster is running.
    """

    name = "ray-torch-ddp"

    def __init__(self) -> None:
        super().__init__()
        initialize_ray()


class RayDeepSpeedStrategy(DeepSpeedStrategy, RayTorchDistributedStrategy):
    """DeepSpeed in Ray Train's workers.

    Raises:
        RuntimeError: If no Ray cluster is running.
    """

    name = "ray-deepspeed"

    def __init__(self, backend: Backend = "nccl") -> None:
        super().__init__(backend)
        initialize_ray()


def on_ray(name: str, backend: Backend) -> TorchDistributedStrategy | None:
    """Make the strategy of a name for Ray Train's workers.

    Returns:
        None without a Ray cluster, or if Ray Train has none of that name.
    """
    made: Mapping[str, Callable[[], TorchDistributedStrategy]] = {
        "ddp": RayDDPStrategy,
        "deepspeed": lambda: RayDeepSpeedStrategy(backend),
    }
    return made[name]() if name in made and ray_is_there() else None
