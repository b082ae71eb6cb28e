"""Whether early epochs predict the last one: from the trials that ran to their end for this."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.finding import Finding
from itwinai.hpo.record import StudyResult
from itwinai.hpo.schedulers import SCHEDULERS
from itwinai.hpo.trial import TrialResult, TrialState

Array = NDArray[np.float64]

#: Audited trials that there must be, and the correlation below which an epoch misleads.
_FEWEST, _MISLEADS = 6, 0.5
_HALF = 1.96


@dataclass(frozen=True)
class Signal:
    """How the ranking of trials after an epoch agrees with that after the last one.

    Attributes:
        epoch: The epoch.
        correlation: Spearman's rank correlation over the audited trials.
        lower: Lower end of its 95 % interval.
        upper: Upper end.
    """

    epoch: int
    correlation: float
    lower: float
    upper: float


def early_signals(result: StudyResult) -> tuple[Signal, ...]:
    """Tell for each epoch but the last how well it ranks the audited trials.

    Returns:
        One for each epoch; none with fewer than six audited trials that have all epochs.
    """
    curves = _curves(result)
    if len(curves) < _FEWEST:
        return ()
    return tuple(_signal(epoch, curves) for epoch in range(1, result.epochs))


def misleading_epochs(result: StudyResult) -> Iterator[Finding]:
    """Find a scheduler that stops trials at an epoch whose ranking says little of the last one."""
    stopped = [trial for trial in result.trials if trial.state is TrialState.STOPPED]
    signals = early_signals(result)
    if not stopped or not signals:
        return
    first = min(trial.epochs for trial in stopped)
    signal = next((signal for signal in signals if signal.epoch == first), None)
    if signal is None or not signal.correlation < _MISLEADS:
        return
    later = [s.epoch for s in signals if s.epoch > first and s.correlation >= _MISLEADS]
    at_first = sum(trial.epochs == first for trial in stopped)
    grace = next(iter(later), None)
    yield Finding(
        kind="early signal",
        evidence=f"After epoch {first}, where the first trials are stopped, the ranking of "
        f"{len(_curves(result))} audited trials has a correlation of {signal.correlation:.2f} "
        f"[{signal.lower:.2f}, {signal.upper:.2f}, 95 %] with that after the last epoch.",
        cost=f"{at_first} trials were stopped there, of which some may have been among the best.",
        remedy=_remedy(grace),
        patch=_patch(result, stopped[0], grace),
    )


def _remedy(grace: int | None) -> str:
    if grace is None:
        return "Stop no trial early: no epoch before the last ranks them well."
    return f"Stop no trial before epoch {grace}, the first that ranks them well."


def _patch(result: StudyResult, stopped: TrialResult, grace: int | None) -> dict[str, Any]:
    """The same scheduler with more patience; empty of one that only Python can describe."""
    if grace is None:
        return {"study": {"scheduler": "none"}}
    setup = result.setup  # an older record has the name in the reason of a trial alone
    name = stopped.reason.partition(" after ")[0] if setup is None else setup.scheduler
    if name not in SCHEDULERS:
        return {}
    scheduler: dict[str, Any] = {"name": name, "grace_period": grace}
    if setup is None or setup.rungs is None:  # it may count something else, to an end in that
        scheduler |= {"unit": "epochs", "max_t": None}
    elif name == "asha":
        scheduler["keep"] = round(setup.rungs.brackets[0].keep, 4)
    return {"study": {"scheduler": scheduler}}


def _curves(result: StudyResult) -> Array:
    """The primary metric of the audited trials (n, epochs) that trained to the last one."""
    complete = [
        trial
        for trial in result.trials
        if trial.is_audited
        and trial.state is TrialState.COMPLETED
        and len(trial.whole_epochs) == result.epochs
    ]
    objective = result.objectives[0]
    curves = [[objective.value(metrics) for metrics in trial.whole_epochs] for trial in complete]
    known = [curve for curve in curves if None not in curve]
    return np.array(known, float).reshape(len(known), result.epochs)


def _signal(epoch: int, curves: Array) -> Signal:
    """Spearman's correlation, with Fisher's interval for ranks.

    Its variance is that of Bonett and Wright, "Sample size requirements for estimating Pearson,
    Kendall and Spearman correlations", 2000.
    """
    from scipy.stats import spearmanr  # takes a second, which a study that starts does not need

    before, final = curves[:, epoch - 1], curves[:, -1]
    constant = np.ptp(before) == 0 or np.ptp(final) == 0
    found = 0.0 if constant else float(spearmanr(before, final).statistic)
    centre = math.atanh(min(max(found, -0.9999), 0.9999))
    half = _HALF * math.sqrt((1 + found**2 / 2) / (len(curves) - 3))
    return Signal(epoch, found, math.tanh(centre - half), math.tanh(centre + half))
