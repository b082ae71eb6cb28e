"""What an epoch of each trial takes on each node."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import median

from itwinai.hpo.search.multifidelity.encoding import Encoder
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.study.slowness import Array, Pace, Slowness, slowness

#: A node is slow if its epochs take so many times as long, and surely so many times, and if that
#: has cost so many seconds.
_RATIO, _LEAST, _SECONDS = 2.0, 1.5, 10.0
#: What counts, because a node may have become slow: its newest trials, and of each the newest
#: reports.
_TRIALS, _REPORTS = 12, 50


@dataclass
class _Stay:
    """A trial on a node: its hyper-parameters as numbers, and epochs and seconds of its reports."""

    point: Array
    reports: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_REPORTS))

    @property
    def pace(self) -> float:
        """Seconds per epoch."""
        return median(seconds / epochs for epochs, seconds in self.reports)

    @property
    def seconds(self) -> float:
        """Seconds that it has trained there."""
        return sum(seconds for _, seconds in self.reports)


class Paces:
    """Compares the nodes by the newest trials of each.

    The first epoch of a trial on a node does not count, because its start lies in it.

    Args:
        space: What is tuned, because an epoch's seconds depend on it.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._encoder = Encoder(space)
        #: Node, epochs and seconds of each running trial at its last report.
        self._last: dict[int, tuple[str, float, float]] = {}
        #: By node and trial, of each node the newest last.
        self._stays: defaultdict[str, dict[int, _Stay]] = defaultdict(dict)

    def heard(self, trial: RunningTrial, node: str) -> None:
        """Take note of an epoch."""
        number = trial.assignment.number
        there, epochs, seconds = self._last.get(number, ("", 0.0, 0.0))
        self._last[number] = (node, trial.epochs, trial.seconds)
        if there != node or trial.epochs <= epochs or trial.seconds <= seconds:
            return
        stays = self._stays[node]
        stay = stays.pop(number, None)
        stay = stay or _Stay(self._encoder.columns_of(trial.assignment.params))
        stay.reports.append((trial.epochs - epochs, trial.seconds - seconds))
        stays[number] = stay
        if len(stays) > _TRIALS:
            del stays[next(iter(stays))]

    def ended(self, number: int) -> None:
        """Take note that a trial has left its node."""
        self._last.pop(number, None)

    def slow(self, node: str, without: Collection[str]) -> Slowness | None:
        """How slow a node is, if that is sure and matters.

        Args:
            node: The node.
            without: Others that it is not compared with.
        """
        nodes = {node, *self._stays} - (set(without) - {node})
        if len(nodes) < 2:
            return None
        stays = [(name, stay) for name in sorted(nodes) for stay in self._stays[name].values()]
        found = slowness(node, [Pace(name, stay.pace, stay.point) for name, stay in stays])
        if found is None or found.ratio < _RATIO or found.least < _LEAST:
            return None
        there = sum(stay.seconds for stay in self._stays[node].values())
        return found if there * (1 - 1 / found.ratio) >= _SECONDS else None
