"""What programs of itwinai 0.4 see of Ray: its strategies, and the results of a study."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from itwinai.hpo.engine import ray_cluster
from itwinai.torch.distributed import (
    RayDDPStrategy,
    RayDeepSpeedStrategy,
    RayTorchDistributedStrategy,
    TorchDDPStrategy,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


# First, because the others start Ray.
def test_a_strategy_of_ray_needs_a_cluster(monkeypatch):
    monkeypatch.setattr("itwinai.distributed.ray_cluster_is_running", lambda: False)
    with pytest.raises(RuntimeError, match="ray start --head"):
        RayDDPStrategy()
    assert issubclass(RayDDPStrategy, TorchDDPStrategy)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("make", [RayDDPStrategy, RayDeepSpeedStrategy])
def test_a_strategy_of_ray_has_its_package_and_travels(make):
    strategy = make()
    assert strategy.ray_train.torch.TorchTrainer.__module__.startswith("ray.train")
    assert isinstance(copy.deepcopy(strategy), RayTorchDistributedStrategy)
    assert pickle.loads(pickle.dumps(strategy)).name == strategy.name
