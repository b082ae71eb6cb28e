"""Any Optuna pruner as a judge."""

from __future__ import annotations

import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.schedulers.judge import Judge, Report, Verdict


class OptunaPruner(Judge):
    """Lets an Optuna pruner judge, in a study of its own that is kept in memory.

    There the trials have the losses of one objective (Optuna takes no intermediate values where
    there are several), and one that was continued after an interruption is a single trial.

    Args:
        pruner: The pruner; its steps are whole epochs.
    """

    def __init__(self, pruner: BasePruner) -> None:
        self._study = optuna.create_study(pruner=pruner)
        self._trials: dict[int, optuna.Trial] = {}

    def hear(self, report: Report) -> Verdict:
        """Report a whole epoch to the pruner and ask it."""
        if report.epoch != int(report.epoch):
            return "continue"
        trial = self._trials.get(report.number) or self._study.ask()
        self._trials[report.number] = trial
        trial.report(report.losses[0], int(report.epoch))
        return "stop" if trial.should_prune() else "continue"

    def ended(self, number: int, completed: bool) -> None:
        """Tell the pruner's study, whose rules may count the ended trials."""
        trial = self._trials.pop(number, None)
        if trial is None:
            return
        values = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        last = values[max(values)]
        state = OptunaState.COMPLETE if completed else OptunaState.PRUNED
        self._study.tell(trial, last if completed else None, state=state)
