"""Any Optuna pruner as a judge."""

from __future__ import annotations

import optuna
from optuna.pruners import BasePruner

from itwinai.hpo.objectives import Mode
from itwinai.hpo.schedulers.judge import Judge, Report, Verdict


class OptunaPruner(Judge):
    """Lets an Optuna pruner judge, in a study of its own that is kept in memory.

    There the trials have the values of one objective (Optuna takes no intermediate values where
    there are several) and their own numbers, by which a pruner may deal them out; one that was
    continued after an interruption is a single trial. All of them run until they are complete:
    whoever ended otherwise may run again.

    Args:
        pruner: The pruner; its steps are whole epochs, its bounds those of the metric.
        mode: In which direction the objective is better.
    """

    def __init__(self, pruner: BasePruner, mode: Mode) -> None:
        self._sign = 1 if mode == "min" else -1
        self._study = optuna.create_study(
            study_name="study",  # by which, too, they may be dealt out
            pruner=pruner,
            direction="minimize" if mode == "min" else "maximize",
        )
        self._trials: list[optuna.Trial] = []

    def hear(self, report: Report) -> Verdict:
        """Report a whole epoch to the pruner and ask it."""
        if report.epoch != int(report.epoch):
            return "continue"
        while len(self._trials) <= report.number:
            self._trials.append(self._study.ask())
        trial = self._trials[report.number]
        trial.report(self._sign * report.losses[0], int(report.epoch))
        return "stop" if trial.should_prune() else "continue"

    def ended(self, number: int, completed: bool) -> None:
        """Tell the pruner's study of a complete trial: its rules may count those."""
        if not completed or number >= len(self._trials):
            return
        values = self._study.get_trials(deepcopy=False)[number].intermediate_values
        if values:
            self._study.tell(number, values[max(values)])
