"""Nodes that a study has found to be slow or broken."""

from __future__ import annotations

from collections.abc import Iterator

from itwinai.hpo.insight.finding import Finding
from itwinai.hpo.record import NodeVerdict, StudyResult


def nodes_at_fault(result: StudyResult) -> Iterator[Finding]:
    """Tell what the study has found out about nodes, and what it has done."""
    named = [verdict.node for verdict in result.nodes if verdict.left_out]
    for verdict in result.nodes:
        yield Finding(
            kind="node",
            evidence=f"{verdict.node} is {verdict.kind}: {verdict.evidence}.",
            cost=_cost(verdict, result),
            remedy="Have it looked at, and leave it out of further studies until then.",
            patch={"study": {"exclude_nodes": named}} if verdict.left_out else {},
        )


def _cost(verdict: NodeVerdict, result: StudyResult) -> str:
    there = [attempt for attempt in result.attempts if verdict.node in attempt.nodes]
    trials = len({attempt.trial for attempt in there})
    seconds = sum(attempt.seconds for attempt in there)
    left_out = " until it got no more" if verdict.left_out else ""
    return f"{trials} trials spent {seconds:.0f} seconds there{left_out}."
