"""The room on a cluster's nodes, and how trials keep away from some of them."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection

from ray.tune import PlacementGroupFactory

from itwinai.hpo.engine.nodes import Node, nodes_alive
from itwinai.hpo.engine.resources import TrialResources

#: To ask Ray for its nodes takes a millisecond or more; a node that joins can wait that long.
_SECONDS_BETWEEN_LOOKS = 1.0

#: The label by which Ray itself tells nodes apart.
_ID = "ray.io/node-id"


class Machines:
    """The nodes of the cluster, as of a second ago: they come and go during a study.

    Args:
        resources: What each trial needs.
    """

    def __init__(self, resources: TrialResources) -> None:
        self._resources = resources
        #: Trials at the same time at most, however many nodes there are.
        self.most = resources.most
        self._nodes: list[Node] = []
        self._until = -math.inf
        #: Every node that was ever there, by name and address: one that has left keeps its place in
        #: what slots keep away from, which otherwise would change and cost them their processes.
        self._ids: defaultdict[str, set[str]] = defaultdict(set)

    def room(self, left_out: Collection[str]) -> int:
        """Trials that run at the same time on all nodes but some."""
        self._look()
        others = [node.resources for node in self._nodes if not node.is_among(left_out)]
        return self._resources.concurrent(others)

    def has_room(self, left_out: Collection[str]) -> bool:
        """Whether a trial finds room without some nodes."""
        return self.room(left_out) > 0

    def placement(self, avoided: Collection[str]) -> PlacementGroupFactory:
        """Where a trial's processes go: anywhere but some nodes."""
        self._look()
        bundles = [dict(self._resources.per_worker)] * self._resources.workers
        # With several workers the slot itself only waits; it takes no resources.
        groups = bundles if self._resources.workers == 1 else [{}, *bundles]
        ids = sorted(set().union(*(self._ids[name] for name in avoided)))
        if not ids:
            return PlacementGroupFactory(groups)
        elsewhere = [{_ID: f"!in({','.join(ids)})"} for _ in bundles]
        return PlacementGroupFactory(groups, bundle_label_selector=elsewhere)

    def _look(self) -> None:
        now = time.monotonic()
        if now <= self._until:
            return
        self._until = now + _SECONDS_BETWEEN_LOOKS
        self._nodes = nodes_alive()
        for node in self._nodes:
            self._ids[node.name].add(node.id)
            self._ids[node.address].add(node.id)
