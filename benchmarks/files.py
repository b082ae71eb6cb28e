"""Files of a large study, and the time until it goes on: real trials that train next to nothing.

python -m benchmarks.files --trials 1000 --json files.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
import torch

from itwinai.torch.trainer import RayTorchTrainer

EPOCHS = 3


def main() -> None:
    options = _options()
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), options.trials)
    finally:
        ray.shutdown()
    print(
        f"{figures['trials']} trials: {figures['files']} files and {figures['folders']} folders, "
        f"{figures['bytes'] / 2**20:.1f} MiB; {figures['seconds']:.0f} s; one more trial, "
        f"resumed: {figures['resume_seconds']:.1f} s"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(report(figures), indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def measure(folder: Path, trials: int) -> dict[str, Any]:
    """Run a study of linear models, count its files, and resume it for one more trial."""
    begin = time.perf_counter()
    run(folder, trials)
    seconds = time.perf_counter() - begin
    paths = list(folder.rglob("*"))
    files = [path for path in paths if path.is_file()]
    begin = time.perf_counter()
    run(folder, trials + 1, resume=True)
    return {
        "trials": trials,
        "seconds": seconds,
        "files": len(files),
        "folders": len(paths) - len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "resume_seconds": time.perf_counter() - begin,
    }


def run(folder: Path, trials: int, resume: bool = False) -> None:
    """Run or resume the study."""
    inputs = torch.linspace(-1, 1, 16).reshape(-1, 1)
    data = torch.utils.data.TensorDataset(inputs, 2 * inputs)
    trainer = RayTorchTrainer(
        {"loss": "mse", "optimizer": "sgd", "num_workers_dataloader": 0},
        epochs=EPOCHS,
        model=torch.nn.Linear(1, 1),
        search_space={"optim_lr": {"type": "loguniform", "lower": 1e-3, "upper": 1.0}},
        study={
            "storage_path": folder,
            "mode": "min",
            "num_samples": trials,
            "algorithm": "random",
            "resources_per_worker": {"CPU": 1},
            "resume": resume,
        },
    )
    trainer.execute(data, data)


def report(figures: dict[str, Any]) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "files",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": len(os.sched_getaffinity(0)), "architecture": platform.machine()},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("itwinai", "ray", "torch", "optuna")},
        "figures": figures,
    }


if __name__ == "__main__":
    main()
