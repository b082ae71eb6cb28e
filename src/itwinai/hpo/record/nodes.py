"""What a study has found out about the nodes that its trials ran on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class NodeVerdict:
    """A node that is much slower than others, or on which trials fail that succeed elsewhere.

    Attributes:
        node: Its name.
        kind: What is wrong with it.
        evidence: By what this is known, in words.
        time: When it was found, in seconds since 1970.
        left_out: Whether it gets no more trials.
    """

    node: str
    kind: Literal["slow", "broken"]
    evidence: str
    time: float
    left_out: bool

    def __str__(self) -> str:
        """One sentence, without a full stop."""
        use = "gets no more trials" if self.left_out else "still gets trials"
        return f"{self.node} is {self.kind} and {use}: {self.evidence}"


def verdicts_in(kept: Sequence[Mapping[str, Any]]) -> tuple[NodeVerdict, ...]:
    """Read them back from what a record keeps."""
    return tuple(NodeVerdict(**verdict) for verdict in kept)
