"""How often the diagnosis finds what is there, and what is not: studies of known functions.

The final value is one of three families of functions of four hyper-parameters, the last of which
does not matter; the way there is a power law or an exponential; a training's luck is a twentieth
of the range. Each question is asked of studies in which the weakness was put and of such without.
Nothing here served to choose the rules. Run it from the project's root:

    python -m benchmarks.diagnosis --repeats 10 --json diagnosis.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.insight import Finding, diagnose
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import MemoryRecord, StudyResult
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import POOR, Assignment, TrialState

WORKERS, EPOCHS, FIRST_RUNG, AUDITS = 4, 27, 3, 12
#: A training's luck: the deviation of its values, of which most lie between 0 and 1.
LUCK = 0.05
SPACE = SearchSpace.parse(
    {
        "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1},
        "width": {"type": "randint", "lower": 16, "upper": 257},
        "momentum": {"type": "uniform", "lower": 0.2, "upper": 0.9},
        "unused": {"type": "uniform", "lower": 2.0, "upper": 5.0},
    }
)
WEIGHTS = np.array([1.0, 0.4, 0.2, 0.0])

#: The loss by the distances from the best place, weighted.
FAMILIES: dict[str, Callable[[np.ndarray], float]] = {
    "bowl": lambda apart: float((apart**2).sum()),
    "plateau": lambda apart: 1 - math.exp(-3 * float((apart**2).sum())),
    "cliff": lambda apart: float(np.where(apart > 0, 1.5 * apart, -0.7 * apart).sum()),
}
QUESTIONS = {
    "bound": ({"trials": 24}, {"trials": 50}),
    "failing region": ({"trials": 50},),
    "failing region among others": ({"trials": 50},),
    "early signal": ({"trials": 30, "audit": AUDITS},),
}
#: Shares of trainings that diverge, in the region and elsewhere.
FAILS = {
    ("failing region", True): (1.0, 0.0),
    ("failing region", False): (0.1, 0.1),
    ("failing region among others", True): (0.9, 0.02),
    ("failing region among others", False): (0.05, 0.05),
}
SEARCHES = ("random", "auto")
FEW = "fewer than 2 failures"


@dataclass(frozen=True)
class Problem:
    """Trainings of one kind.

    Attributes:
        family: The function of the last epoch's value.
        best: Where it is the lowest, in units of the ranges (4,).
        exponential: Whether the way there is an exponential; otherwise a power law.
        fails: The share of trainings with a high learning rate, and of the others, that diverge.
        misleads: Whether another function, of the early epochs, hides it at first.
        early: Where that one is the lowest.
        seed: Of the search and the luck, another one for each problem.
    """

    family: str
    best: np.ndarray
    exponential: bool
    fails: tuple[float, float]
    misleads: bool
    early: np.ndarray
    seed: int

    def curve(self, number: int, params: Mapping[str, Any]) -> np.ndarray:
        """The loss after each epoch (27,); NaN from where it diverges."""
        rng = np.random.default_rng([self.seed, number])
        place = np.array([SPACE[name].position(params[name]) for name in SPACE])
        way = np.arange(1, EPOCHS + 1) / EPOCHS
        left = np.exp(-4 * way) if self.exponential else (way * EPOCHS) ** -0.7
        final = self._loss(place, self.best)
        if self.misleads:
            # Until a third of the training the other function is most of what is to be seen.
            share = 1 / (1 + np.exp((way - 1 / 3) * 20))
            values = (1 - share) * final + share * self._loss(place, self.early) + left
        else:
            values = final * (1 - left / 3) + left
        luck = rng.normal(0, LUCK, 2)
        values = values + luck[0] + luck[1] * rng.normal(0, 0.5, EPOCHS)
        return np.where(self._diverges(place, rng), np.nan, values)

    def correlation(self) -> float:
        """How well the first rung ranks trials, if all of them trained to the end."""
        rng = np.random.default_rng(self.seed)
        drawn = [SPACE.sample(rng) for _ in range(300)]
        curves = [self.curve(10_000 + n, params) for n, params in enumerate(drawn) if params]
        early, last = np.array([(c[FIRST_RUNG - 1], c[-1]) for c in curves]).T
        return float(spearmanr(early, last).statistic)

    def _loss(self, place: np.ndarray, best: np.ndarray) -> float:
        return FAMILIES[self.family]((place - best) * np.sqrt(WEIGHTS))

    def _diverges(self, place: np.ndarray, rng: np.random.Generator) -> bool:
        return bool(rng.random() < self.fails[0 if place[0] > 0.8 else 1])


def problem(family: str, question: str, there: bool, seed: int) -> Problem:
    """Draw a problem in which a weakness is, or is not."""
    index = sorted(FAMILIES).index(family)
    rng = np.random.default_rng([seed, index, there])
    best = rng.uniform(0.25, 0.75, 4)
    if question == "bound" and there:
        best[0] = rng.uniform(1.05, 1.3) if rng.random() < 0.5 else rng.uniform(-0.3, -0.05)
    return Problem(
        family=family,
        best=best,
        exponential=bool(rng.random() < 0.5),
        fails=FAILS.get((question, there), (0, 0)),
        misleads=question == "early signal" and there,
        early=np.where(best > 0.5, rng.uniform(0, 0.25, 4), rng.uniform(0.75, 1, 4)),
        seed=len(FAMILIES) * seed + index,
    )


def studied(drawn: Problem, search: str, trials: int, audit: int = 0) -> StudyResult:
    """Run a study of a problem, with four workers that take an epoch each in turn."""
    logging.getLogger("optuna").setLevel(logging.ERROR)
    configuration = StudyConfiguration(
        storage_path=Path(tempfile.gettempdir(), "diagnosis"),
        mode="min",
        seed=drawn.seed,
        num_samples=trials,
        algorithm=search,
        audit=audit,
    )
    study = plan_study(configuration, SPACE, EPOCHS, default=None).open(record=MemoryRecord())
    running: list[tuple[Assignment, np.ndarray]] = []
    epochs: dict[int, int] = {}
    while True:
        while len(running) < WORKERS and (trial := study.ask()) is not None:
            running.append((trial, drawn.curve(trial.number, trial.params)))
        if not running:
            return study.close()
        for trial, curve in list(running):
            number = trial.number
            epoch = epochs[number] = epochs.get(number, 0) + 1
            verdict = study.report(number, {"loss": float(curve[epoch - 1])}, None, epoch)
            if verdict == "stop" or epoch == EPOCHS:
                study.tell(number, TrialState.COMPLETED)
                running = [entry for entry in running if entry[0].number != number]


@dataclass(frozen=True)
class Case:
    """A study to be diagnosed."""

    question: str
    family: str
    search: str
    trials: int
    audit: int
    there: bool
    seed: int


#: A finding's name, whether it is there, and whether it is found.
Answer = tuple[str, bool, bool]


def answer(case: Case) -> Answer:
    """Look for a weakness; what is found elsewhere does not count.

    The search avoids what fails, so that in some studies with a failing region no two trials fail,
    which tells nothing; these are counted by themselves as well.
    """
    drawn = problem(case.family, case.question, case.there, case.seed)
    result = studied(drawn, case.search, case.trials, case.audit)
    found = [f for f in diagnose(result) if case.question.startswith(f.kind)]
    if case.question == "early signal":
        return case.question, drawn.correlation() < 0.5, bool(found)
    if not case.there:
        return case.question, False, bool(found)
    few = any(drawn.fails) and sum(trial.state in POOR for trial in result.trials) < 2
    name = f"{case.question}, {FEW}" if few else case.question
    return name, True, any(_is_right(finding, drawn) for finding in found)


def _is_right(finding: Finding, drawn: Problem) -> bool:
    changes = finding.patch.get("search_space", {}).get("optim_lr", {})
    end = "upper" if finding.kind != "bound" or drawn.best[0] > 1 else "lower"
    return end in changes


def cases(questions: Sequence[str], seeds: range) -> list[Case]:
    """All studies, those of one seed after the other."""
    return [
        Case(question, family, search, settings["trials"], settings.get("audit", 0), there, seed)
        for seed in seeds
        for question in questions
        for settings, family, search, there in itertools.product(
            QUESTIONS[question], FAMILIES, SEARCHES, (True, False)
        )
    ]


def main() -> None:
    options = _options()
    seeds = range(options.first, options.first + options.repeats)
    asked = cases(options.questions, seeds)
    with ProcessPoolExecutor(options.processes) as pool:
        answers = list(pool.map(answer, asked))
    rows = _rows(asked, answers)
    print("| finding | search | trials | hit | false alarm |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['finding']} | {row['search']} | {row['trials']} | {_said(row['hit'])} "
            f"| {_said(row['false_alarm'])} |"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(_report(rows), indent=2) + "\n")


def _rows(asked: list[Case], answers: list[Answer]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, int], list[tuple[bool, bool]]] = {}
    for case, (name, there, found) in zip(asked, answers, strict=True):
        groups.setdefault((name, case.search, case.trials), []).append((there, found))
        if name.endswith(FEW):
            groups.setdefault((case.question, case.search, case.trials), []).append((there, found))
    return [
        {
            "finding": question,
            "search": search,
            "trials": trials,
            "hit": [found for there, found in given if there],
            "false_alarm": [found for there, found in given if not there],
        }
        for (question, search, trials), given in groups.items()
    ]


def _said(found: list[bool]) -> str:
    return f"{np.mean(found):.2f} of {len(found)}" if found else "-"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="problems of each family")
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--first", type=int, default=0, help="seed of the first problems")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def _report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "benchmark": "diagnosis",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("itwinai", "optuna", "numpy", "scipy")},
        "rates": [
            row
            | {
                key: {"share": float(np.mean(row[key])) if row[key] else None, "of": len(row[key])}
                for key in ("hit", "false_alarm")
            }
            for row in rows
        ],
    }


if __name__ == "__main__":
    main()
