"""Loggers: one interface to the places where metrics, parameters and files are kept.

Importing this package loads no back end; a logger imports its own when its context is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily
from itwinai.loggers.base import (
    BASE_EXP_NAME,
    EmptyLogger,
    Logger,
    LogMixin,
    check_initialized,
    check_not_initialized,
    py_logger,
)
from itwinai.loggers.collection import LoggersCollection, get_mlflow_logger
from itwinai.loggers.console import ConsoleLogger
from itwinai.loggers.mlflow import MLFlowLogger
from itwinai.loggers.running import RunContext, running
from itwinai.loggers.tensorboard import TensorBoardLogger
from itwinai.loggers.wandb import WandBLogger

if TYPE_CHECKING:
    from itwinai.compatibility.provenance import Prov4MLLogger as Prov4MLLogger

__all__ = [
    "BASE_EXP_NAME",
    "ConsoleLogger",
    "EmptyLogger",
    "LogMixin",
    "Logger",
    "LoggersCollection",
    "MLFlowLogger",
    "RunContext",
    "TensorBoardLogger",
    "WandBLogger",
    "check_initialized",
    "check_not_initialized",
    "get_mlflow_logger",
    "py_logger",
    "running",
]

# Not in __all__: whoever imports all of these need not have its package.
__getattr__ = lazily(__name__, {"provenance": "Prov4MLLogger"}, "itwinai.compatibility")
