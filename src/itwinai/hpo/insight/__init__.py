"""What can be concluded from a study: what its best trial is really worth, and what matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.insight.confirmation import Confirmation, read_confirmation
    from itwinai.hpo.insight.confirming import LOOKS, Gain, looks, sequential_gain
    from itwinai.hpo.insight.diagnosis import diagnose
    from itwinai.hpo.insight.finding import Finding, merged
    from itwinai.hpo.insight.importance import Importance, importances
    from itwinai.hpo.insight.spending import Spent, ledger, spent_by, total
    from itwinai.hpo.insight.winner import Estimate, WinnerEstimate, estimate_winner

__all__ = [
    "Confirmation",
    "Estimate",
    "Finding",
    "Gain",
    "Importance",
    "LOOKS",
    "Spent",
    "WinnerEstimate",
    "diagnose",
    "estimate_winner",
    "importances",
    "ledger",
    "looks",
    "merged",
    "read_confirmation",
    "sequential_gain",
    "spent_by",
    "total",
]

__getattr__ = lazily(
    __name__,
    {
        "confirmation": "Confirmation read_confirmation",
        "confirming": "LOOKS Gain looks sequential_gain",
        "diagnosis": "diagnose",
        "finding": "Finding merged",
        "importance": "Importance importances",
        "spending": "Spent ledger spent_by total",
        "winner": "Estimate WinnerEstimate estimate_winner",
    },
)
