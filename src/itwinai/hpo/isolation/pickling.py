"""Values on their way to other processes, where each trial gets its own."""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pickle import PickleBuffer
from types import ModuleType
from typing import Any

from itwinai.hpo.isolation.memory import OriginalMemory

#: Errors of what cannot be pickled, some from a user's own ``__getstate__``.
REFUSED = (TypeError, AttributeError, NotImplementedError, RuntimeError, pickle.PicklingError)

#: Bytes from which on a buffer is shared; smaller ones are copied for each trial.
_SHARED = 1024

#: Takes an object apart as ``object.__reduce__`` does; ``NotImplemented`` leaves it to pickle.
Reducer = Callable[[Any], Any]


def as_pickle_does(value: Any) -> Any:
    """Leave all objects to pickle."""
    return NotImplemented


class SharedValue:
    """A value of which each trial gets its own, as it was at first.

    The arrays in it lie in memory once, and a trial's are copied page by page as it writes to them.
    All else is made anew for each trial.

    Args:
        value: Anything that can be pickled.
        reducer: Takes objects of a library apart so that what is large in them is an array.

    Raises:
        TypeError, AttributeError, ...: One of ``REFUSED``, if it cannot leave its process.
    """

    def __init__(self, value: Any, reducer: Reducer) -> None:
        self._buffers: list[PickleBuffer] = []
        #: Not bytes, so that these too stay in the object store and are not copied out of it.
        self._pickled = PickleBuffer(pickled(value, self._buffers.append, reducer))
        self._memory: OriginalMemory | None = None

    @contextmanager
    def copy(self) -> Iterator[Any]:
        """Give a trial its own, until the block ends."""
        if self._memory is None:
            self._memory = OriginalMemory([memoryview(buffer) for buffer in self._buffers])
            self._buffers = []
        with self._memory.copy() as buffers:
            yield pickle.loads(self._pickled, buffers=buffers)


def pickled(
    value: Any,
    share: Callable[[PickleBuffer], Any] | None = None,
    reducer: Reducer = as_pickle_does,
) -> bytes:
    """Pickle what other processes shall load, whether or not they can import its classes.

    Any module is taken by its name: cloudpickle looks for modules that a function may use, and
    tries to take those apart that are objects of a class of their own, such as
    ``torch.distributed.config``.

    Args:
        value: Anything.
        share: Takes large buffers out of the bytes that are returned, one after the other.
        reducer: Takes objects of a library apart, where buffers are shared.
    """
    file = io.BytesIO()
    _pickler_class()(file, share, reducer).dump(value)
    return file.getvalue()


@cache
def _pickler_class() -> Any:
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(
            self,
            file: io.BytesIO,
            share: Callable[[PickleBuffer], Any] | None,
            reducer: Reducer,
        ) -> None:
            super().__init__(file, protocol=5, buffer_callback=self.stays)
            self.share = share
            self.reducer = reducer

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, ModuleType) and type(obj) is not ModuleType:
                return importlib.import_module, (obj.__name__,)
            reduced = NotImplemented if self.share is None else self.reducer(obj)
            return super().reducer_override(obj) if reduced is NotImplemented else reduced

        def stays(self, buffer: PickleBuffer) -> bool:
            flat = buffer.raw()
            if self.share is None or flat.nbytes < _SHARED:
                return True
            self.share(PickleBuffer(flat))
            return False

    return Pickler
