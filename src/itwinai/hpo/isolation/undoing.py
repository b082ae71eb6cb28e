"""What a trial changes in its process, and can be put back for the next one."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np

#: How a setting is read, and how it is put back.
Setting = tuple[Callable[[], Any], Callable[[Any], object]]


@contextmanager
def put_back(more: Sequence[Setting] = ()) -> Iterator[None]:
    """Put the settings of the process back when the block ends, as they were when it began.

    Not the working directory, which each trial begins in anew.

    Args:
        more: Settings of a library, besides those of Python and NumPy.
    """
    before = []
    for read, write in (*_settings(), *more):
        with suppress(RuntimeError):  # PyTorch refuses to read what was set in two ways
            before.append((write, read()))
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for write, value in before:
            write(value)


def attribute(owner: object, name: str) -> Setting:
    """An attribute of an object, as a setting."""
    return partial(getattr, owner, name), partial(setattr, owner, name)


def _settings() -> tuple[Setting, ...]:
    return (
        (random.getstate, random.setstate),
        (np.random.get_state, np.random.set_state),
        (partial(dict, os.environ), _set_environment),
        (partial(list, sys.path), partial(sys.path.__setitem__, slice(None))),
        (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
        attribute(logging.root.manager, "disable"),
        (_loggers, _set_loggers),
    )


def _set_environment(variables: dict[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)


#: Level of a logger, whether it propagates, whether it is disabled, and its handlers.
LoggerState = tuple[int, bool, bool, list[logging.Handler]]


def _loggers() -> dict[logging.Logger, LoggerState]:
    """The state of each logger that there is."""
    named = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]
    return {
        logger: (logger.level, logger.propagate, logger.disabled, list(logger.handlers))
        for logger in loggers
    }


def _set_loggers(states: dict[logging.Logger, LoggerState]) -> None:
    for logger, (level, propagate, disabled, handlers) in states.items():
        logger.propagate, logger.disabled, logger.handlers[:] = propagate, disabled, handlers
        if logger.level != level:  # each setting empties the caches of all loggers
            logger.setLevel(level)
