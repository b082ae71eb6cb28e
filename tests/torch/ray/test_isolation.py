"""Trials share nothing: in a warm process each finds what the first one found."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import pickle
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from small_trainings import make_data, options
from torch.utils.data import Dataset

from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.record import StudyResult
from itwinai.hpo.retraining import rerun
from itwinai.torch.trainer import RayTorchTrainer

TRIALS = 3

#: Of the users' own programs: lives as long as a process.
SEEN: list[int] = []


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_cluster():
        yield


class Changing(Dataset):  # type: ignore[type-arg]
    """Augments in place, and counts."""

    def __init__(self) -> None:
        self.tensor = torch.ones(16, 4)
        self.view = self.tensor[8:]
        self.array = np.ones((16, 1024), np.float32)
        self.reads = 0
        self.order: list[int] = []
        self.cache: dict[int, Any] = {}

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        self.order.append(index)
        self.tensor[index] += 1
        self.array[index] *= 2
        self.cache[index] = self.array[index]
        return self.tensor[index].clone(), torch.tensor(index % 2)

    def state(self) -> list[Any]:
        total = float(self.tensor.sum())
        sums = [total, float(self.view.sum()), float(self.array.sum())]
        return [*sums, self.reads, len(self.order), len(self.cache)]


class Counting:
    """A metric with a state."""

    def __init__(self) -> None:
        self.batches = 0

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        return torch.tensor(float(self.batches))


def state_of_process() -> dict[str, Any]:
    """All that a trial can change in its process and that is put back."""
    cudnn = torch.backends.cudnn
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()
    return {
        "generators": hashlib.sha256(pickle.dumps(generators)).hexdigest(),
        "dtype": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "cudnn": [cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32],
        "precision": [torch.get_float32_matmul_precision(), torch.backends.fp32_precision],
        "anomaly": torch.is_anomaly_enabled(),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "logging": [
            (logger.level, logger.propagate, logger.disabled, len(logger.handlers))
            for logger in (logging.root, logging.getLogger("itwinai"))
        ],
        "below which nobody logs": logging.root.manager.disable,
        "warnings": [repr(rule) for rule in warnings.filters],
        "gc": gc.isenabled(),
    }


def change_process(folder: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn = torch.backends.cudnn
    cudnn.benchmark = not cudnn.benchmark
    cudnn.deterministic = not cudnn.deterministic
    cudnn.allow_tf32 = not cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    torch.backends.fp32_precision = "tf32"
    torch.autograd.set_detect_anomaly(True)
    os.environ["OF_A_TRIAL"] = "set"
    os.environ.pop("LANG", None)
    os.environ["PATH"] += ":/of/a/trial"
    sys.path.insert(0, "/of/a/trial")
    logging.root.setLevel(logging.DEBUG)
    logging.root.addHandler(logging.NullHandler())
    ours = logging.getLogger("itwinai")
    ours.setLevel(logging.ERROR)
    ours.addHandler(logging.NullHandler())
    ours.propagate, ours.disabled = not ours.propagate, True
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    gc.disable()
    os.chdir(folder)


class Finding(RayTorchTrainer):
    """Writes down what a trial finds at its begin, and leaves all of it changed."""

    def load_checkpoint(self) -> None:
        """The first step of a training, before anything is seeded."""
        super().load_checkpoint()
        self.found = {"process": state_of_process(), "folder": str(Path.cwd())}

    def train(self) -> None:
        dataset = self.train_dataloader.dataset
        self.found |= {"data": dataset.state(), "pid": os.getpid()}
        name = f"found-{self.strategy.global_rank()}.json"
        folder = Path(self.checkpoints_location)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(self.found))
        super().train()
        assert dataset.state() != self.found["data"]
        change_process(folder)


class Leaving(RayTorchTrainer):
    """Leaves something where nobody can put it back."""

    calls: ClassVar[list[int]] = []
    best: ClassVar[float | None] = None

    def train_epoch(self) -> Any:
        if self.current_epoch == 0:
            self.calls.append(1)
            SEEN.extend([1] * 50)
            type(self).best = 1.0
        return super().train_epoch()


class Loading(RayTorchTrainer):
    """Tells whether its process loads parts of PyTorch only when a trial has begun."""

    def create_dataloaders(self, *datasets: Any) -> None:
        self.loads_late = float("torch._dynamo" not in sys.modules)
        super().create_dataloaders(*datasets)

    def validation_epoch(self) -> Any:
        self.epoch_metrics["loads_late"] = self.loads_late
        return super().validation_epoch()


def study_of(folder: Path, kind: type[RayTorchTrainer], **study: Any) -> RayTorchTrainer:
    settings = {
        "storage_path": folder / "studies",
        "metric": "validation_loss",
        "mode": "min",
        "num_samples": TRIALS,
        "algorithm": "random",
        "scheduler": "none",
        "seed": 1,
        "max_concurrent_trials": 1,
        "resources_per_worker": {"CPU": 0.5},
        "keep_checkpoints": "all",
    }
    config = {"dist_backend": "gloo"}
    return kind(
        **options(folder, config=config, metrics={"count": Counting()}, epochs=2),
        search_space={"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.3}},
        study=settings | study,
    )


def run(trainer: RayTorchTrainer, *datasets: Any) -> StudyResult:
    trainer.execute(*datasets)
    assert trainer.study_result is not None
    assert {trial.state.value for trial in trainer.study_result.trials} == {"completed"}
    return trainer.study_result


@dataclass(frozen=True)
class Found:
    """A study, and what each of its trials found, by rank."""

    result: StudyResult
    ranks: list[list[dict[str, Any]]]


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("found")
    dataset, workers = Changing(), request.param
    trainer = study_of(folder, Finding, workers_per_trial=workers)
    result = run(trainer, dataset, dataset)
    assert dataset.state() == Changing().state()
    trials = [folder / f"studies/study/trials/{number:05d}" for number in range(TRIALS)]
    names = [f"found-{rank}.json" for rank in range(workers)]
    ranks = [[json.loads((trial / name).read_text()) for trial in trials] for name in names]
    return Found(result, ranks)


def test_all_trials_ran_in_the_same_processes(found: Found) -> None:
    for rank in found.ranks:
        assert len({trial["pid"] for trial in rank}) == 1


def test_each_trial_finds_the_data_as_it_was(found: Found) -> None:
    for rank in found.ranks:
        assert [trial["data"] for trial in rank] == [[64.0, 32.0, 16.0 * 1024, 0, 0, 0]] * TRIALS


def test_each_trial_finds_a_metric_that_has_counted_nothing(found: Found) -> None:
    for trial in found.result.trials:
        assert [metrics["train_count"] for metrics in trial.history] == [1, 2]


def test_each_trial_finds_the_process_as_the_first_one_did(found: Found) -> None:
    for first, *others in found.ranks:
        for other in others:
            for name, value in first["process"].items():
                if name != "environment":
                    assert (name, other["process"][name]) == (name, value)
            before, now = first["process"]["environment"], other["process"]["environment"]
            # Each trial of several processes has a port of its own.
            differing = {key for key in before | now if before.get(key) != now.get(key)}
            assert differing <= {"MASTER_PORT"}


def test_no_trial_begins_where_another_went(found: Found) -> None:
    for rank in found.ranks:
        assert not [trial["folder"] for trial in rank if "/trials/" in trial["folder"]]


def test_what_a_class_or_a_module_keeps_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(study_of(tmp_path, Leaving), make_data(), make_data())
    kept = (
        "warning: trial 0 has changed Leaving.best, Leaving.calls, test_isolation.SEEN, which keep "
        "their values for later trials in the same process. Set fresh_processes: true in the study "
        "if they must not see it."
    )
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert said == [kept]
    logs = sorted(tmp_path.glob("studies/study/trials/*/log.txt"))
    assert [(log.parent.name, log.read_text()) for log in logs] == [("00001", f"{kept}\n")]


def test_a_trial_that_changed_its_data_is_repeated_to_the_last_bit(tmp_path: Path) -> None:
    dataset = Changing()
    trainer = study_of(tmp_path, RayTorchTrainer)
    result = run(trainer, dataset, dataset)
    for trial in range(TRIALS):
        assert rerun(trainer, (dataset, dataset, None), result, trial).differing == ()
    assert dataset.state() == Changing().state()


def test_no_part_of_pytorch_is_loaded_in_a_trials_time(tmp_path: Path) -> None:
    trainer = study_of(tmp_path, Loading, num_samples=1, report_timeout_s=60)
    (trial,) = run(trainer, make_data(20), make_data(20)).trials
    assert trial.history[0]["loads_late"] == 0.0
