"""How well importances rank hyper-parameters: the model's beside Optuna's, over the same studies.

Studies of ``auto`` on the tables of ``efficacy``, and on four families of functions with learning
curves that nothing was chosen by. In these one of five hyper-parameters is called a learning rate,
and each role is dealt out at random: what the model expects of a learning rate is wrong in four of
five. The truth is the total Sobol index of the true final value over the whole space, cut as the
regret of ``efficacy`` is. Run it from the project's root:

    python -m benchmarks.importance --repeats 5 --json importance.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.stats import spearmanr
from scipy.stats.qmc import Sobol

from benchmarks.efficacy import PACKAGES, Clock, Driven
from benchmarks.learning_curves import WORST_REGRET, Task, load_tasks
from itwinai.hpo.insight import importances
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialState

#: Base points of the true indices, as a power of two.
EXPONENT = 10
#: A training's luck, of a final value that lies between 0 and 1.
LUCK = 0.03
NAMES = ("lr", "width", "momentum", "dropout", "smoothing")

#: The loss by the roles (n, 5), each from 0 to 1; the last has no part in any.
FAMILIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bowl": lambda x: (x[:, :4] - [0.3, 0.7, 0.4, 0.6]) ** 2 @ np.array([1, 0.5, 0.25, 0.1]),
    "ridge": lambda x: (x[:, 0] + x[:, 1] - 1) ** 2 + 0.3 * (x[:, 2] - 0.3) ** 2 + 0.05 * x[:, 3],
    "product": lambda x: 1 - (0.2 + 0.8 * x[:, 0]) * np.sqrt(0.3 + 0.7 * x[:, 1]) + 0.1 * x[:, 2],
    "wave": lambda x: np.sin(3 * x[:, 0]) ** 2 * (0.3 + x[:, 1]) + 0.5 * abs(x[:, 2] - 0.5),
}

#: Importances by the name of the hyper-parameter.
Shares = Mapping[str, float]


class Function:
    """A function of five hyper-parameters as a task; its roles are dealt out by a seed."""

    metric, mode, epochs = "loss", "min", 27

    def __init__(self, family: str, seed: int) -> None:
        rng = np.random.default_rng([seed, sorted(FAMILIES).index(family)])
        self.name = family
        self.space = {
            name: {"type": "float", "low": 1e-4, "high": 0.1, "log": True}
            if name == "lr"
            else {"type": "float", "low": 0.0, "high": 1.0, "log": False}
            for name in NAMES
        }
        self.default: dict[str, Any] | None = None
        self._loss, self._roles, self._seed = FAMILIES[family], rng.permutation(len(NAMES)), seed
        self._pace = rng.uniform(0.4, 1.2)
        self._parsed = parsed(self.space)
        drawn = self._loss(rng.random((2000, len(NAMES))))
        self._best, self._unit = drawn.min(), np.median(drawn) - drawn.min()

    def regret(self, params: Mapping[str, Any]) -> float:
        """True final value from 0, the best, to 1, a random median."""
        place = np.array([[self._parsed[name].position(params[name]) for name in NAMES]])
        value = (self._loss(place[:, self._roles])[0] - self._best) / self._unit
        return float(min(WORST_REGRET, value))

    def evaluate(self, params: Mapping[str, Any], epoch: int, seed: int) -> float:
        """The loss after an epoch: a power law, faster for some than for others, with luck."""
        rng = np.random.default_rng([seed, self._seed])
        luck = LUCK * (rng.normal() + rng.normal(0, 0.5, self.epochs)[epoch - 1])
        speed = self._pace * rng.uniform(0.95, 1.05)
        return self.regret(params) + 2 * epoch**-speed + luck

    def cost(self, params: Mapping[str, Any]) -> float:
        """Cost of an epoch."""
        return 1.0


def parsed(space: Mapping[str, Any]) -> SearchSpace:
    """Read a task's space as a study does."""
    return Driven(space, "loss", "min", 2, seed=0, algorithm="random").plan.space


@cache
def problem(name: str, seed: int) -> Task | Function:
    """The table or the function of a name; tables know of no seed."""
    if name in FAMILIES:
        return Function(name, seed)
    return next(task for task in load_tasks() if task.name == name)


@cache
def truth(name: str, seed: int) -> dict[str, float]:
    """Total Sobol indices of the true final value, by Jansen's estimator."""
    task = problem(name, seed)
    space = parsed(task.space)
    both = Sobol(2 * len(space), rng=np.random.default_rng(1)).random_base2(EXPONENT)
    base, other = both[:, : len(space)], both[:, len(space) :]
    values = _regrets(task, space, base)
    indices = {}
    for place, hyper_parameter in enumerate(space):
        changed = base.copy()
        changed[:, place] = other[:, place]
        moved = _regrets(task, space, changed)
        indices[hyper_parameter] = float(((values - moved) ** 2).mean() / (2 * values.var()))
    return indices


def _regrets(task: Task | Function, space: SearchSpace, points: np.ndarray) -> np.ndarray:
    return np.array([task.regret(_at(space, point)) for point in points])


def _at(space: SearchSpace, point: np.ndarray) -> dict[str, Any]:
    axes = zip(space.items(), point, strict=True)
    return space.existing({name: domain.at(unit) for (name, domain), unit in axes})


# -- who says what matters -----------------------------------------------------------------------


def readings(result: StudyResult) -> dict[str, Shares]:
    """What each method makes of a study."""
    found = importances(result)
    return {
        "model, ranks": {importance.name: -float(importance.rank) for importance in found},
        "model, shares": {importance.name: importance.share for importance in found},
        "model, equal priors": {importance.name: importance.equal for importance in found},
        "fANOVA": _by_optuna(result, optuna.importance.FanovaImportanceEvaluator(seed=0)),
        "PED-ANOVA": _by_optuna(result, optuna.importance.PedAnovaImportanceEvaluator()),
        # What one would guess who has seen nothing.
        "learning rate first": {name: float(name == "lr") for name in result.space},
    }


def _by_optuna(result: StudyResult, evaluator: Any) -> Shares:
    """Ask an evaluator of Optuna, which sees completed trials alone; nothing of fewer than two."""
    study = optuna.create_study(direction="minimize" if result.mode == "min" else "maximize")
    for trial in result.trials:
        value = trial.metric(result.metric)
        if trial.state is TrialState.COMPLETED and value is not None:
            study.enqueue_trial(result.space.encode(trial.params))
            asked = study.ask()
            result.space.suggest(asked, trial.params)
            study.tell(asked, value)
    if len(study.trials) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


# -- figures -------------------------------------------------------------------------------------

#: By method: rank correlation with the truth, and how much of the first place the first has.
Scores = dict[str, tuple[float, float]]


def run_one(job: tuple[str, int, int]) -> Scores:
    """One study of so many trials, and what each method makes of it."""
    name, trials, seed = job
    drawn = seed if name in FAMILIES else 0
    task = problem(name, drawn)
    about = (task.space, task.metric, task.mode, task.epochs, seed, task.default)
    study = Driven(*about, num_samples=trials)
    for _ in Clock(task, study, seed).moments():
        pass
    true = truth(name, drawn)
    return {method: score(true, of) for method, of in readings(study.study.result()).items()}


def score(true: Shares, found: Shares) -> tuple[float, float]:
    """Compare with the truth; what is not named has no importance, and nothing known ranks 0."""
    said = np.array([found.get(name, 0.0) for name in true])
    if np.ptp(said) == 0:
        return 0.0, 0.0
    correlation = float(spearmanr(said, list(true.values())).statistic)
    first = said == said.max()
    return correlation, float(first[np.argmax(list(true.values()))] / first.sum())


def main() -> None:
    options = _options()
    tables = [task.name for task in load_tasks()]
    seeds = dict.fromkeys(tables, options.repeats) | dict.fromkeys(FAMILIES, 3 * options.repeats)
    jobs = [
        (name, trials, seed)
        for trials in options.trials
        for name, count in seeds.items()
        for seed in range(options.first, options.first + count)
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        scores = list(pool.map(run_one, jobs))
    rows = []
    for trials in options.trials:
        for group, names in {"tables": tables, "functions": list(FAMILIES)}.items():
            of = [
                (job[0], score_of)
                for job, score_of in zip(jobs, scores, strict=True)
                if job[0] in names and job[1] == trials
            ]
            figures = {method: figures_of(method, of) for method in of[0][1]}
            rows.append({"trials": trials, "on": group, "studies": len(of), "methods": figures})
    print(table(rows))
    if options.json is not None:
        options.json.write_text(json.dumps(report(rows, options.repeats), indent=2) + "\n")


def figures_of(method: str, scores: Sequence[tuple[str, Scores]]) -> dict[str, Any]:
    """Mean rank correlation of a method, with its standard error, and how often its first is."""
    correlations = [of[method][0] for _, of in scores]
    names = dict.fromkeys(name for name, _ in scores)
    return {
        "correlation": float(np.mean(correlations)),
        "error": float(np.std(correlations) / np.sqrt(len(correlations))),
        "first": float(np.mean([of[method][1] for _, of in scores])),
        "by_task": {
            name: float(np.mean([of[method][0] for task, of in scores if task == name]))
            for name in names
        },
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean rank correlation / share of studies whose first is the first, for people."""
    heads = [f"{row['studies']} {row['on']}, {row['trials']} trials" for row in rows]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(rows)}"]
    for method in rows[0]["methods"]:
        of = [row["methods"][method] for row in rows]
        cells = [f"{figures['correlation']:.2f}/{figures['first']:.2f}" for figures in of]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="per table; per function 3 times")
    parser.add_argument("--first", type=int, default=0, help="seed of the first studies")
    parser.add_argument("--trials", type=int, nargs="+", default=[24, 50])
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def report(rows: Sequence[Mapping[str, Any]], repeats: int) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "importance",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "repeats": repeats,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "figures": rows,
    }


if __name__ == "__main__":
    main()
