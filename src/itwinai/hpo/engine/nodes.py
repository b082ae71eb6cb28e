"""The nodes of the connected cluster: their names, the room on them, and how to avoid some."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune import PlacementGroupFactory

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.hpo.engine.resources import TrialResources

#: To ask Ray for its nodes takes a millisecond or more; a node that joins can wait that long.
_SECONDS_BETWEEN_LOOKS = 1.0

#: The label by which Ray itself tells nodes apart.
_ID = "ray.io/node-id"


@dataclass(frozen=True)
class Node:
    """A node that is there.

    Attributes:
        id: Ray's.
        name: The one that it joined with, or its host's.
        address: Its IP address.
        resources: What it has, by name.
    """

    id: str
    name: str
    address: str
    resources: dict[str, float]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Node:
        """Read it from what Ray tells of it."""
        name, address = told["NodeName"], told["NodeManagerAddress"]
        name = told["NodeManagerHostname"] if name == address else name
        return cls(told["NodeID"], name, address, told["Resources"])

    def is_among(self, names: Collection[str]) -> bool:
        """Whether one of these names or addresses is its own."""
        return self.name in names or self.address in names


def nodes_alive() -> list[Node]:
    """The nodes that are there now."""
    return [Node.of(told) for told in ray.nodes() if told["Alive"]]


def this_node() -> str:
    """Name of the node that this process runs on."""
    own = ray.get_runtime_context().get_node_id()
    return next(Node.of(told).name for told in ray.nodes() if told["NodeID"] == own)


def nodes_without(names: Sequence[str], can_grow: bool) -> list[dict[str, float]]:
    """Resources of each node but some, which the user has named.

    Args:
        names: Names or addresses.
        can_grow: Whether nodes may join later, so that one may be named that is not there.

    Raises:
        ConfigurationError: If there is no such node.
    """
    nodes = nodes_alive()
    unknown = [name for name in names if not any(node.is_among([name]) for node in nodes)]
    there = ", ".join(sorted({node.name for node in nodes}))
    if unknown:
        text = f"study.exclude_nodes: {', '.join(unknown)}: no such node; there are: {there}"
        if not can_grow:
            raise ConfigurationError(f"{text}. Name one of them, by its name or address.")
        itwinai.logger.warning("warning: %s. Should it join later, it gets no trials", text)
    left = [node.resources for node in nodes if not node.is_among(names)]
    if not left:
        raise ConfigurationError(
            f"study.exclude_nodes leaves no node: there are: {there}. Leave at least one."
        )
    return left


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
