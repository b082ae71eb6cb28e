"""What a study's record tells of its own weak points: findings, each with a remedy.

Nothing of the study is run, and it may be running. Where there is no evidence, nothing is said.
"""

from __future__ import annotations

from itwinai.hpo.insight.bounds import at_bounds, without_logarithm
from itwinai.hpo.insight.early import misleading_epochs
from itwinai.hpo.insight.failing import failing_regions
from itwinai.hpo.insight.finding import Finding
from itwinai.hpo.insight.learnt import learn
from itwinai.hpo.insight.nodes import nodes_at_fault
from itwinai.hpo.insight.noise import luck_of_the_best
from itwinai.hpo.insight.waste import duplicates, idle_slots, never_led
from itwinai.hpo.record import StudyResult


def diagnose(result: StudyResult) -> list[Finding]:
    """Find what holds a study back, from its record alone.

    Args:
        result: The study, also while it runs.

    Returns:
        The findings; none where the record gives no evidence of any.
    """
    model = learn(result)
    return [
        *nodes_at_fault(result),
        *failing_regions(result),
        *at_bounds(result, model),
        *without_logarithm(result, model),
        *misleading_epochs(result),
        *never_led(result),
        *duplicates(result),
        *idle_slots(result),
        *luck_of_the_best(result),
    ]
