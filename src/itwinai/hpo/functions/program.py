"""What a function's trials run: a fresh copy of the function, with the trial's values.

A trial's process loads this module, and nothing of the study that drives it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itwinai.config.nesting import nested
from itwinai.errors import ConfigurationError
from itwinai.hpo.engine import Place
from itwinai.hpo.functions.configuration import TrialConfig
from itwinai.hpo.functions.trial import Task, Trial
from itwinai.hpo.isolation.leftovers import Leftovers
from itwinai.hpo.isolation.pickling import REFUSED, SharedValue, pickled
from itwinai.hpo.isolation.support import support
from itwinai.hpo.isolation.undoing import put_back
from itwinai.hpo.trial import Assignment
from itwinai.io.newest import NewestCheckpoint
from itwinai.reporting import Reporter

#: A user's function: it trains with a configuration, and reports to its trial.
Function = Callable[[TrialConfig, Trial], Any]


class FunctionProgram:
    """What every trial runs: a function, with the trial's values and its own copy of the data.

    Args:
        function: Takes the configuration and the trial.
        config: The default configuration.
        epochs: Epochs of a full training.
        data: Crosses to each node once.

    Raises:
        ConfigurationError: If one of these holds something that cannot leave its process.
    """

    def __init__(
        self,
        function: Function,
        config: Mapping[str, Any],
        epochs: int,
        data: Any = None,
    ) -> None:
        self._pickled = _sendable((function, dict(config)), "function")
        self._epochs = epochs
        self._leftovers = Leftovers()
        self._last: NewestCheckpoint | None = None
        try:
            self._data = SharedValue(data, support().reduced)
        except REFUSED as error:
            raise _not_sendable("data", error) from error

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        pickle.loads(self._pickled)  # so that no trial waits for what the function imports

    def __call__(self, assignment: Assignment, place: Place, reporter: Reporter) -> None:
        """Run the function with a trial's values."""
        if self._last is not None:  # that trial has ended, and all of it is on record
            self._last.delete_superseded()
        self._last = checkpoint = NewestCheckpoint(Path(assignment.directory))
        with self._data.copy() as data, apart(assignment.seed, place):
            function, config = pickle.loads(self._pickled)
            self._leftovers.tell(assignment.number, reporter, function)
            values = TrialConfig({**config, **nested(assignment.params, config)})
            task = Task(assignment, place, values, data, self._epochs, checkpoint)
            function(values, Trial(task, reporter))


@contextmanager
def apart(seed: int | None, place: Place) -> Iterator[None]:
    """Surround a trial, so that it finds nothing of the one before and leaves nothing.

    Args:
        seed: Of all ranks, which draw alike, so that they split data alike. None: random numbers
            are not seeded.
        place: The process among those of the trial.
    """
    library = support()
    with put_back(library.settings()), library.around_trial(place.cpus):
        if seed is not None:
            library.seed(seed)
        yield


def _sendable(value: Any, name: str) -> bytes:
    try:
        return pickled(value)
    except REFUSED as error:
        raise _not_sendable(name, error) from error


def _not_sendable(name: str, error: BaseException) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: it cannot be sent to a trial's process: {error}. Open files, locks and "
        "connections in the function, not outside of it."
    )
