"""What an epoch of each trial takes on each node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

from itwinai.hpo.search.multifidelity.encoding import Encoder
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.study.slowness import Array, Pace, Slowness, slowness

#: A node is slow if its epochs take so many times as long, and surely so many times, and if that
#: has cost so many seconds.
_RATIO, _LEAST, _SECONDS = 2.0, 1.5, 10.0
#: Trials of a node that count, the newest: it may have become slow.
_RECENT = 12


@dataclass
class _Stay:
    """A trial on a node: its point, and the seconds of each epoch there but the first."""

    node: str
    point: Array
    epochs: list[float] = field(default_factory=list)


class Paces:
    """Compares the nodes by the newest trials of each.

    The first epoch of a trial on a node does not count, because its start lies in it.

    Args:
        space: What is tuned, because an epoch's seconds depend on it.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._encoder = Encoder(space)
        #: Node, epochs and seconds of each running trial at its last report.
        self._last: dict[int, tuple[str, int, float]] = {}
        self._stays: dict[tuple[str, int], _Stay] = {}

    def heard(self, trial: RunningTrial, node: str) -> None:
        """Take note of an epoch."""
        number = trial.assignment.number
        there, epochs, seconds = self._last.get(number, ("", 0, 0.0))
        self._last[number] = (node, trial.epochs, trial.seconds)
        if there != node or trial.epochs <= epochs or trial.seconds <= seconds:
            return
        stay = self._stays.pop((node, number), None)
        stay = stay or _Stay(node, self._encoder.columns_of(trial.assignment.params))
        stay.epochs.append((trial.seconds - seconds) / (trial.epochs - epochs))
        self._stays[node, number] = stay  # the newest is the last

    def ended(self, number: int) -> None:
        """Take note that a trial has left its node."""
        self._last.pop(number, None)

    def slow(self, node: str, without: Collection[str]) -> Slowness | None:
        """How slow a node is, if that is sure and matters.

        Args:
            node: The node.
            without: Others that it is not compared with.
        """
        stays = list(self._newest({s.node for s in self._stays.values()} - set(without) | {node}))
        found = slowness(node, [Pace(s.node, median(s.epochs), s.point) for s in stays])
        if found is None or found.ratio < _RATIO or found.least < _LEAST:
            return None
        there = sum(sum(stay.epochs) for stay in stays if stay.node == node)
        return found if there * (1 - 1 / found.ratio) >= _SECONDS else None

    def _newest(self, nodes: Collection[str]) -> Iterator[_Stay]:
        stays: defaultdict[str, list[_Stay]] = defaultdict(list)
        for stay in reversed(self._stays.values()):
            if stay.node in nodes:
                stays[stay.node].append(stay)
        for of_node in stays.values():
            yield from islice(of_node, _RECENT)
