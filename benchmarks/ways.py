"""Four ways to a study of the same digits: lines that change, and seconds for each trial.

Each way is a script without a study and one with it, in ``benchmarks/ways``. A study runs with few
trials and with more, each in a process of its own: the difference is what a further trial takes.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

FOLDER = Path(__file__).with_name("ways")
#: What stands in every script with a study.
TRIALS = "num_samples=16", '"num_samples": 16'


@dataclass(frozen=True)
class Way:
    """A script without a study, and the same with one."""

    name: str
    alone: str
    study: str


WAYS = (
    Way("TorchTrainer", "trainer_alone.py", "trainer_study.py"),
    Way("itwinai.hpo.tune over a function", "function_alone.py", "function_study.py"),
    Way("itwinai.hpo.tune over a Lightning Trainer", "lightning_alone.py", "lightning_study.py"),
    Way("Ray Tune over a function", "function_alone.py", "tune_study.py"),
)


@dataclass(frozen=True)
class Figures:
    """What a way takes.

    Attributes:
        added: Lines of the study's script that the other lacks.
        removed: Lines of the other that the study's script lacks.
        few: Seconds of the whole script with few trials, the median of all rounds.
        more: The same with more trials.
        per_trial: Seconds that a further trial takes.
    """

    name: str
    added: int
    removed: int
    few: float
    more: float
    per_trial: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=2, help="trials of the short studies")
    parser.add_argument("--more", type=int, default=22, help="trials of the long ones")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, the ways in turn")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for way in WAYS:
            for trials in (options.few, options.more):
                seconds.setdefault((way.name, trials), []).append(run(way.study, trials))
                print(way.name, trials, f"{seconds[way.name, trials][-1]:.1f} s", file=sys.stderr)
    middle = {key: median(measured) for key, measured in seconds.items()}
    figures = [of_way(way, options.few, options.more, middle) for way in WAYS]
    print(table(figures, options.few, options.more))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n")


def of_way(way: Way, few: int, more: int, seconds: dict[tuple[str, int], float]) -> Figures:
    added, removed = changed_lines(way)
    short, long = seconds[way.name, few], seconds[way.name, more]
    return Figures(way.name, added, removed, short, long, (long - short) / (more - few))


def changed_lines(way: Way) -> tuple[int, int]:
    """How many lines a study adds to the script, and how many it takes away."""
    before, after = (lines_of(FOLDER / name) for name in (way.alone, way.study))
    marks = [line[:1] for line in difflib.ndiff(before, after)]
    return marks.count("+"), marks.count("-")


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]


def run(script: str, trials: int) -> float:
    """Seconds of a script whose study has so many trials."""
    with tempfile.TemporaryDirectory() as folder:
        for path in FOLDER.glob("*.py"):
            text = path.read_text()
            for written in TRIALS:
                text = text.replace(written, written.replace("16", str(trials)))
            Path(folder, path.name).write_text(text)
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, script],
            cwd=folder,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "HOME": folder},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - begin


def table(figures: list[Figures], few: int, more: int) -> str:
    lines = [
        f"| way | lines added, removed | s, {few} trials | s, {more} trials | s per trial more |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in figures:
        lines.append(
            f"| {one.name} | {one.added}, {one.removed} | {one.few:.1f} | {one.more:.1f} | "
            f"{one.per_trial:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
