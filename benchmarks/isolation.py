"""What the start of a trial costs that gets its own data set: a large one beside a tiny one.

python -m benchmarks.isolation --json isolation.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray
import torch

from itwinai.torch.trainer import RayTorchTrainer


class Arrays(torch.utils.data.Dataset):
    """A data set that holds one array."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Any:
        return self.array[index]


class Pickled(Arrays):
    """A data set on its way: its trials get a copy."""

    def __init__(self, dataset: Arrays) -> None:
        super().__init__(np.frombuffer(pickle.dumps(dataset.array, protocol=5), np.uint8))


class Starting(RayTorchTrainer):
    """Notes the time at which each trial has its data, and trains nothing."""

    def train(self) -> None:
        data = self.train_dataloader.dataset
        array = pickle.loads(data.array) if isinstance(data, Pickled) else data.array
        with (Path(self.checkpoints_location).parents[1] / "begins").open("a") as file:
            file.write(f"{time.time()}\n")
        self.ray_report({"validation_loss": self.config.x + float(array[0])})


def datasets(mebibytes: int) -> dict[str, Callable[[], Arrays]]:
    """What the trials are given."""
    count = mebibytes * 2**18
    return {
        "tiny": lambda: Arrays(torch.ones(1)),
        "tensor": lambda: Arrays(torch.ones(count)),
        "array": lambda: Arrays(np.ones(count, np.float32)),
        "tensor, copied": lambda: Pickled(Arrays(torch.ones(count))),
        "array, copied": lambda: Pickled(Arrays(np.ones(count, np.float32))),
    }


def main() -> None:
    options = _options()
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        figures = measure(options.mebibytes, options.trials, options.rounds)
    finally:
        ray.shutdown()
    print(table(figures))
    if options.json is not None:
        options.json.write_text(json.dumps(report(figures, options), indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the large data sets")
    parser.add_argument("--trials", type=int, default=15, help="trials of each study")
    parser.add_argument("--rounds", type=int, default=3, help="studies with each data set")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def measure(mebibytes: int, trials: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per trial of each kind of data set, in each round."""
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, make in datasets(mebibytes).items():
            with tempfile.TemporaryDirectory() as folder:
                figures.setdefault(name, []).append(seconds_per_trial(Path(folder), make(), trials))
    return figures


def seconds_per_trial(folder: Path, dataset: Arrays, trials: int) -> float:
    """Median time from one trial's begin to the next one's, in one warm process."""
    trainer = Starting(
        config={"x": 0.5, "num_workers_dataloader": 0},
        epochs=1,
        model=torch.nn.Linear(1, 1),
        search_space={"x": {"type": "uniform", "lower": 0.0, "upper": 1.0}},
        study={
            "storage_path": folder,
            "mode": "min",
            "num_samples": trials,
            "algorithm": "random",
            "scheduler": "none",
            "max_concurrent_trials": 1,
        },
    )
    trainer.execute(dataset)
    begins = [float(line) for line in (folder / "study/begins").read_text().split()]
    assert len(begins) == trials
    # The first trial's process fetches the data.
    return median(later - earlier for earlier, later in pairwise(begins[1:]))


def ratios(figures: dict[str, list[float]]) -> dict[str, list[float]]:
    """What each took beside the tiny data set, in each round."""
    return {
        name: [seconds / tiny for seconds, tiny in zip(each, figures["tiny"], strict=True)]
        for name, each in figures.items()
    }


def table(figures: dict[str, list[float]]) -> str:
    """The figures as Markdown."""
    lines = ["| data set | s per trial | of the tiny one's (each round) |", "| --- | ---: | ---: |"]
    for name, each in ratios(figures).items():
        rounds = ", ".join(f"{ratio:.2f}" for ratio in each)
        lines.append(f"| {name} | {median(figures[name]):.3f} | {median(each):.2f} ({rounds}) |")
    return "\n".join(lines)


def report(figures: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "isolation",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": len(os.sched_getaffinity(0)), "architecture": platform.machine()},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("itwinai", "ray", "torch", "numpy")},
        "mebibytes": options.mebibytes,
        "trials": options.trials,
        "seconds_per_trial": figures,
        "ratios": ratios(figures),
    }


if __name__ == "__main__":
    main()
