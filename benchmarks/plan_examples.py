"""What a plan says of the repository's examples beside what their studies then train.

Real studies on Ray, each planned and run by the command line in a copy of its folder. Run it from
the project's root:

    python -m benchmarks.plan_examples --json plan_examples.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itwinai.hpo import load_study

EXAMPLES = Path(__file__).parents[1] / "examples"
STUDY = "training_pipeline.steps.trainer.study"

#: By what a study is called here: its example, and what is changed in it.
STUDIES: dict[str, tuple[str, list[str]]] = {
    "digits, as it is": ("digits", []),
    "digits, auto": ("digits", ["algorithm=auto", "scheduler=auto"]),
    "timeseries, 24 trials": ("timeseries", ["num_samples=24"]),
    "text, 24 trials": ("text", ["num_samples=24"]),
}


def compare(name: str, seed: int) -> dict[str, Any]:
    """Plan a study, run it, and set both side by side."""
    example, changes = STUDIES[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(EXAMPLES / example, Path(temporary, "example")))
        settings = [f"{STUDY}.{change}" for change in (*changes, f"seed={seed}")]
        asked = ["--config-name", "study", *settings]
        (plan,) = json.loads(_itwinai(folder, "hpo", "plan", "--probe", "--json", *asked))["plans"]
        _itwinai(folder, "hpo", "run", *asked)
        cost = load_study(folder / "studies" / plan["study"]).cost
    return {
        "study": name,
        "seed": seed,
        "trials": plan["trials"],
        "full": plan["epochs_without_scheduler"],
        "planned": plan["epochs"],
        "trained": cost.epochs,
        "planned_seconds": plan["seconds"],
        "seconds": cost.elapsed,
    }


def _itwinai(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "itwinai", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def main() -> None:
    options = _options()
    rows = []
    for seed, name in itertools.product(range(options.repeats), options.studies):
        rows.append(compare(name, seed))
        if options.json is not None:
            options.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--repeats", type=int, default=2, help="seeds of each study")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each study, for people."""
    lines = [
        "| study | seed | without a scheduler | planned epochs | trained | error | time |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        planned, trained = row["planned"], row["trained"]
        expected = f"{planned['expected']:.0f} ({planned['low']:.0f} to {planned['high']:.0f})"
        error = f"{planned['expected'] / trained - 1:+.2f}"
        time = f"{row['planned_seconds']['expected']:.0f} s, took {row['seconds']:.0f} s"
        cells = [row["study"], row["seed"], row["full"], expected, trained, error, time]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
