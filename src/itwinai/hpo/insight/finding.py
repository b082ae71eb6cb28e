"""A finding about a study, and its remedy as a change of the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import Float, Integer, Parameter, to_json
from itwinai.hpo.trial import POOR, TrialResult, TrialState

Kind = Literal["bound", "logarithm", "failing region", "waste", "noise", "early signal", "node"]

Range = Float | Integer

#: Ends that say something of a trial's values.
_ENDED = (TrialState.COMPLETED, TrialState.STOPPED, *POOR)


@dataclass(frozen=True)
class Finding:
    """Something about a study that costs results or time, and can be mended.

    Attributes:
        kind: Which rule found it.
        evidence: One sentence that says it, with its evidence.
        cost: One sentence: what it costs.
        remedy: One sentence: what to do.
        patch: The remedy as it would stand in the configuration, below ``study`` and
            ``search_space``; empty where no setting mends it.
    """

    kind: Kind
    evidence: str
    cost: str
    remedy: str
    patch: Mapping[str, Any] = field(default_factory=dict)


def merged(findings: Iterable[Finding]) -> dict[str, Any]:
    """Put the patches of findings together; of two for one place the first is taken."""
    patch: dict[str, Any] = {}
    for finding in findings:
        patch = _over(finding.patch, patch)
    return patch


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    both = {**lower, **upper}
    for key in lower.keys() & upper.keys():
        if isinstance(lower[key], Mapping) and isinstance(upper[key], Mapping):
            both[key] = _over(lower[key], upper[key])
    return both


def changed(name: str, before: Parameter, after: Parameter) -> dict[str, Any]:
    """Return the patch that makes one domain of another.

    Of integers it is the whole form, because it depends on the type whether ``upper`` is one of
    them.
    """
    old, form = before.describe(), after.describe()
    if not isinstance(after, Integer):
        form = {key: value for key, value in form.items() if old.get(key) != value}
    return {"search_space": {name: form}}


def ranged(domain: Range, lower: float, upper: float) -> Range:
    """Return the domain with other ends."""
    if isinstance(domain, Integer):
        return replace(domain, lower=int(lower), upper=int(upper))
    return replace(domain, lower=float(lower), upper=float(upper))


def alike(trials: Iterable[TrialResult]) -> list[list[TrialResult]]:
    """Put trials of the same values together, in their order."""
    groups: dict[str, list[TrialResult]] = {}
    for trial in trials:
        key = json.dumps(to_json(dict(trial.params)), sort_keys=True)
        groups.setdefault(key, []).append(trial)
    return list(groups.values())


def ended(result: StudyResult) -> list[TrialResult]:
    """The trials whose end says something of their values."""
    return [trial for trial in result.trials if trial.state in _ENDED]
