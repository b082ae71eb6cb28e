"""What a plan says of a study's epochs beside what the study trains, on real learning curves.

The study itself, by the virtual clock and the tables of ``efficacy``, with 4 workers and the
default configuration first. From the epochs that studies train comes the table of powers in
``src/itwinai/hpo/insight/powers.py``; the errors are those of a plan whose powers know nothing of
the task at hand, of full trainings and of such that are cut short. Run it from the project's root:

    python -m benchmarks.plan_tables --repeats 5 --json plan_tables.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from benchmarks.efficacy import PACKAGES, WORKERS, Clock, Driven
from benchmarks.learning_curves import load_tasks
from itwinai.hpo.insight.forecast import Spread, epochs_expected
from itwinai.hpo.insight.remaining import epochs_left
from itwinai.hpo.objectives import Objective
from itwinai.hpo.planning import EpochTime, wall_time
from itwinai.hpo.record import Cost, Setup, StudyResult
from itwinai.hpo.trial import TrialResult, TrialState

#: Trials of a study, and of how many repeats one is made: long studies vary less.
TRIALS = {10: 1, 24: 1, 50: 2, 100: 4}

#: Epochs after which trainings are cut short, in studies of so many trials.
SHORT, SHORT_TRIALS = (6, 12), 24

#: What ``auto`` makes of a search whose trials it does not model.
_PATIENT = {"name": "asha", "grace_period": 3, "reduction_factor": 3, "keep": 0.5}

#: What is measured, by the name of its row in the table of powers.
VARIANTS: dict[str, dict[str, Any]] = {
    "asha, patient": {},
    "asha": {"scheduler": "asha"},
    "hyperband": {"scheduler": "hyperband"},
    "median": {"scheduler": "median"},
    "bohb": {"scheduler": "bohb"},
    "asha, patient, random": {"algorithm": "random"},
    "asha, random": {"algorithm": "random", "scheduler": "asha"},
    "hyperband, random": {"algorithm": "random", "scheduler": "hyperband"},
    "median, random": {"algorithm": "random", "scheduler": "median"},
    "asha, patient, tpe": {"algorithm": "tpe", "scheduler": _PATIENT},
    "asha, tpe": {"algorithm": "tpe", "scheduler": "asha"},
    "hyperband, tpe": {"algorithm": "tpe", "scheduler": "hyperband"},
    "median, tpe": {"algorithm": "tpe", "scheduler": "median"},
}

#: No study is expected to stop more than at this power.
_LARGEST = 8.0

#: Shares of a study's epochs after which the rest is estimated.
MOMENTS = {"quarter": 0.25, "half": 0.5}

#: A trial, the epoch that it reported, and whether it went on.
Report = tuple[int, int, bool]

#: What was left in the end, by the estimate, and by the mean over the ended trials, which was the
#: estimate before; None before any has ended.
Estimate = tuple[float, float, float | None]

#: A study's outcomes by the name of its task.
ByTask = Mapping[str, Sequence["Outcome"]]


@dataclass(frozen=True)
class Outcome:
    """One study.

    Attributes:
        setup: Who decided in it.
        trials: Trials in all.
        full: Epochs of a full training.
        reports: All reports in their order.
        times: When each was made; an epoch of the default configuration takes 1.
    """

    setup: Setup
    trials: int
    full: int
    reports: list[Report]
    times: list[float]

    @property
    def power(self) -> float:
        """The power of the shares that go on at which so many epochs are expected."""
        values = [0.0, _LARGEST]
        beyond = [self.expected(value) - len(self.reports) for value in values]
        if beyond[0] <= 0 or beyond[1] >= 0:
            return values[int(beyond[1] >= 0)]
        return float(brentq(lambda power: self.expected(power) - len(self.reports), *values))

    def expected(self, power: float) -> float:
        """Epochs that are expected at a power."""
        return epochs_expected(self.setup.rungs, self.trials, self.full, power)

    @property
    def pace(self) -> float:
        """Time of an epoch beside that of the default configuration."""
        idle = (WORKERS - 1) / 2 * self.full
        return (self.times[-1] * WORKERS - idle) / len(self.reports)

    def left(self, share: float) -> dict[str, Estimate]:
        """What is left in epochs and in time, after this share of the epochs."""
        now = round(share * len(self.reports))
        epochs = {number: epoch for number, epoch, _ in self.reports[:now]}
        going = {number: goes_on for number, _, goes_on in self.reports[:now]}
        trials = tuple(
            TrialResult(number, _state(epoch, going[number], self.full), {}, ({},) * epoch)
            for number, epoch in sorted(epochs.items())
        )
        result = StudyResult(
            *("study", (Objective("loss", "min"),), self.full, trials, Path("record.log")),
            *(Cost(0, 0.0, 0, 0.0), None, self.trials),
            setup=self.setup,
        )
        new, old = epochs_left(result, self.trials), _by_mean(trials, self.trials)
        time = self.times[now - 1]
        pace = time / now
        return {
            "epochs": (len(self.reports) - now, new, old),
            "time": (self.times[-1] - time, new * pace, None if old is None else old * pace),
        }


class Watched(Driven):
    """A study whose reports are kept: trial, epoch, and whether the trial goes on."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.reports: list[tuple[int, int, bool]] = []

    def report(self, number: int, epoch: int, value: float) -> str:
        verdict = super().report(number, epoch, value)
        self.reports.append((number, epoch, verdict == "continue"))
        return verdict


#: A variant, the trials of a study, the epochs of a training (None: all), a task, and a repeat.
Job = tuple[str, int, int | None, int, int]


def run_one(job: Job) -> Outcome:
    """One study of a variant, of so many trials, on a task."""
    variant, trials, epochs, index, repeat = job
    task = load_tasks()[index]
    task.epochs = epochs or task.epochs
    settings = {**VARIANTS[variant], "num_samples": trials}
    about = (task.space, task.metric, task.mode, task.epochs, repeat)
    study = Watched(*about, task.default, **settings)
    times = list(Clock(task, study, repeat).moments())
    return Outcome(study.plan.setup, trials, task.epochs, study.reports, times)


def _state(epoch: int, goes_on: bool, epochs: int) -> TrialState:
    if goes_on and epoch < epochs:
        return TrialState.RUNNING
    return TrialState.COMPLETED if epoch == epochs else TrialState.STOPPED


def _by_mean(trials: Sequence[TrialResult], total: int) -> float | None:
    """The estimate that was shown before: every trial is as long as the ended ones' mean."""
    ended = [trial.epochs for trial in trials if trial.state is not TrialState.RUNNING]
    if not ended:
        return None
    mean = sum(ended) / len(ended)
    running = [trial.epochs for trial in trials if trial.state is TrialState.RUNNING]
    return (total - len(trials)) * mean + sum(max(0.0, mean - epoch) for epoch in running)


# -- figures -------------------------------------------------------------------------------------


def main() -> None:
    options = _options()
    jobs = jobs_of(options.variants, options.repeats)
    tasks = [task.name for task in load_tasks()]
    outcomes: dict[tuple[str, int, int | None], dict[str, list[Outcome]]] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for job, outcome in zip(jobs, pool.map(run_one, jobs), strict=True):
            by_task = outcomes.setdefault(job[:3], {})
            by_task.setdefault(tasks[job[3]], []).append(outcome)
    figures = [
        {
            "variant": variant,
            "trials": trials,
            "epochs": epochs,
            **figures_of(by_task, outcomes[variant, trials, None]),
        }
        for (variant, trials, epochs), by_task in outcomes.items()
    ]
    whole = [row for row in figures if row["epochs"] is None]
    print(f"{plan_table(whole)}\n\n{short_table(figures)}\n\n{left_table(whole)}")
    if options.json is not None:
        options.json.write_text(json.dumps(report(figures, options.repeats), indent=2) + "\n")


def jobs_of(variants: Sequence[str], repeats: int) -> list[Job]:
    """All studies: of full trainings, and of such that are cut short."""
    kinds = [(trials, None, every) for trials, every in TRIALS.items()]
    kinds += [(SHORT_TRIALS, epochs, repeats) for epochs in SHORT]
    tasks = range(len(load_tasks()))
    return [
        (variant, trials, epochs, index, repeat)
        for variant in variants
        for trials, epochs, every in kinds
        for index in tasks
        for repeat in range(0, repeats, every)
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="studies per task, if short")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def figures_of(by_task: ByTask, full: ByTask) -> dict[str, Any]:
    """The power of all studies, and how well it tells a task's epochs, learnt from the others.

    Args:
        by_task: Studies.
        full: Those of full trainings, from which it is learnt.
    """
    errors, inside, times, in_time = [], [], [], []
    for name, outcomes in by_task.items():
        median, low, high = power_of({task: of for task, of in full.items() if task != name})
        for outcome in outcomes:
            epochs = Spread(*map(outcome.expected, (median, high, low)))
            trained = len(outcome.reports)
            errors.append(abs(epochs.expected / trained - 1))
            inside.append(_holds(epochs, trained))
            time = wall_time(epochs, outcome.full, WORKERS, EpochTime(1.0, "the tables"))
            times.append(abs(time.expected / outcome.times[-1] - 1))
            in_time.append(time.low <= outcome.times[-1] <= time.high)
    every = [outcome for of in by_task.values() for outcome in of]
    return {
        "power": power_of(by_task),
        "error": _middle_and_tail(errors),
        "inside": float(np.mean(inside)),
        "error_of_time": _middle_and_tail(times),
        "time_inside": float(np.mean(in_time)),
        "pace": [float(p) for p in np.percentile([o.pace for o in every], [50, 5, 95])],
        "left": {
            name: {what: _errors_left([o.left(share)[what] for o in every]) for what in _WHAT}
            for name, share in MOMENTS.items()
        },
    }


_WHAT = ("epochs", "time")


def _holds(epochs: Spread, trained: int) -> bool:
    """Whether an interval, told in whole epochs, holds what was trained."""
    return round(epochs.low) <= trained <= round(epochs.high)


def power_of(by_task: ByTask) -> list[float]:
    """Median of the power, and where 90 % of the studies on another task are expected.

    That is the prediction interval of Student's distribution, with as many degrees of freedom as
    there are tasks, less one: the tasks differ more than the repeats.
    """
    powers = np.array([outcome.power for of in by_task.values() for outcome in of])
    count = len(by_task)
    half = stats.t.ppf(0.95, count - 1) * powers.std(ddof=1) * np.sqrt(1 + 1 / count)
    centre = powers.mean()
    return [float(np.median(powers)), max(0.0, float(centre - half)), float(centre + half)]


def _errors_left(estimates: Sequence[Estimate]) -> dict[str, list[float]]:
    new = [abs(estimate - truth) / truth for truth, estimate, _ in estimates]
    old = [1.0 if mean is None else abs(mean - truth) / truth for truth, _, mean in estimates]
    return {"now": _middle_and_tail(new), "by the mean": _middle_and_tail(old)}


def _middle_and_tail(errors: Sequence[float]) -> list[float]:
    return [float(value) for value in np.percentile(errors, [50, 90])]


def plan_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """What a plan says, for people; errors are median/90th percentile."""
    head = ["scheduler", "trials", "power", "error", "inside", "error of time", "inside"]
    rows = []
    for row in figures:
        median, low, high = row["power"]
        cells = [row["variant"], row["trials"], f"{median:.2f} ({low:.2f} to {high:.2f})"]
        cells += [_pair(row["error"]), f"{row['inside']:.2f}"]
        rows.append([*cells, _pair(row["error_of_time"]), f"{row['time_inside']:.2f}"])
    return _table(head, rows)


def short_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """What a plan says of trainings that are cut short, for people."""
    rows = [
        [row["variant"], row["epochs"], _pair(row["error"]), f"{row['inside']:.2f}"]
        for row in figures
        if row["epochs"] is not None
    ]
    return _table(["scheduler", "epochs", "error", "inside"], rows)


def left_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """What is said to be left, for people; errors are median/90th percentile."""
    heads = [f"{name}: {which}" for name in MOMENTS for which in ("now", "mean")]
    rows = []
    for row in figures:
        at = [row["left"][name]["epochs"] for name in MOMENTS]
        errors = [_pair(errors) for left in at for errors in (left["now"], left["by the mean"])]
        rows.append([row["variant"], row["trials"], *errors])
    return _table(["scheduler", "trials", *heads], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, rule, *rows))


def _pair(errors: Sequence[float]) -> str:
    return "/".join(f"{error:.2f}" for error in errors)


def report(figures: Sequence[Mapping[str, Any]], repeats: int) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "plan_tables",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "repeats": repeats,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "figures": figures,
    }


if __name__ == "__main__":
    main()
