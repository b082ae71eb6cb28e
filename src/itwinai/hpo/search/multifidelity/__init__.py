"""A search that learns from unfinished trainings: Bayesian optimisation over curves."""

from __future__ import annotations

from itwinai.hpo.search.multifidelity.curves import Observation
from itwinai.hpo.search.multifidelity.proposing import Proposer

__all__ = ["Observation", "Proposer"]
