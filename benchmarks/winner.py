"""How honest a study is about its best trial: what is told of it beside what is true.

The studies are those of ``efficacy``, on tables of real learning curves, with the default
configuration first; and such in which nothing but luck makes trainings differ. Run it from the
project's root:

    python -m benchmarks.winner --json winner.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.efficacy import PACKAGES, Clock, Driven
from benchmarks.learning_curves import Task, load_tasks
from itwinai.hpo.insight import Estimate, estimate_winner

SEARCHES = ("auto", "random")
TRIALS = (24, 50)
KINDS = ("tables", "luck alone")
#: Deviations of luck, of what the default's training changes from its first to its last epoch: of a
#: training as a whole, and of each epoch.
LUCK, FLICKER = 0.1, 0.03


class LuckAlone:
    """A task whose trainings all follow the curve of one, up to luck.

    Attributes:
        task: Whose space, default configuration and curve it has.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.epochs = task.epochs
        curve = np.array([task.evaluate(task.default, n + 1, 0) for n in range(task.epochs)])
        self._curve, self._size = curve, float(np.ptp(curve))

    def evaluate(self, params: Mapping[str, Any], epoch: int, seed: int) -> float:
        """The metric after an epoch, from 1."""
        rng = np.random.default_rng(seed)
        whole, each = rng.normal(0, LUCK), rng.normal(0, FLICKER, self.epochs)
        return float(self._curve[epoch - 1] + self._size * (whole + each[epoch - 1]))

    def cost(self, params: Mapping[str, Any]) -> float:
        """Cost of an epoch."""
        return 1.0

    def final(self, params: Mapping[str, Any]) -> float:
        """The true value after the last epoch: the same everywhere."""
        return float(self._curve[-1])


@dataclass(frozen=True)
class Told:
    """What one study tells, and whether it is true.

    Attributes:
        recorded: By how much the best trial's recorded value is better than its true one.
        holds_value: Whether the interval of its value holds the true one.
        holds_gain: Whether that of its gain does; None if the default is the best.
        claims: Whether it is called better than the default.
        is_better: Whether it is.
    """

    recorded: float
    holds_value: bool
    holds_gain: bool | None
    claims: bool
    is_better: bool


#: Tables or luck alone, the search, trials, a task, and a repeat.
Job = tuple[str, str, int, int, int]


def run_one(job: Job) -> Told | None:
    """Run one study; None if it has no estimate of its best trial."""
    kind, search, trials, index, repeat = job
    table = load_tasks()[index]
    task: Any = table if kind == "tables" else LuckAlone(table)
    about = (table.space, table.metric, table.mode, table.epochs, repeat)
    study = Driven(*about, table.default, algorithm=search, num_samples=trials)
    for _ in Clock(task, study, repeat).moments():
        pass
    winner = estimate_winner(study.study.close())
    if winner is None or winner.expected is None:
        return None
    sign = 1 if table.mode == "max" else -1
    best, default = task.final(winner.trial.params), task.final(table.default)
    gain, luck = sign * (best - default), sign * (winner.recorded - best)
    return Told(
        recorded=luck,
        holds_value=_holds(winner.expected, best),
        holds_gain=None if winner.gain is None else _holds(winner.gain, gain),
        claims=winner.verdict == "better",
        is_better=gain > 0,
    )


def _holds(estimate: Estimate, value: float) -> bool:
    return estimate.lower <= value <= estimate.upper


def main() -> None:
    options = _options()
    tasks = range(len(load_tasks()))
    kinds = list(product(KINDS, options.searches, options.trials))
    repeats = range(options.first, options.first + options.repeats)
    jobs = [(*kind, task, repeat) for kind in kinds for task in tasks for repeat in repeats]
    told: dict[tuple[str, str, int], list[Told]] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for job, one in zip(jobs, pool.map(run_one, jobs), strict=True):
            told.setdefault(job[:3], []).extend([] if one is None else [one])
    print(table_of(told))
    if options.json is not None:
        options.json.write_text(json.dumps(report(told), indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed of each task's first study")
    parser.add_argument("--repeats", type=int, default=5, help="studies per task")
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES))
    parser.add_argument("--trials", nargs="+", type=int, default=list(TRIALS))
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def table_of(told: Mapping[tuple[str, str, int], Sequence[Told]]) -> str:
    """A line for each kind of study, for people."""
    lines = [
        "| trainings | search | trials | studies | recorded too well | holds the value "
        "| holds the gain | called better | of these, is not |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, ones in told.items():
        gains = [one.holds_gain for one in ones if one.holds_gain is not None]
        claimed = [one for one in ones if one.claims]
        cells = [
            *kind,
            len(ones),
            f"{np.mean([one.recorded > 0 for one in ones]):.2f}",
            f"{np.mean([one.holds_value for one in ones]):.2f}",
            f"{np.mean(gains):.2f} of {len(gains)}",
            f"{len(claimed) / len(ones):.2f}",
            sum(not one.is_better for one in claimed),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def report(told: Mapping[tuple[str, str, int], Sequence[Told]]) -> dict[str, Any]:
    """All studies, with what they were made by."""
    return {
        "benchmark": "winner",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "studies": [
            {"trainings": kind[0], "search": kind[1], "trials": kind[2], **asdict(one)}
            for kind, ones in told.items()
            for one in ones
        ],
    }


if __name__ == "__main__":
    main()
