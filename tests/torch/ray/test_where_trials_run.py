"""A trial works where the program works: what is relative there means the same in each process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from small_trainings import make_data, options
from torch.utils.data import Dataset

from itwinai.hpo.engine import check_nodes, ray_cluster
from itwinai.hpo.errors import StudyError
from itwinai.hpo.retraining import rerun
from itwinai.loggers import TensorBoardLogger
from itwinai.torch.trainer import RayTorchTrainer


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_cluster():
        yield


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program works in a folder of its own, which Ray has never seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


class Files(Dataset):  # type: ignore[type-arg]
    """Samples in files that are named by relative paths, and read when they are asked for."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(os.path.join(folder, name) for name in os.listdir(folder))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return torch.load(self.paths[index])


class Noting(RayTorchTrainer):
    """Writes down where each process of a trial works, under a relative name."""

    def train(self) -> None:
        name = f"{Path(self.checkpoints_location).name}-{self.strategy.global_rank()}.json"
        Path("seen", name).write_text(json.dumps(os.getcwd()))
        super().train()
        os.chdir("/")  # the next one is not to begin there


class Writing(RayTorchTrainer):
    """Writes under one relative name in each trial, or into the trial's own folder."""

    def train_epoch(self) -> Any:
        folder = self.run_directory if self.config.own else Path()
        torch.save({"epoch": self.current_epoch}, folder / "best.pt")
        with open(folder / "log.csv", "a") as file:
            file.write(f"{self.current_epoch}\n")
        return super().train_epoch()


def study_of(kind: type[RayTorchTrainer], **changes: Any) -> RayTorchTrainer:
    study = {
        "name": "where",
        "mode": "min",
        "num_samples": 3,
        "algorithm": "random",
        "scheduler": "none",
        "max_concurrent_trials": 1,
        "resources_per_worker": {"CPU": 0.5},
    } | changes.pop("study", {})
    return kind(
        **options(Path("out"), epochs=1, metrics=None, **changes),
        search_space={"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.3}},
        study=study,
    )


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
def test_relative_paths_mean_the_same_in_each_process(workers: int) -> None:
    Path("seen").mkdir()
    Path("samples").mkdir()
    data = make_data(8)
    for index in range(8):
        torch.save(data[index], f"samples/{index}.pt")
    files = Files("samples")
    settings = {"workers_per_trial": workers}
    trainer = study_of(
        Noting, study=settings, config={"dist_backend": "gloo"}, logger=TensorBoardLogger()
    )
    trainer.execute(files, files)
    assert trainer.study_result is not None
    assert [t.state.value for t in trainer.study_result.trials] == ["completed"] * 3
    places = [json.loads(path.read_text()) for path in Path("seen").iterdir()]
    assert places == [os.getcwd()] * 3 * workers
    events = Path("mllogs", "tensorboard").rglob("events.out.tfevents.*")
    assert len({event.parent for event in events}) == 3
    if workers == 1:
        check_rerun(trainer, files)


def check_rerun(trainer: RayTorchTrainer, files: Files) -> None:
    """A rerun works there, too."""
    here, notes = os.getcwd(), len(os.listdir("seen"))
    assert trainer.study_result is not None
    rerun(trainer, (files, files, None), trainer.study_result, seeds=1)
    os.chdir(here)
    assert len(os.listdir("seen")) == notes + 1
    assert {json.loads(path.read_text()) for path in Path("seen").iterdir()} == {here}


def test_a_name_that_two_trials_write_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    trainer = study_of(Writing, config={"own": False})
    trainer.execute(make_data(), make_data())
    said = [line for line in capfd.readouterr().out.splitlines() if "the same file" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: trials 0 and 1 write the same file, ")
    assert os.path.join(os.getcwd(), "best.pt") in said[0]
    assert "self.run_directory" in said[0]


def test_what_is_written_to_the_trials_own_folder_is_kept(
    capfd: pytest.CaptureFixture[str],
) -> None:
    trainer = study_of(Writing, config={"own": True})
    trainer.execute(make_data(), make_data())
    assert "the same file" not in capfd.readouterr().out
    trials = Path("studies", "where", "trials")
    for number in range(3):
        assert torch.load(trials / f"{number:05d}" / "best.pt") == {"epoch": 0}
        assert (trials / f"{number:05d}" / "log.csv").read_text() == "0\n"


def test_a_node_without_the_folder_is_named() -> None:
    here, storage = os.getcwd(), Path("studies").absolute()
    check_nodes("/not/on/this/machine", storage)  # of one node, it is the program's own
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address)
        check_nodes(here, storage)
        assert not storage.exists()
        with pytest.raises(StudyError, match="/not/on/this/machine, where this program works"):
            check_nodes("/not/on/this/machine", storage)
        storage.touch()
        with pytest.raises(StudyError, match=r"cannot hold records .* on .*: Not a directory"):
            check_nodes(here, storage)
    finally:
        ray.shutdown()
        cluster.shutdown()
