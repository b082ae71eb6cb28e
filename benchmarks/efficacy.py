"""What a search finds for its cost: the study itself on tables of real learning curves.

A virtual clock and 4 workers; the budget is the cost of so many full trainings of the default
configuration. The score is the regret of the configuration that the study recommends by then: 0 is
the best of the grid, 1 the median random configuration. Run it from the project's root:

    python -m benchmarks.efficacy --repeats 10 --json efficacy.json
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning_curves import WORST_REGRET, Task, load_tasks
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import MemoryRecord
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialState

WORKERS = 4
BUDGETS = (20, 50)
#: What other tools' defaults reach in the same simulation, per task and repeat.
PEERS = Path(__file__).parent / "efficacy_peers.json"
PACKAGES = ("itwinai", "optuna", "numpy", "scipy")

#: Algorithms and schedulers by the name under which they are reported.
VARIANTS: dict[str, dict[str, Any]] = {
    "auto": {},
    "tpe": {"algorithm": "tpe"},
    "random": {"algorithm": "random"},
    "qmc": {"algorithm": "qmc"},
    "cmaes": {"algorithm": "cmaes"},
    "ga": {"algorithm": "ga"},
    "bohb": {"scheduler": {"name": "bohb", "grace_period": 3}},
    "gp": {"algorithm": "gp"},
    "auto, median": {"scheduler": "median"},
    "auto, pasha": {"scheduler": {"name": "pasha", "grace_period": 3}},
    "auto, none": {"scheduler": "none"},
}


class Driven:
    """A study in memory, driven as an engine with workers drives it.

    Args:
        space: Parameters as in ``task.json``.
        metric: Metric.
        mode: ``min`` or ``max``.
        max_epochs: Epochs of a full training.
        seed: Seed of the search.
        default: The default configuration, which is the first trial; None: there is none.
        settings: Fields of the study's configuration.
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        metric: str,
        mode: str,
        max_epochs: int,
        seed: int,
        default: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        logging.getLogger("optuna").setLevel(logging.ERROR)
        configuration = StudyConfiguration(
            storage_path=Path(tempfile.gettempdir(), "efficacy"),
            metric=metric,
            mode=mode,
            seed=seed,
            **{"num_samples": 1000, **settings},
        )
        parsed = SearchSpace.parse({name: _form(axis) for name, axis in space.items()})
        self.plan = plan_study(configuration, parsed, max_epochs, default)
        self.study = self.plan.open(record=MemoryRecord())
        self._metric = metric
        self._params: dict[int, dict[str, Any]] = {}
        self._next: tuple[int, dict[str, Any]] | None = None
        self.proposal_seconds: list[float] = []

    def resume(self) -> int | None:
        """The paused trial that goes on now, if any."""
        asked = self._next or self._asked()
        self._next = asked
        if asked is None or asked[0] not in self._params:
            return None
        self._next = None
        return asked[0]

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """The next trial and its values, or None if there is none now."""
        asked, self._next = self._next or self._asked(), None
        if asked is not None:
            self._params[asked[0]] = asked[1]
        return asked

    def report(self, number: int, epoch: int, value: float) -> str:
        """Hear an epoch; say whether the trial goes on."""
        return self.study.report(number, {self._metric: value}, None, epoch)

    def tell(self, number: int, state: str) -> None:
        """Hear that a trial has left its worker."""
        self.study.tell(number, TrialState.COMPLETED)

    def params_of(self, number: int) -> dict[str, Any]:
        """A trial's values."""
        return self._params[number]

    def recommend(self) -> dict[str, Any] | None:
        """The values that the study would recommend now."""
        number = self.study.recommend()
        if number is None:
            best = self.study.result().best
            complete = best is not None and best.state is TrialState.COMPLETED
            number = best.number if best is not None and complete else None
        return None if number is None else self._params[number]

    def _asked(self) -> tuple[int, dict[str, Any]] | None:
        begin = time.perf_counter()
        assignment = self.study.ask()
        self.proposal_seconds.append(time.perf_counter() - begin)
        return None if assignment is None else (assignment.number, assignment.params)


def factory(
    space: Mapping[str, Any],
    metric: str,
    mode: str,
    max_epochs: int,
    seed: int,
    workers: int,
) -> Driven:
    """The default study: what a user gets who names neither algorithm nor scheduler."""
    return Driven(space, metric, mode, max_epochs, seed)


def _form(axis: Mapping[str, Any]) -> dict[str, Any]:
    condition = {"only_if": axis["only_if"]} if "only_if" in axis else {}
    if axis["type"] == "categorical":
        return {"type": "choice", "categories": axis["choices"], **condition}
    bounds = {"lower": axis["low"], "upper": axis["high"], "log": axis["log"]}
    return {"type": axis["type"], **bounds, **condition}


# -- the simulation ------------------------------------------------------------------------------


class Clock:
    """Trials on workers, an epoch of each at a time, by the tables' costs.

    Args:
        task: Who answers.
        tool: Who searches.
        repeat: Seed of the trainings' noise.
    """

    def __init__(self, task: Task, tool: Driven, repeat: int) -> None:
        self._task, self._tool, self._repeat = task, tool, repeat
        self._params: dict[int, dict[str, Any]] = {}
        self._epochs: dict[int, int] = {}
        self._seeds: dict[int, int] = {}
        self._events: list[tuple[float, int, int]] = []
        self._order = 0
        self._idle = WORKERS

    def run(self) -> list[float]:
        """Return the regret when each budget is spent."""
        marks = [budget * self._task.epochs / WORKERS for budget in BUDGETS]
        regrets: list[float] = []
        for now in self.moments():
            while len(regrets) < len(marks) and now > marks[len(regrets)] + 1e-9:
                regrets.append(self._regret())
            if len(regrets) == len(marks):
                break
        return regrets + [self._regret()] * (len(marks) - len(regrets))

    def moments(self) -> Iterator[float]:
        """Let the study run to its end; give the time of each epoch just before it is told."""
        self._fill(0.0)
        while self._events:
            now, _, number = heapq.heappop(self._events)
            yield now
            self._step(now, number)

    def _step(self, now: float, number: int) -> None:
        epoch = self._epochs[number] = self._epochs[number] + 1
        value = self._task.evaluate(self._params[number], epoch, self._seeds[number])
        verdict = self._tool.report(number, epoch, value)
        if verdict == "continue" and epoch < self._task.epochs:
            self._push(now, number)
            return
        self._tool.tell(number, "completed" if epoch >= self._task.epochs else "stopped")
        self._idle += 1
        self._fill(now)

    def _fill(self, now: float) -> None:
        while self._idle:
            number = self._tool.resume()
            if number is None:
                asked = self._tool.ask()
                if asked is None:
                    return
                number, self._params[asked[0]] = asked
                self._epochs[number] = 0
                noise = np.random.default_rng([self._repeat, len(self._seeds)])
                self._seeds[number] = int(noise.integers(1 << 20))
            self._idle -= 1
            self._push(now, number)

    def _push(self, now: float, number: int) -> None:
        self._order += 1
        end = now + self._task.cost(self._params[number])
        heapq.heappush(self._events, (end, self._order, number))

    def _regret(self) -> float:
        params = self._tool.recommend()
        return WORST_REGRET if params is None else self._task.regret(params)


# -- figures -------------------------------------------------------------------------------------

#: Regrets by task: one row per repeat, one column per budget.
Regrets = dict[str, list[list[float]]]


def main() -> None:
    options = _options()
    jobs = [
        (variant, index, repeat)
        for variant in options.variants
        for index in range(len(load_tasks()))
        for repeat in range(options.repeats)
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        outcomes = list(pool.map(run_one, jobs, chunksize=4))
    ours: dict[str, Regrets] = {}
    for (variant, index, _), regrets in zip(jobs, outcomes, strict=True):
        ours.setdefault(f"itwinai: {variant}", {}).setdefault(load_tasks()[index].name, []).append(
            regrets
        )
    peers: dict[str, Regrets] = json.loads(PEERS.read_text())
    print(table({**ours, **peers}))
    auto = ours.get("itwinai: auto")
    if auto is not None:
        print("\n" + paired_table(auto, {**ours, **peers}))
    if options.json is not None:
        options.json.write_text(json.dumps(report(ours), indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="runs per task")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["auto"])
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def run_one(job: tuple[str, int, int]) -> list[float]:
    """One repeat of a variant on a task."""
    variant, index, repeat = job
    task = load_tasks()[index]
    settings = VARIANTS[variant]
    tool = Driven(task.space, task.metric, task.mode, task.epochs, repeat, **settings)
    return Clock(task, tool, repeat).run()


def table(tools: Mapping[str, Regrets]) -> str:
    """Mean regret with its 95 % interval, median task, and repeats, best first."""
    rows = []
    for name, regrets in tools.items():
        cells, order = [], 0.0
        for column in range(len(BUDGETS)):
            per_task = [np.array(rows)[:, column] for rows in regrets.values()]
            mean, low, high = bootstrap(per_task, np.mean)
            median = float(np.median([task.mean() for task in per_task]))
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}] | {median:.3f}")
            order = mean
        repeats = min(map(len, regrets.values()))
        rows.append((order, f"| {name} | {' | '.join(cells)} | {repeats} |"))
    head = " | ".join(f"mean regret at {budget} | median task" for budget in BUDGETS)
    lines = [f"| tool | {head} | repeats |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    return "\n".join([*lines, *(row for _, row in sorted(rows))])


def paired_table(auto: Regrets, tools: Mapping[str, Regrets]) -> str:
    """Mean regret of ``auto`` minus each other tool's, with the 95 % interval over the tasks."""
    lines = ["| auto minus | at 20 | at 50 |", "| --- | ---: | ---: |"]
    for name, regrets in tools.items():
        if regrets is auto:
            continue
        cells = []
        for column in range(len(BUDGETS)):
            pairs = [
                (np.array(auto[task])[:, column], np.array(rows)[:, column])
                for task, rows in regrets.items()
            ]
            mean, low, high = bootstrap_difference(pairs)
            cells.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def bootstrap(
    per_task: list[np.ndarray], statistic: Callable[[Any], Any], draws: int = 4000
) -> tuple[float, float, float]:
    """Mean over tasks, with the 95 % interval over tasks and, within them, repeats."""
    rng = np.random.default_rng(0)
    means = np.stack(
        [x[rng.integers(len(x), size=(draws, len(x)))].mean(1) for x in per_task], axis=1
    )
    drawn = rng.integers(len(per_task), size=means.shape)
    boots = np.take_along_axis(means, drawn, 1).mean(1)
    low, high = np.percentile(boots, [2.5, 97.5])
    return float(statistic([x.mean() for x in per_task])), float(low), float(high)


def bootstrap_difference(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, float]:
    """Mean difference over tasks, with the 95 % interval over tasks and repeats of both sides."""
    rng, draws = np.random.default_rng(1), 4000
    means = np.stack([_resampled(rng, a, draws) - _resampled(rng, b, draws) for a, b in pairs], 1)
    drawn = rng.integers(len(pairs), size=means.shape)
    low, high = np.percentile(np.take_along_axis(means, drawn, 1).mean(1), [2.5, 97.5])
    return float(np.mean([a.mean() - b.mean() for a, b in pairs])), float(low), float(high)


def _resampled(rng: np.random.Generator, values: np.ndarray, draws: int) -> np.ndarray:
    return values[rng.integers(len(values), size=(draws, len(values)))].mean(1)


def report(ours: Mapping[str, Regrets]) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "efficacy",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "budgets": BUDGETS,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "regrets": ours,
    }


if __name__ == "__main__":
    main()
