"""Trials that failed on a node that may be broken, and are tried on another one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from itwinai.errors import one_line
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.study.slowness import CERTAINTY
from itwinai.hpo.trial import TrialResult

#: Trials that must have gone further elsewhere before a node is called broken.
_PROOFS = 2


@dataclass(frozen=True)
class _Failure:
    """A trial that failed on a node; ``again`` if it is tried on another one."""

    node: str
    trial: TrialResult
    epochs: float
    reason: str
    again: bool


class SecondTries:
    """Knows which failures are a node's fault, because the trials go further elsewhere.

    A trial that fails where the one before it failed too, or where none has ended yet, is tried on
    another node. If it fails there as well, the fault is its own.
    """

    def __init__(self) -> None:
        #: The failures on a node since a trial ended well there; no entry before the first end.
        self._in_a_row: dict[str, list[_Failure]] = {}
        self._tried: dict[int, _Failure] = {}
        self._well: defaultdict[str, set[int]] = defaultdict(set)
        self._badly: defaultdict[str, set[int]] = defaultdict(set)
        #: By the node on which they had failed.
        self._went_further: defaultdict[str, set[int]] = defaultdict(set)

    def heard(self, trial: RunningTrial, node: str) -> str | None:
        """Take note of an epoch; return the node on which the trial had failed before it."""
        failure = self._tried.get(trial.assignment.number)
        if failure is None or failure.node == node or trial.epochs <= failure.epochs:
            return None
        self._went_further[failure.node].add(trial.assignment.number)
        return failure.node

    def ended_well(self, number: int, node: str) -> None:
        """Take note of a trial's end that is no failure."""
        self._in_a_row[node] = []
        self._went_further[node].clear()
        self._well[node].add(number)

    def failed(self, trial: RunningTrial, node: str, reason: str, elsewhere: bool) -> bool:
        """Take note of a failure; return whether the trial is tried on another node.

        Args:
            trial: The trial.
            node: Where it failed.
            reason: Why.
            elsewhere: Whether it can be tried on another node.
        """
        number = trial.assignment.number
        first = self._tried.get(number)
        if first is not None:
            self._absolve(first)
            self._badly[node].add(number)
            return False
        row = self._in_a_row.get(node)
        again = elsewhere and row != []
        failure = _Failure(node, trial.shelved(), trial.epochs, reason, again)
        self._in_a_row.setdefault(node, []).append(failure)
        if again:
            self._tried[number] = failure
        else:
            self._badly[node].add(number)
        return again

    def failed_on(self, number: int) -> str | None:
        """The node on which a trial failed that is tried on another one."""
        failure = self._tried.get(number)
        return None if failure is None else failure.node

    def broken(self, node: str) -> str | None:
        """Say by what a node is known to be broken, or None if it is not."""
        row, further = self._in_a_row.get(node, []), self._went_further[node]
        if len(further) < _PROOFS or self._chance(node, len(row)) > 1 - CERTAINTY:
            return None
        return (
            f"its last {len(row)} trials failed, and {len(further)} of them went further "
            f"elsewhere; the last one: {one_line(row[-1].reason)}"
        )

    def condemned(self, node: str) -> Sequence[TrialResult]:
        """Take note that a node is broken; return trials that counted as their own failures."""
        return [f.trial for f in self._in_a_row.pop(node, []) if not f.again]

    def _absolve(self, failure: _Failure) -> None:
        """Take back what a trial, which fails anywhere, seemed to tell of a node."""
        row = self._in_a_row.get(failure.node, [])
        left = [other for other in row if other is not failure]
        if left:
            self._in_a_row[failure.node] = left
        elif row:
            del self._in_a_row[failure.node]
        self._went_further[failure.node].discard(failure.trial.number)

    def _chance(self, node: str, failures: int) -> float:
        """Probability of so many failures in a row, by how often trials failed elsewhere.

        It is Laplace's rule of succession, once for each of them.
        """
        well = self._went_further[node].union(*(n for at, n in self._well.items() if at != node))
        badly = set().union(*(n for at, n in self._badly.items() if at != node)) - well
        total = len(well) + len(badly)
        return math.prod((len(badly) + 1 + i) / (total + 2 + i) for i in range(failures))
