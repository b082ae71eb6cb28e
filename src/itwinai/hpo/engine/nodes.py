"""The nodes of the connected cluster, and their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

import itwinai
from itwinai.errors import ConfigurationError


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
