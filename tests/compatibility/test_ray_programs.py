"""What programs of itwinai 0.4 see of Ray: its strategies, and the results of a study."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from torch import nn
from torch.utils.data import TensorDataset

from itwinai.hpo.engine import ray_cluster
from itwinai.torch.distributed import (
    FSDPStrategy,
    NonDistributedStrategy,
    RayDDPStrategy,
    RayDeepSpeedStrategy,
    RayTorchDistributedStrategy,
    TorchDDPStrategy,
)
from itwinai.torch.trainer import TorchTrainer

#: The default's, and those that are searched.
RATES = [1e-3, 0.1, 0.01, 50.0]
DATA = (TensorDataset(torch.ones(8, 1), torch.ones(8, 1)),) * 2


class Failing(TorchTrainer):
    """One of the rates is refused."""

    def train_epoch(self) -> Any:
        if self.config.optim_lr == 50.0:
            raise ValueError("too large")
        return super().train_epoch()


def trainer(kind: type[TorchTrainer] = TorchTrainer, **options: Any) -> TorchTrainer:
    config = {"batch_size": 4, "num_workers_dataloader": 0, "loss": "mse", "optimizer": "sgd"}
    torch.manual_seed(0)
    return kind({**config, "optim_momentum": 0.0}, 2, nn.Linear(1, 1), **options)


def with_search(folder: Path, **options: Any) -> TorchTrainer:
    return trainer(
        Failing,
        ray_tune_config=tune.TuneConfig(metric="loss", mode="min"),
        ray_run_config=tune.RunConfig(storage_path=str(folder), name="mine"),
        ray_search_space={"optim_lr": {"grid_search": RATES[1:]}},
        **options,
    )


# -- without a cluster, so first: the others start one ---------------------------------------------


@pytest.fixture
def no_cluster(monkeypatch):
    monkeypatch.setattr("itwinai.distributed.ray_cluster_is_running", lambda: False)


@pytest.mark.usefixtures("no_cluster")
def test_a_trainers_strategy_is_an_object_from_the_beginning(tmp_path, monkeypatch):
    alone = trainer(checkpoints_location=tmp_path)
    strategy = alone.strategy
    assert isinstance(strategy, NonDistributedStrategy)
    assert not strategy.is_initialized
    alone.execute(*DATA)
    assert alone.strategy is strategy  # a program may hold it, and uses the one that trained
    assert isinstance(trainer(strategy=None).strategy, NonDistributedStrategy)
    assert isinstance(with_search(tmp_path).strategy, NonDistributedStrategy)
    monkeypatch.setenv("ITWINAI_FORCE_DIST", "1")
    assert isinstance(trainer().strategy, TorchDDPStrategy)
    own = TorchDDPStrategy("gloo")
    assert trainer(strategy=own).strategy is own


@pytest.mark.usefixtures("no_cluster")
def test_a_strategy_can_be_set(monkeypatch):
    one = trainer()
    with pytest.raises(ValueError, match="did you mean 'fsdp'"):
        one.strategy = "fsd"
    monkeypatch.setenv("ITWINAI_FORCE_DIST", "1")
    one.strategy = "fsdp"
    assert isinstance(one.strategy, FSDPStrategy)
    one.strategy = None
    assert isinstance(one.strategy, NonDistributedStrategy)


@pytest.mark.usefixtures("no_cluster")
def test_a_strategy_of_ray_needs_a_cluster():
    with pytest.raises(RuntimeError, match="ray start --head"):
        RayDDPStrategy()
    assert issubclass(RayDDPStrategy, TorchDDPStrategy)


# -- with one -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("make", [RayDDPStrategy, RayDeepSpeedStrategy])
def test_a_strategy_of_ray_has_its_package_and_travels(make):
    strategy = make()
    assert strategy.ray_train.torch.TorchTrainer.__module__.startswith("ray.train")
    assert isinstance(copy.deepcopy(strategy), RayTorchDistributedStrategy)
    assert pickle.loads(pickle.dumps(strategy)).name == strategy.name


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> TorchTrainer:
    searched = with_search(tmp_path_factory.mktemp("study"))
    assert searched.tune_result_grid is None
    assert isinstance(searched.strategy, RayDDPStrategy)
    searched.execute(*DATA)
    return searched


@pytest.mark.usefixtures("cluster")
def test_a_trainers_strategy_is_rays_where_a_cluster_and_rays_arguments_are(tmp_path):
    assert isinstance(with_search(tmp_path, strategy="deepspeed").strategy, RayDeepSpeedStrategy)
    assert isinstance(with_search(tmp_path, strategy=None).strategy, NonDistributedStrategy)
    assert isinstance(trainer().strategy, NonDistributedStrategy)


def test_the_best_result_is_the_studys(searched):
    grid = searched.tune_result_grid
    best = grid.get_best_result()
    assert best.trial is searched.study_result.best
    assert grid.get_best_result("loss", "min").trial is best.trial
    assert best.config == {"train_loop_config": {"optim_lr": 0.1}}
    assert best.metrics["loss"] == best.metrics["validation_loss"]
    assert best.metrics["training_iteration"] == 2
    assert (best.metrics["config"], best.error) == (best.config, None)
    assert list(best.metrics_dataframe["training_iteration"]) == [1, 2]
    with best.checkpoint.as_directory() as folder:
        assert set(torch.load(Path(folder) / "model.pt", weights_only=True)) == {"weight", "bias"}
    assert best.best_checkpoints[0][1]["loss"] == best.metrics["loss"]
    assert Path(best.path).is_relative_to(grid.experiment_path)
    assert Path(best.checkpoint.path).is_relative_to(best.path)


def test_results_can_be_counted_and_gone_through(searched):
    grid = searched.tune_result_grid
    assert len(grid) == len(RATES)
    assert [result.config["train_loop_config"]["optim_lr"] for result in grid] == RATES
    (error,) = grid.errors
    assert "too large" in str(error)
    assert (grid.num_errors, grid.num_terminated, grid[3].error is None) == (1, 3, False)
    assert grid[3].metrics_dataframe.empty
    assert grid[3].checkpoint is None


@pytest.mark.parametrize("scope", ["last", "all", "avg", "last-5-avg", "last-10-avg"])
def test_the_best_by_another_measure(searched, scope):
    grid = searched.tune_result_grid
    worst = grid.get_best_result("train_loss", "max", scope)
    assert worst.config["train_loop_config"]["optim_lr"] == 1e-3
    assert grid.get_best_result("train_loss", "min", scope).trial.params["optim_lr"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("train_loss",), ValueError, "mode=None: must be one of min, max"),
        (("loss", "least"), ValueError, "mode='least'"),
        (("loss", "min", "first"), ValueError, "scope='first'.*last-5-avg"),
        (("nothing", "min"), RuntimeError, "no trial has reported 'nothing'"),
    ],
)
def test_a_best_result_that_cannot_be(searched, arguments, error, words):
    with pytest.raises(error, match=words):
        searched.tune_result_grid.get_best_result(*arguments)


def test_a_table_of_all_results(searched):
    grid = searched.tune_result_grid
    table = grid.get_dataframe()
    assert list(table["config/train_loop_config/optim_lr"]) == RATES
    assert list(table["loss"].isna()) == [False, False, False, True]
    first = grid.get_dataframe(filter_metric="loss", filter_mode="max")
    assert first["training_iteration"][0] == 1
    assert table["training_iteration"][0] == 2
