"""What a training costs beyond the loop that one would write by hand.

Four ways to train the same model on the same batches: a hand-written loop of PyTorch, itwinai's
``TorchTrainer``, Lightning Fabric and Hugging Face Accelerate. They take turns in one process (or
one group of two), a few epochs each, again and again; an epoch's time is that of its training
alone. All sum up the mean loss of the epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

PACKAGES = ("itwinai", "torch", "lightning-fabric", "accelerate")
WARM_UP = 1  # epochs of each turn that are not counted


class Workload:
    """A model, its data, and how to train it."""

    def __init__(
        self, model: Callable[[], nn.Module], data: Dataset[Any], batch: int, epochs: int
    ) -> None:
        self.model, self.data, self.batch, self.epochs = model, data, batch, epochs


def digits() -> Workload:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return Workload(_cnn, TensorDataset(pixels, torch.tensor(labels)), batch=64, epochs=4)


def large() -> Workload:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(128, 1024, generator=generator)
    targets = torch.randint(10, (128,), generator=generator)
    return Workload(_mlp, TensorDataset(inputs, targets), batch=32, epochs=2)


WORKLOADS = {"digits CNN": digits, "50-million-parameter MLP": large}


def _cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


def _mlp() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(1024, 4096), nn.ReLU()),
        *(nn.Linear(4096, 4096), nn.ReLU()),
        *(nn.Linear(4096, 4096), nn.ReLU()),
        *(nn.Linear(4096, 2900), nn.ReLU()),
        nn.Linear(2900, 10),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each way")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker, options.rounds, options.json)
        return
    figures = [
        {"workload": name, "ranks": ranks, **measured(name, ranks, options.rounds)}
        for name in WORKLOADS
        for ranks in (1, 2)
    ]
    show(figures)
    if options.json is not None:
        head = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}",
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES},
        }
        options.json.write_text(json.dumps({**head, "figures": figures}, indent=2) + "\n")


def measured(workload: str, ranks: int, rounds: int) -> dict[str, Any]:
    """Seconds per epoch of each way, and their ratios to the hand-written loop's."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "times.json")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        subprocess.run(
            [
                *(sys.executable, *(launcher if ranks > 1 else [])),
                *(str(Path(__file__).resolve()), "--worker", workload),
                *("--rounds", str(rounds), "--json", str(file)),
            ],
            check=True,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        times: dict[str, list[float]] = json.loads(file.read_text())
    by_hand = times["by hand"]
    return {
        "seconds": {way: median(values) for way, values in times.items()},
        "ratio": {
            way: median(v / h for v, h in zip(values, by_hand, strict=True))
            for way, values in times.items()
        },
    }


def show(figures: list[dict[str, Any]]) -> None:
    for figure in figures:
        print(f"{figure['workload']}, {figure['ranks']} rank(s)")
        for way, seconds in figure["seconds"].items():
            print(f"  {way:12} {seconds:8.4f} s per epoch   {figure['ratio'][way]:.3f}")


# -- in the processes that train ---------------------------------------------------------------


def work(name: str, rounds: int, file: Path) -> None:
    """Let the ways take turns; rank 0 writes the median epoch of each turn."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        torch.distributed.init_process_group("gloo")
    workload = WORKLOADS[name]()
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds):
        # Another one begins each round, because the first one finds the caches as they are.
        ways = list(WAYS)
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            torch.manual_seed(number)
            epochs = WAYS[way](workload, ranks)
            times[way].append(median(epochs[WARM_UP:]))
    if int(os.environ.get("RANK", "0")) == 0:
        file.write_text(json.dumps(times))


def timed(epoch: Callable[[int], Any], epochs: int) -> list[float]:
    """Seconds of each epoch."""
    seconds = []
    for number in range(epochs + WARM_UP):
        began = time.perf_counter()
        epoch(number)
        seconds.append(time.perf_counter() - began)
    return seconds


def by_hand(workload: Workload, ranks: int) -> list[float]:
    model = workload.model()
    if ranks > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters())
    sampler = DistributedSampler(workload.data) if ranks > 1 else None
    loader = DataLoader(
        workload.data, batch_size=workload.batch, sampler=sampler, shuffle=sampler is None
    )
    criterion = nn.CrossEntropyLoss()

    def epoch(number: int) -> float:
        if sampler is not None:
            sampler.set_epoch(number)
        model.train()
        total = torch.zeros(2)
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), target)
            loss.backward()
            optimizer.step()
            total += torch.tensor([loss.detach() * len(inputs), len(inputs)])
        if ranks > 1:
            torch.distributed.all_reduce(total)
        return float(total[0] / total[1])

    return timed(epoch, workload.epochs)


def itwinai_trainer(workload: Workload, ranks: int) -> list[float]:
    from itwinai.torch.trainer import TorchTrainer

    class Timed(TorchTrainer):
        def train(self) -> None:
            def epoch(number: int) -> float:
                self.current_epoch = number
                self.set_epoch()
                return float(self.train_epoch())

            self.seconds = timed(epoch, workload.epochs)

    trainer = Timed(
        config={
            "batch_size": workload.batch,
            "shuffle_train": True,
            "num_workers_dataloader": 0,
            "dist_backend": "gloo",
        },
        epochs=workload.epochs,
        model=workload.model(),
    )
    trainer.train_in_this_process(workload.data, None, None)
    return trainer.seconds


def fabric(workload: Workload, ranks: int) -> list[float]:
    from lightning_fabric import Fabric

    parallel = Fabric(accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto")
    parallel.launch()
    model = workload.model()
    model, optimizer = parallel.setup(model, torch.optim.Adam(model.parameters()))
    loader = parallel.setup_dataloaders(
        DataLoader(workload.data, batch_size=workload.batch, shuffle=True)
    )
    criterion = nn.CrossEntropyLoss()

    def epoch(number: int) -> float:
        if ranks > 1:
            loader.sampler.set_epoch(number)
        model.train()
        total = torch.zeros(2)
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), target)
            parallel.backward(loss)
            optimizer.step()
            total += torch.tensor([loss.detach() * len(inputs), len(inputs)])
        total = parallel.all_reduce(total, reduce_op="sum")
        return float(total[0] / total[1])

    return timed(epoch, workload.epochs)


def accelerate(workload: Workload, ranks: int) -> list[float]:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = workload.model()
    model, optimizer, loader = accelerator.prepare(
        model,
        torch.optim.Adam(model.parameters()),
        DataLoader(workload.data, batch_size=workload.batch, shuffle=True),
    )
    criterion = nn.CrossEntropyLoss()

    def epoch(number: int) -> float:
        model.train()
        total = torch.zeros(2)
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), target)
            accelerator.backward(loss)
            optimizer.step()
            total += torch.tensor([loss.detach() * len(inputs), len(inputs)])
        total = accelerator.reduce(total)
        return float(total[0] / total[1])

    return timed(epoch, workload.epochs)


WAYS: dict[str, Callable[[Workload, int], list[float]]] = {
    "by hand": by_hand,
    "itwinai": itwinai_trainer,
    "Fabric": fabric,
    "Accelerate": accelerate,
}


if __name__ == "__main__":
    main()
