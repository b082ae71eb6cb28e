"""Each strategy keeps all rules with two real processes, and the rules find a broken one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from itwinai.errors import CheckpointError, ConfigurationError
from itwinai.testing.strategies import BrokenRuleError, check_strategy
from itwinai.torch.checkpoints.sharded import merge_shards, read_model, write_shards
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.distributed import (
    STRATEGIES,
    DeepSpeedStrategy,
    DistributedStrategyError,
    FSDPStrategy,
    HorovodStrategy,
    NonDistributedStrategy,
    TorchDDPStrategy,
    resolve_strategy,
)
from itwinai.torch.strategies.fsdp import _blocks


def test_a_single_process_keeps_all_rules():
    check_strategy(NonDistributedStrategy, world_size=1)


@pytest.mark.parametrize("strategy", [TorchDDPStrategy, FSDPStrategy])
def test_strategies_of_pytorch_keep_all_rules(strategy):
    check_strategy(strategy)


@pytest.mark.parametrize(
    "stage",
    [
        0,
        pytest.param(1, marks=pytest.mark.exhaustive),
        pytest.param(2, marks=pytest.mark.exhaustive),
        3,
    ],
)
def test_deepspeed_keeps_all_rules(stage):
    pytest.importorskip("deepspeed")
    check_strategy(DeepSpeedStrategy, config={"deepspeed": {"zero_optimization": {"stage": stage}}})


class Unaveraged(TorchDDPStrategy):
    """Each rank trains for itself."""

    def distributed(self, model, optimizer, lr_scheduler=None, **kwargs):
        wrapped, optimizer, lr_scheduler = super().distributed(model, optimizer, lr_scheduler)
        wrapped.register_comm_hook(None, own_gradient)
        return wrapped, optimizer, lr_scheduler


def own_gradient(state, bucket):
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


class Unclipped(NonDistributedStrategy):
    def clip_gradients(self, model, max_norm):
        pass


class Prefixed(NonDistributedStrategy):
    def model_state(self, model):
        return {f"module.{name}": value for name, value in super().model_state(model).items()}


class Dying(TorchDDPStrategy):
    def barrier(self):
        if self.is_initialized and self.global_rank() == 1:
            os._exit(3)
        super().barrier()


@pytest.mark.parametrize(
    ("strategy", "world_size", "rule"),
    [
        (Unaveraged, 2, "trains as a single process"),
        (Dying, 2, "collectives"),
        (Unclipped, 1, "clips as a single process"),
        (Prefixed, 1, "all ranks begin with the weights of rank 0"),
    ],
)
def test_a_broken_strategy_is_found_and_its_rule_named(strategy, world_size, rule):
    with pytest.raises(BrokenRuleError, match=f"breaks the rule '{rule}'") as found:
        check_strategy(strategy, world_size)
    assert found.value.rule == rule


def test_processes_that_the_data_cannot_be_dealt_out_to_are_refused():
    with pytest.raises(ValueError, match="world_size=7"):
        check_strategy(NonDistributedStrategy, world_size=7)


def test_a_process_group_that_is_there_is_used_and_left_alone(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        strategy = TorchDDPStrategy()
        strategy.init()
        assert strategy.allgather_obj("here") == ["here"]
        strategy.clean_up()
        assert dist.is_initialized()
        assert not strategy.is_initialized
    finally:
        dist.destroy_process_group()


SEVERAL_TRAININGS = """
import atexit
import os
import time


def tell_threads():
    until = time.monotonic() + 10  # one that was joined is listed for a moment more
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
        pass
    os.write(1, b"threads: %d " % len(os.listdir("/proc/self/task")))  # at once


atexit.register(tell_threads)

import torch

from itwinai.torch.distributed import TorchDDPStrategy


def train(number):
    strategy = TorchDDPStrategy("gloo")
    strategy.init()
    assert strategy.allgather_obj(number) == [number, number]
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters())
    model, _, _ = strategy.distributed(model, optimizer)
    model(torch.ones(3, 2)).sum().backward()
    strategy.clean_up()


for number in range(3):
    train(number)
"""


def test_several_trainings_of_one_program_meet_anew_and_leave_no_thread(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SEVERAL_TRAININGS)
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, "-m", *launcher, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["threads:", "1"] * 2


def test_processes_that_cannot_meet_are_told_what_to_set(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DistributedStrategyError, match="MASTER_ADDR"):
        TorchDDPStrategy().init()


def test_names(monkeypatch):
    monkeypatch.setenv("ITWINAI_FORCE_DIST", "1")
    config = TrainingConfiguration(dist_backend="gloo")
    made = {name: resolve_strategy(name, config) for name in STRATEGIES}
    assert {name: type(strategy) for name, strategy in made.items()} == {
        "ddp": TorchDDPStrategy,
        "fsdp": FSDPStrategy,
        "deepspeed": DeepSpeedStrategy,
    }
    assert all(strategy.backend == "gloo" for strategy in made.values())


def test_horovod_is_refused_with_what_to_use_instead():
    with pytest.raises(ConfigurationError, match=r"left out.*Use 'ddp'"):
        resolve_strategy("horovod", TrainingConfiguration())
    with pytest.raises(ConfigurationError, match=r"left out.*Use 'ddp'"):
        HorovodStrategy()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(3, 3), nn.Linear(3, 3)
        self.out.weight = self.into.weight
        self.middle = nn.ModuleList([nn.Tanh(), nn.Linear(3, 3)])


def test_weights_come_and_go_by_child_but_tied_ones_with_the_whole_model():
    model = Tied()
    assert _blocks(model, None) == [model.middle[1]]
    assert _blocks(model, [nn.Linear]) == [model.into, model.out, model.middle[1]]


# -- DeepSpeed's configuration ---------------------------------------------------------------------


def options(**values):
    return DeepSpeedStrategy("gloo").default_options(TrainingConfiguration(**values))["config"]


def test_deepspeed_follows_the_training_s_configuration():
    assert options(batch_size=8) == {
        "zero_optimization": {"stage": 1},
        "train_micro_batch_size_per_gpu": 8,
    }
    assert options(precision="bf16")["torch_autocast"]["dtype"] == "bfloat16"
    assert options(precision="fp16")["fp16"]["enabled"] is True


def test_deepspeed_s_own_configuration_wins_from_a_mapping_or_a_file(tmp_path):
    own = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 2}
    file = tmp_path / "deepspeed.json"
    file.write_text('{"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 2}')
    assert options(batch_size=8, deepspeed=own) == own
    assert options(batch_size=8, deepspeed=str(file)) == own
    with pytest.raises(ConfigurationError, match="no readable JSON"):
        options(deepspeed=str(tmp_path / "absent.json"))


def test_what_deepspeed_asks_for_and_does_not_get_is_told(capsys):
    options(deepspeed={"train_micro_batch_size_per_gpu": 32, "optimizer": {}})
    assert "warning" not in capsys.readouterr().out
    optimizer = {"type": "SGD", "params": {"lr": 0.5}}
    options(deepspeed={"train_micro_batch_size_per_gpu": 8, "optimizer": optimizer})
    told = capsys.readouterr().out
    assert "optimizer has no effect: the optimizer is the training's, optimizer='adam'" in told
    assert "per_gpu=8 makes no batches of this size: they are the training's, batch_size=3" in told
    with pytest.raises(ConfigurationError, match=r"deepspeed.scheduler: .* set lr_scheduler"):
        options(deepspeed={"scheduler": {"type": "WarmupLR"}})


# -- shards ----------------------------------------------------------------------------------------


def test_shards_of_another_model_or_none_are_refused(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    write_shards(tmp_path / "shards", model.state_dict(), optimizer.state_dict())
    with pytest.raises(RuntimeError, match=r"missing in it: \['0.bias', '0.weight'\]"):
        read_model(tmp_path / "shards", nn.Sequential(model).state_dict())
    with pytest.raises(RuntimeError, match=r"weight has shape \(2, 3\)"):
        read_model(tmp_path / "shards", nn.Linear(4, 2).state_dict())
    with pytest.raises(CheckpointError, match="there are no shards here"):
        merge_shards(tmp_path)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_shards_run_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    write_shards(tmp_path / "shards", model.state_dict(), optimizer.state_dict())
    assert merge_shards("shards")[0].keys() == {"weight", "bias"}
    (tmp_path / "shards/.metadata").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match="does not belong in it"):
        merge_shards("shards")
    assert not (tmp_path / "harm").exists()


def test_a_shard_that_is_missing_is_noticed(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    write_shards(tmp_path, model.state_dict(), optimizer.state_dict())
    for file in tmp_path.glob("*.distcp"):
        file.unlink()
    with pytest.raises(CheckpointError, match="not whole shards"):
        merge_shards(tmp_path)
