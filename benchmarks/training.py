"""What a training costs beyond the loop that one would write by hand.

The same model on the same data: a loop of PyTorch written by hand, itwinai's ``TorchTrainer``,
Lightning Fabric and Hugging Face Accelerate. itwinai's Adam makes its step in one fused kernel, so
the loop by hand runs with such a one as well. They take turns in one process (or one group of two),
epoch by epoch, and all sum up the mean loss of the epoch. A ratio is the median over all rounds of
an epoch's time by that of the hand-written loop in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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
WARM_UP = 2  # rounds of each start that are not counted
STARTS = 4  # of the processes: where each way's model lies in memory is drawn anew

# The C library keeps freed memory: otherwise a large model's time is mostly the kernel's, which
# clears new pages for the gradients of each step, and varies from one minute to the next.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(32 * 2**30)}

Epoch = Callable[[int], float]


@dataclass
class Workload:
    """A model, its data, and how often each way trains it for an epoch."""

    model: Callable[[], nn.Module]
    data: Dataset[Any]
    batch: int
    rounds: int  # of each start


def digits() -> Workload:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return Workload(_cnn, TensorDataset(pixels, torch.tensor(labels)), batch=64, rounds=40)


def large() -> Workload:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 1024, generator=generator)
    targets = torch.randint(10, (32,), generator=generator)
    return Workload(_mlp, TensorDataset(inputs, targets), batch=32, rounds=15)


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
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(WORKLOADS[options.worker](), options.json)
        return
    figures = [
        {"workload": name, "ranks": ranks, **measured(name, ranks)}
        for name in WORKLOADS
        for ranks in (1, 2)
    ]
    if options.json is not None:
        head = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}",
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES},
        }
        options.json.write_text(json.dumps({**head, "figures": figures}, indent=2) + "\n")


def measured(workload: str, ranks: int) -> dict[str, Any]:
    """Seconds per epoch of each way, and their ratios to the hand-written loop's."""
    times: dict[str, list[float]] = {}
    for _ in range(STARTS):
        for way, seconds in one_start(workload, ranks).items():
            times.setdefault(way, []).extend(seconds)
    by_hand = times["by hand"]
    figures = {
        "rounds": len(by_hand),
        "seconds": {way: median(values) for way, values in times.items()},
        "ratio": {
            way: median(v / h for v, h in zip(values, by_hand, strict=True))
            for way, values in times.items()
        },
    }
    show(workload, ranks, figures)
    return figures


def one_start(workload: str, ranks: int) -> dict[str, list[float]]:
    """Seconds of each epoch of each way, in new processes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "times.json")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        subprocess.run(
            [
                *(sys.executable, *(launcher if ranks > 1 else [])),
                *(str(Path(__file__).resolve()), "--worker", workload),
                *("--json", str(file)),
            ],
            check=True,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **KEEP_MEMORY},
        )
        times: dict[str, list[float]] = json.loads(file.read_text())
    return times


def show(workload: str, ranks: int, figures: dict[str, Any]) -> None:
    print(f"{workload}, {ranks} rank(s), {figures['rounds']} rounds")
    for way, seconds in figures["seconds"].items():
        print(f"  {way:14} {seconds:8.4f} s per epoch   {figures['ratio'][way]:.3f}", flush=True)


# -- in the processes that train ---------------------------------------------------------------


def work(workload: Workload, file: Path) -> None:
    """Let the ways take turns; rank 0 writes the seconds of each epoch.

    That happens within itwinai's training, whose processes work together already.
    """
    from itwinai.torch.trainer import TorchTrainer

    class Host(TorchTrainer):
        def train(self) -> None:
            def epoch(number: int) -> float:
                self.current_epoch = number
                self.set_epoch()
                return float(self.train_epoch())

            ranks = self.strategy.global_world_size()
            ways = {"by hand": by_hand(workload, ranks), "itwinai": epoch}
            ways |= {"by hand, fused": by_hand(workload, ranks, fused=True)}
            ways |= {"Fabric": fabric(workload, ranks), "Accelerate": accelerate(workload)}
            times = take_turns(ways, workload.rounds)
            if self.strategy.is_main_worker:
                file.write_text(json.dumps(times))

    trainer = Host(
        config={
            "batch_size": workload.batch,
            "shuffle_train": True,
            "num_workers_dataloader": 0,
            "dist_backend": "gloo",
        },
        epochs=workload.rounds,
        model=workload.model(),
    )
    trainer.train_in_this_process(workload.data, None, None)


def take_turns(ways: dict[str, Epoch], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way's epochs, the first rounds' left out."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    shuffled = random.Random(0)  # the same order on all ranks
    for number in range(rounds + WARM_UP):
        # Each one finds the caches as the one before it left them.
        for way in shuffled.sample(list(ways), len(ways)):
            began = time.perf_counter()
            ways[way](number)
            if number >= WARM_UP:
                times[way].append(time.perf_counter() - began)
    return times


def by_hand(workload: Workload, ranks: int, fused: bool | None = None) -> Epoch:
    model = workload.model()
    if ranks > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
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

    return epoch


def fabric(workload: Workload, ranks: int) -> Epoch:
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

    return epoch


def accelerate(workload: Workload) -> Epoch:
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

    return epoch


if __name__ == "__main__":
    main()
