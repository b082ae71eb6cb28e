"""What a trial costs beyond its training: trials that report 10 times and do nothing else.

And what the start of a trial's process costs, with scikit-learn and with PyTorch.

Each variant runs in a process of its own, because a process has one Ray. The clock runs from the
moment Ray has run a first task until all trials have ended, so it includes the start of the trials'
processes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

REPORTS = 10
AT_ONCE = 2
#: Of Ray, by workers per trial, the same for both sides: two trials; and, with 2 workers, what Ray
#: Train needs with its defaults, two drivers and four workers.
LOGICAL_CPUS = {1: 2, 2: 6}
PACKAGES = ("itwinai", "ray", "torch", "optuna")


@dataclass(frozen=True)
class Comparison:
    """Two variants that do the same."""

    name: str
    ours: str
    peer: str
    peer_name: str


COMPARISONS = (
    Comparison("1 worker per trial", "ours-1", "peer-1", "Ray Tune, function trainable"),
    Comparison("1 worker, PyTorch on both sides", "ours-1", "torch-peer-1", "Ray Tune, function"),
    Comparison("1 worker, a function", "function-1", "peer-1", "Ray Tune, function trainable"),
    Comparison("2 workers per trial", "ours-2", "peer-2", "Ray Tune with Ray Train TorchTrainer"),
)


#: What a trial's process loads besides itwinai, and the variant that does.
STARTS = {"nothing": "bare-1", "scikit-learn": "scikit-1", "PyTorch": "torch-1"}


@dataclass(frozen=True)
class Measured:
    """Seconds per trial, with and (where known) without the start of the first processes.

    Of a start: seconds until the first trial has loaded its library, and the CPU seconds that its
    process has used by then.
    """

    seconds: float
    trials: int
    warm: float | None = None
    cpu: float | None = None


def main() -> None:
    options = _options()
    if options.variant is not None:
        measured = measure_here(options.variant, options.trials)
        options.json.write_text(json.dumps(asdict(measured)))
        return
    chosen = () if options.only == "starts" else COMPARISONS
    comparisons = [compare(c, options.trials, options.peer_trials_2, options.pairs) for c in chosen]
    starts = [] if options.only == "trials" else compare_starts(options.pairs)
    tables = [table(comparisons)] * bool(comparisons) + [table_of_starts(starts)] * bool(starts)
    print("\n\n".join(tables))
    if options.json is not None:
        options.json.write_text(json.dumps(report(comparisons, starts), indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100, help="trials of each variant")
    parser.add_argument(
        "--peer-trials-2",
        type=int,
        default=4,
        help="trials of the peer with 2 workers, which takes tens of seconds for each",
    )
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side, alternating")
    parser.add_argument("--only", choices=("trials", "starts"), help="one of the two tables")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


# -- one variant, in this process ------------------------------------------------------------------


def measure_here(variant: str, trials: int) -> Measured:
    """Start Ray, the same for both sides of a comparison, and run one of them."""
    import ray
    import ray.tune
    import torch  # noqa: F401

    # The clock starts after either side's library is loaded.
    import itwinai.hpo.launch
    import itwinai.torch.ray.trainer  # noqa: F401

    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=LOGICAL_CPUS[int(variant[-1])],
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        _wait_until_up()
        with tempfile.TemporaryDirectory() as folder:
            return VARIANTS[variant](trials, Path(folder))
    finally:
        ray.shutdown()


def _wait_until_up() -> None:
    """Let Ray run a first task: it starts processes of its own in the background."""
    import ray

    ray.get(ray.remote(lambda: None).remote())


def ours(trials: int, folder: Path, workers: int) -> Measured:
    """A study of a trainer with a ``train()`` of its own."""
    import torch

    from itwinai.torch.trainer import RayTorchTrainer

    class Trivial(RayTorchTrainer):
        def train(self) -> None:
            for epoch in range(self.epochs):
                self.ray_report({"validation_loss": self.config.x + epoch})

    trainer = Trivial(
        config={"x": 0.5},
        epochs=REPORTS,
        model=torch.nn.Linear(1, 1),
        strategy="ddp",
        search_space={"x": {"type": "uniform", "lower": 0.0, "upper": 1.0}},
        study={
            "storage_path": str(folder),
            "mode": "min",
            "num_samples": trials,
            "algorithm": "random",
            "scheduler": "none",
            "workers_per_trial": workers,
            "resources_per_worker": {"CPU": 1},
            "max_concurrent_trials": AT_ONCE,
        },
    )
    start = time.perf_counter()
    trainer.execute(torch.utils.data.TensorDataset(torch.zeros(1, 1)))
    seconds = time.perf_counter() - start
    result = trainer.study_result
    assert [trial.epochs for trial in result.trials] == [REPORTS] * trials
    return Measured(seconds / trials, trials, _warm(result.record))


def function(trials: int, folder: Path) -> Measured:
    """A study of a function, whose processes never load PyTorch."""
    from itwinai.hpo import tune

    start = time.perf_counter()
    result = tune(
        report_as_function,
        space={"x": {"type": "uniform", "lower": 0.0, "upper": 1.0}},
        config={"x": 0.5},
        epochs=REPORTS,
        metric="validation_loss",
        mode="min",
        num_samples=trials,
        algorithm="random",
        scheduler="none",
        storage_path=folder,
        resources_per_worker={"CPU": 1},
        max_concurrent_trials=AT_ONCE,
    )
    seconds = time.perf_counter() - start
    assert [trial.epochs for trial in result.trials] == [REPORTS] * trials
    return Measured(seconds / trials, trials, _warm(result.record))


def report_as_function(config: Any, trial: Any) -> None:
    """A trial of itwinai."""
    for epoch in trial.epochs():
        trial.report({"validation_loss": config.x + epoch})


def start_with(trial: Callable[[Any, Any], None], folder: Path) -> Measured:
    """A study of one trial, which loads its library and says when it has."""
    from itwinai.hpo import tune

    start = time.time()
    result = tune(
        trial,
        space={"x": {"type": "uniform", "lower": 0.0, "upper": 1.0}},
        config={"x": 0.5},
        metric="validation_loss",
        mode="min",
        num_samples=1,
        algorithm="random",
        storage_path=folder,
        resources_per_worker={"CPU": 1},
    )
    told = result.trials[0].metrics
    assert bool(told["has_torch"]) == (trial is load_torch)
    return Measured(told["loaded_at"] - start, 1, cpu=told["cpu"])


def load_scikit(config: Any, trial: Any) -> None:
    """A trial that begins with scikit-learn."""
    import sklearn.linear_model  # noqa: F401

    report_start(config, trial)


def load_torch(config: Any, trial: Any) -> None:
    """A trial that begins with PyTorch."""
    import torch  # noqa: F401

    report_start(config, trial)


def report_start(config: Any, trial: Any) -> None:
    """Report when this process was ready, and what that has cost it."""
    told = {"loaded_at": time.time(), "cpu": time.process_time()}
    trial.report({"validation_loss": config.x, "has_torch": "torch" in sys.modules, **told})


def _warm(record: Path) -> float | None:
    """Seconds per trial between the first trial's end and the last one's."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    storage = JournalStorage(JournalFileBackend(str(record)))
    ends = sorted(
        trial.datetime_complete
        for study in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=study, storage=storage).trials
    )
    return (ends[-1] - ends[0]).total_seconds() / (len(ends) - 1) if len(ends) > 1 else None


def tune_peer(trials: int, folder: Path, function: Callable[[dict[str, Any]], None]) -> Measured:
    """Ray Tune over a function, with its defaults; only its terminal output is off."""
    from ray import tune

    tuner = tune.Tuner(
        function,
        param_space={"x": tune.uniform(0.0, 1.0), "folder": str(folder)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=AT_ONCE),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    start = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - start
    assert not results.errors, results.errors[0]
    assert [r.metrics["training_iteration"] for r in results] == [REPORTS] * trials
    return Measured(seconds / trials, trials)


def report_in_tune(config: dict[str, Any]) -> None:
    """A trial of Ray Tune."""
    from ray import tune

    for epoch in range(REPORTS):
        tune.report({"validation_loss": config["x"] + epoch})


def report_with_torch_in_tune(config: dict[str, Any]) -> None:
    """A trial of Ray Tune that makes what the trainer makes: a model and its optimizer."""
    import torch

    torch.optim.Adam(torch.nn.Linear(1, 1).parameters())
    report_in_tune(config)


def train_in_tune(config: dict[str, Any]) -> None:
    """A trial of Ray Tune that runs a Ray Train of two workers, as Ray's guide shows it."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        report_in_train,
        train_loop_config={"x": config["x"]},
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=config["folder"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def report_in_train(config: dict[str, Any]) -> None:
    """One worker of Ray Train; its gloo group is there already."""
    from ray import train

    for epoch in range(REPORTS):
        train.report({"validation_loss": config["x"] + epoch})


VARIANTS: dict[str, Callable[[int, Path], Measured]] = {
    "ours-1": lambda trials, folder: ours(trials, folder, workers=1),
    "function-1": function,
    "peer-1": lambda trials, folder: tune_peer(trials, folder, report_in_tune),
    "torch-peer-1": lambda trials, folder: tune_peer(trials, folder, report_with_torch_in_tune),
    "ours-2": lambda trials, folder: ours(trials, folder, workers=2),
    "peer-2": lambda trials, folder: tune_peer(trials, folder, train_in_tune),
    "bare-1": lambda trials, folder: start_with(report_start, folder),
    "scikit-1": lambda trials, folder: start_with(load_scikit, folder),
    "torch-1": lambda trials, folder: start_with(load_torch, folder),
}


# -- all variants, each in a process of its own ----------------------------------------------------


def compare(comparison: Comparison, trials: int, peer_trials_2: int, pairs: int) -> dict[str, Any]:
    """Run both sides alternately; the figures are medians, the ratio that of each pair."""
    peer_trials = peer_trials_2 if comparison.peer == "peer-2" else trials
    ours, peer = [], []
    for _ in range(pairs):
        ours.append(measure(comparison.ours, trials))
        peer.append(measure(comparison.peer, peer_trials))
    ratios = sorted(p.seconds / o.seconds for o, p in zip(ours, peer, strict=True))
    return {
        "name": comparison.name,
        "ours": median(o.seconds for o in ours),
        "ours_warm": median(o.warm for o in ours if o.warm is not None),
        "peer": median(p.seconds for p in peer),
        "peer_name": comparison.peer_name,
        "ratio": median(ratios),
        "ratios": ratios,
        "trials": {"ours": trials, "peer": peer_trials},
    }


def compare_starts(rounds: int) -> list[dict[str, Any]]:
    """Start a trial's process with each library in turn; the figures are medians."""
    measured: dict[str, list[Measured]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, variant in STARTS.items():
            measured[name].append(measure(variant, 1))
    return [
        {
            "name": name,
            "seconds": median(one.seconds for one in found),
            "cpu": median(one.cpu for one in found if one.cpu is not None),
        }
        for name, found in measured.items()
    ]


def measure(variant: str, trials: int) -> Measured:
    """Measure a variant in a process of its own."""
    print(f"{variant}: {trials} trials ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "measured.json")
        command = [sys.executable, __file__, f"--variant={variant}", f"--trials={trials}"]
        subprocess.run(
            [*command, f"--json={answer}"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )
        return Measured(**json.loads(answer.read_text()))


def report(comparisons: list[dict[str, Any]], starts: list[dict[str, Any]]) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "overhead",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "architecture": platform.machine(),
            "system": platform.system(),
        },
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "comparisons": comparisons,
        "starts": starts,
        "load": os.getloadavg(),
    }


def table(comparisons: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| Seconds per trial | ours | ours, warm | peer | peer / ours (each pair) | trials |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for c in comparisons:
        pairs = ", ".join(f"{ratio:.0f}" for ratio in c["ratios"])
        lines.append(
            f"| {c['name']} ({c['peer_name']}) | {c['ours']:.3f} | {c['ours_warm']:.3f} | "
            f"{c['peer']:.2f} | {c['ratio']:.0f} ({pairs}) | "
            f"{c['trials']['ours']}, {c['trials']['peer']} |"
        )
    return "\n".join(lines)


def table_of_starts(starts: list[dict[str, Any]]) -> str:
    """The starts of processes as Markdown."""
    lines = [
        "| A trial's process has loaded | seconds | CPU seconds of the process |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {one['name']} | {one['seconds']:.2f} | {one['cpu']:.2f} |" for one in starts]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
