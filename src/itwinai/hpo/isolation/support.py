"""What a library needs around a trial and in its checkpoints, where a program has loaded it.

Nothing here knows a library by more than its name and the module that supports it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from itwinai.hpo.isolation.pickling import as_pickle_does
from itwinai.hpo.isolation.undoing import Setting

#: Modules that support a library: each has an object ``SUPPORT``.
SUPPORTED = {"torch": "itwinai.torch.ray.support"}


#: Items of a large value that are compared, at even distances.
FEW = 256


class Support(Protocol):
    """What a study's trials and checkpoints need to know of a library."""

    def reduced(self, value: Any) -> Any:
        """Take an object apart so that what is large in it is an array, or ``NotImplemented``."""
        ...

    def settings(self) -> Sequence[Setting]:
        """What of the process a trial may change, and is put back."""
        ...

    def around_trial(self, cpus: int) -> AbstractContextManager[None]:
        """Surround a trial that may use so many threads; nothing of it stays."""
        ...

    def seed(self, seed: int) -> None:
        """Seed the library's random numbers."""
        ...

    def random_state(self) -> Any:
        """State of the library's random numbers, of plain data and tensors."""
        ...

    def set_random_state(self, state: Any) -> None:
        """Put the random numbers back to a state."""
        ...

    def content(self, value: Any) -> Any:
        """What differs once an object holds something else; None of what has no such print."""
        ...

    def is_tensor(self, value: Any) -> bool:
        """Whether a value is one that :meth:`save` keeps."""
        ...

    def save(self, tensors: Mapping[str, Any], file: Path) -> None:
        """Write tensors to a file."""
        ...

    def load(self, file: Path) -> Mapping[str, Any]:
        """Read them, on the CPU and without running code."""
        ...


class Plain:
    """Python and NumPy alone."""

    def reduced(self, value: Any) -> Any:
        """Leave all objects to pickle, which takes arrays apart well."""
        return as_pickle_does(value)

    def settings(self) -> Sequence[Setting]:
        """None besides those of every program."""
        return ()

    def around_trial(self, cpus: int) -> AbstractContextManager[None]:
        """Do nothing: Ray has limited the threads of the process."""
        return nullcontext()

    def seed(self, seed: int) -> None:
        """Seed ``random`` and ``numpy.random``."""
        random.seed(seed)
        np.random.seed(seed % 2**32)

    def random_state(self) -> Any:
        """State of ``random`` and of ``numpy.random``."""
        return {"python": random.getstate(), "numpy": np.random.get_state()}

    def set_random_state(self, state: Any) -> None:
        """Put them back."""
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])

    def content(self, value: Any) -> Any:
        """Some items of an array, and the state of random numbers."""
        if isinstance(value, np.ndarray):
            some = value.flat[:: max(1, value.size // FEW)]
            return value.shape, value.dtype.str, some.tobytes()
        if isinstance(value, np.random.Generator):
            return repr(value.bit_generator.state)
        if isinstance(value, random.Random):
            return value.getstate()
        return repr(value.get_state()) if isinstance(value, np.random.RandomState) else None

    def is_tensor(self, value: Any) -> bool:
        """There are none."""
        return False

    def save(self, tensors: Mapping[str, Any], file: Path) -> None:
        """Write nothing."""

    def load(self, file: Path) -> Mapping[str, Any]:
        """Read nothing."""
        return {}


def support() -> Support:
    """The support of what this process has loaded by now."""
    loaded = [module for library, module in SUPPORTED.items() if library in sys.modules]
    return supported_by(loaded[0]) if loaded else Plain()


def supported_by(module: str) -> Support:
    """The support that a module gives; it loads its library."""
    found: Support = import_module(module).SUPPORT
    return found
