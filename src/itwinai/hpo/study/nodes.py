"""Which nodes are slow or broken, and therefore get no more trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import itwinai
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.record import NodeVerdict
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.paces import Paces
from itwinai.hpo.study.running import Ending, RunningTrial
from itwinai.hpo.study.second_tries import SecondTries
from itwinai.hpo.study.slowness import CERTAINTY, Slowness
from itwinai.hpo.trial import FAILURES, TrialResult, TrialState


class NodeWatch:
    """Compares the nodes on which a study's trials run, and leaves out those that are at fault.

    A trial on several nodes at once tells nothing of any of them. A node that the user has not
    named is left out only while trials find room on others.

    Args:
        configuration: The study's settings: which nodes are left out, or how that is decided.
        space: What is tuned.
        known: What earlier runs have found out.
        keep: Writes in the record what is known.
    """

    def __init__(
        self,
        configuration: StudyConfiguration,
        space: SearchSpace,
        known: Iterable[NodeVerdict],
        keep: Callable[[Sequence[NodeVerdict]], None],
    ) -> None:
        self._named = frozenset(configuration.excluded)
        self._automatic = configuration.exclude_nodes == "auto"
        self._paces = Paces(space)
        self._tries = SecondTries()
        self._keep = keep
        self._set({v.node: replace(v, left_out=self._stays_out(v)) for v in known})
        if self._known:
            self._keep(self.verdicts)
        #: Whether trials find room without some nodes; nobody knows before an engine says so.
        self.has_room: Callable[[Collection[str]], bool] = lambda names: False

    @property
    def verdicts(self) -> tuple[NodeVerdict, ...]:
        """What is known of nodes at fault."""
        return tuple(self._known.values())

    @property
    def left_out(self) -> frozenset[str]:
        """The nodes, by name or address, that get no trials now."""
        found = self._found
        return self._named | found if found and self.has_room(found) else self._named

    def avoided(self, number: int) -> frozenset[str]:
        """The nodes on which a trial does not begin: those, and the one on which it failed."""
        left_out, failed_on = self.left_out, self._tries.failed_on(number)
        names = left_out if failed_on is None else left_out | {failed_on}
        return names if self.has_room(names) else left_out

    def heard(self, trial: RunningTrial) -> list[TrialResult]:
        """Take note of an epoch; return trials whose failure turns out to be a node's fault."""
        node = trial.node
        if node is None:
            return []
        self._paces.heard(trial, node)
        slow = None if node in self._found else self._paces.slow(node, without=self._known)
        if slow is not None:
            self._conclude(node, "slow", _in_words(slow))
        suspect = self._tries.heard(trial, node)
        return [] if suspect is None else self._look_at_failures(suspect)

    def leaves(self, trial: RunningTrial) -> Ending | None:
        """How a trial ends, with a checkpoint of all its epochs, whose node has been left out."""
        if trial.checkpoint_epochs < trial.epochs or trial.node not in self.left_out:
            return None
        return TrialState.INTERRUPTED, f"{trial.node} gets no more trials; it goes on elsewhere"

    def ended(self, trial: RunningTrial, state: TrialState, reason: str) -> Ending | None:
        """Take note of an end; return another one for a failure that is tried elsewhere."""
        node, number = trial.node, trial.assignment.number
        self._paces.ended(number)
        if node is None or state is TrialState.INTERRUPTED:
            return None
        if state not in FAILURES:
            self._tries.ended_well(number, node)
            return None
        elsewhere = self.has_room(self.left_out | {node})
        if not self._tries.failed(trial, node, reason, elsewhere):
            return None
        return TrialState.LOST, f"failed on {node}, is tried elsewhere: {reason}"

    def _stays_out(self, verdict: NodeVerdict) -> bool:
        return verdict.node in self._named or (verdict.left_out and self._automatic)

    def _set(self, known: dict[str, NodeVerdict]) -> None:
        self._known = known
        #: The nodes found to be at fault that are left out, as long as there is room on others.
        self._found = frozenset(v.node for v in known.values() if v.left_out)

    def _look_at_failures(self, node: str) -> list[TrialResult]:
        evidence = None if node in self._found else self._tries.broken(node)
        if evidence is None:
            return []
        self._conclude(node, "broken", evidence)
        return list(self._tries.condemned(node))

    def _conclude(self, node: str, kind: Literal["slow", "broken"], evidence: str) -> None:
        """Keep a verdict, and tell it, unless it is known and changes nothing."""
        left_out = self._automatic and self.has_room(self._found | {node})
        if node in self._known and not left_out:
            return
        verdict = NodeVerdict(node, kind, evidence, round(time.time(), 3), left_out)
        self._set({**self._known, node: verdict})
        self._keep(self.verdicts)
        itwinai.logger.warning("warning: %s. %s", verdict, self._advice(verdict))

    def _advice(self, verdict: NodeVerdict) -> str:
        if verdict.left_out:
            return "Have it looked at; study.exclude_nodes: never keeps such nodes"
        if self._automatic:
            return "Have it looked at; trials find no room without it"
        return f"study.exclude_nodes: [{verdict.node}] leaves it out"


def _in_words(found: Slowness) -> str:
    elsewhere = "the other node" if found.nodes == 1 else f"the other {found.nodes} nodes"
    return (
        f"epochs take {found.ratio:.1f} times as long as on {elsewhere} ({found.trials} trials "
        f"there, {found.others} elsewhere; at least {found.least:.1f} times with "
        f"{CERTAINTY:.1%} certainty)"
    )
