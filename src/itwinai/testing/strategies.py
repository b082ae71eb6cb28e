"""What every strategy must do, proved in real processes.

One line proves a strategy, in a script or a test::

    check_strategy(MyStrategy, world_size=2)

Each rule is a function below. It runs in every process, with a :class:`Bench` that makes models,
data and the results of a single process to compare with.
"""

from __future__ import annotations

import copy
import io
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from itertools import pairwise
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR

from itwinai.io.files import write_text
from itwinai.torch.checkpoints.sharded import merge_shards
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.strategies.base import NonDistributedStrategy, TorchDistributedStrategy
from itwinai.torch.type import DistributedStrategyError, UninitializedStrategyError

Factory = Callable[[], TorchDistributedStrategy]

#: Samples of one step of all ranks together; any world size up to 6 divides it.
_GLOBAL_BATCH = 60
_STEPS = 3


class BrokenRuleError(AssertionError):
    """A strategy breaks a rule.

    Attributes:
        rule: The rule's name.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"the strategy breaks the rule '{rule}': {reason}")
        self.rule = rule


def check_strategy(
    factory: Factory,
    world_size: int = 2,
    config: Mapping[str, Any] | None = None,
    tolerance: float = 1e-5,
    timeout: float = 300,
) -> list[str]:
    """Prove that a strategy keeps all rules.

    It must train as a single process does with the same samples in a step, whatever it does inside.

    Args:
        factory: Returns a new strategy; a class, a function of a module, or a ``partial`` of them,
            because it is sent to new processes.
        world_size: Number of processes; a divisor of 60.
        config: Training configuration for ``default_options()``, such as DeepSpeed's.
        tolerance: Largest difference of a weight from that of a single process.
        timeout: Seconds after which processes that do not end are given up.

    Returns:
        The names of the rules that were checked.

    Raises:
        BrokenRuleError: For the first rule that is broken.
    """
    if _GLOBAL_BATCH % world_size:
        raise ValueError(f"world_size={world_size}: must divide {_GLOBAL_BATCH}")
    with tempfile.TemporaryDirectory(prefix="itwinai-") as folder:
        ports = [_free_port() for _ in range(2)]
        context = multiprocessing.get_context("spawn")
        arguments = (factory, dict(config or {}), tolerance, world_size, ports, folder)
        processes = [context.Process(target=_run, args=(r, *arguments)) for r in range(world_size)]
        for process in processes:
            process.start()
        failed = _wait_for(processes, timeout)
        reports = [_read_report(Path(folder), rank) for rank in range(world_size)]
    if failed is not None:
        own = reports[failed]
        reason = own.get("reason", f"rank {failed} did not end within {timeout:.0f} s, or died")
        raise BrokenRuleError(own.get("rule", "the processes start"), reason)
    return [str(rule) for rule in reports[0]["done"]]


# -- the rules -------------------------------------------------------------------------------------


def nothing_works_before_init(bench: Bench) -> None:
    """Ranks and collectives raise UninitializedStrategyError before ``init()``."""
    if not bench.strategy.is_distributed:
        return
    uses: tuple[Callable[[], Any], ...] = (
        bench.strategy.global_rank,
        bench.strategy.global_world_size,
        bench.strategy.local_rank,
        bench.strategy.barrier,
        lambda: bench.strategy.allgather_obj(1),
        lambda: bench.strategy.broadcast_obj(1, 0),
        lambda: bench.distribute(_sgd),
    )
    for use in uses:
        _must_raise(UninitializedStrategyError, use, f"{use} before init()")


def init_twice_is_refused(bench: Bench) -> None:
    """The second ``init()`` raises DistributedStrategyError."""
    bench.strategy.init()
    _must(bench.strategy.is_initialized, "is_initialized is False after init()")
    _must_raise(DistributedStrategyError, bench.strategy.init, "a second init()")


def ranks_and_sizes(bench: Bench) -> None:
    """Ranks count from 0, and sizes are those of the launcher."""
    strategy, size = bench.strategy, bench.world_size
    _must_equal(strategy.global_world_size(), size, "global_world_size()")
    _must_equal(strategy.local_world_size(), size, "local_world_size()")
    _must_equal(strategy.global_rank(), bench.rank, "global_rank()")
    _must_equal(strategy.local_rank(), bench.rank, "local_rank()")
    _must_equal(strategy.is_main_worker, bench.rank == 0, "is_main_worker")
    torch.device(strategy.device())


def collectives(bench: Bench) -> None:
    """Objects and tensors of all ranks arrive, in the order of ranks, where they should."""
    strategy, size, rank = bench.strategy, bench.world_size, bench.rank
    last = size - 1
    expected = [{"rank": number} for number in range(size)]
    strategy.barrier()
    _must_equal(strategy.allgather_obj({"rank": rank}), expected, "allgather_obj()")
    gathered = strategy.gather_obj({"rank": rank}, dst_rank=last)
    _must_equal(gathered, expected if rank == last else None, "gather_obj()")
    tensors = strategy.gather(torch.full((2,), float(rank), device=strategy.device()))
    numbers = None if tensors is None else [tensor.tolist() for tensor in tensors]
    whole = [[float(number)] * 2 for number in range(size)]
    _must_equal(numbers, whole if rank == 0 else None, "gather()")
    _must_equal(strategy.broadcast_obj(f"of {rank}", last), f"of {last}", "broadcast_obj()")
    total = strategy.sum_over_ranks(torch.tensor([rank + 1.0], device=strategy.device()))
    _must_equal(total.tolist(), [size * (size + 1) / 2], "sum_over_ranks()")


def all_ranks_begin_with_the_weights_of_rank_0(bench: Bench) -> None:
    """Models that differ between ranks become rank 0's."""
    training = bench.distribute(_sgd, seed=bench.rank)
    expected = bench.model(seed=0)
    bench.compare(training.state(), expected.state_dict(), tolerance=0)
    for name, buffer in bench.strategy.unwrap(training.model).named_buffers():
        _must(torch.equal(buffer.cpu(), expected.get_buffer(name)), f"{name} is another")


def trains_as_a_single_process(bench: Bench) -> None:
    """With each rank's mean loss the weights are those of one process with all the samples."""
    alone, training = bench.alone(_sgd), bench.distribute(_sgd)
    for step in range(_STEPS):
        _step(alone, *bench.batch(step))
        inputs, targets = bench.own_batch(step)
        training.strategy.backward(training.loss(inputs, targets), training.model)
        training.step()
    bench.compare(training.state(), alone.state())
    bench.compare_outputs(training, alone)


def a_plain_loop_trains_too(bench: Bench) -> None:
    """``zero_grad(); loss.backward(); step()`` is all that a user's own loop needs."""
    alone, training = bench.alone(_sgd), bench.distribute(_sgd)
    for step in range(_STEPS):
        _step(alone, *bench.batch(step))
        _step(training, *bench.own_batch(step))
    bench.compare(training.state(), alone.state())


def zero_grad_drops_gradients(bench: Bench) -> None:
    """Gradients before ``zero_grad()`` have no part in the step."""
    alone, training = bench.alone(_sgd), bench.distribute(_sgd)
    training.loss(*bench.own_batch(7)).backward()  # type: ignore[no-untyped-call]
    _step(training, *bench.own_batch(0))
    _step(alone, *bench.batch(0))
    bench.compare(training.state(), alone.state())


def accumulated_batches_equal_a_large_one(bench: Bench) -> None:
    """All but the last within ``accumulating()``; then the gradient is their sum."""
    alone, training = bench.alone(_sgd), bench.distribute(_sgd)
    for step in range(_STEPS):
        _step(alone, *bench.batch(step))
        _accumulate(training, *bench.own_batch(step))
    bench.compare(training.state(), alone.state())


def clips_as_a_single_process(bench: Bench) -> None:
    """The norm is of all parameters and ranks, and of the coming step alone."""
    alone, training = bench.alone(_sgd), bench.distribute(_sgd)
    for step, max_norm in enumerate((0.05, None, 0.05)):
        _step(alone, *bench.batch(step), max_norm)
        _accumulate(training, *bench.own_batch(step), max_norm)
    bench.compare(training.state(), alone.state())


def an_earlier_schedule_goes_on(bench: Bench) -> None:
    """A schedule made before ``distributed()`` sets the rate that the steps use."""
    alone, training = bench.alone(_sgd), bench.distribute(_sgd)
    for step in range(_STEPS):
        _step(alone, *bench.batch(step))
        _step(training, *bench.own_batch(step))
        alone.schedule.step()
        training.schedule.step()
    rates = [t.optimizer.param_groups[0]["lr"] for t in (training, alone)]
    _must_equal(rates[0], rates[1], "the learning rate")
    bench.compare(training.state(), alone.state())


def autocast_reaches_the_model(bench: Bench) -> None:
    """Within ``torch.autocast`` to bfloat16 the forward pass is in bfloat16."""
    training = bench.distribute(_sgd, precision="bf16")
    device = training.strategy.device().split(":")[0]
    with torch.autocast(device, dtype=torch.bfloat16):
        inputs, targets = bench.own_batch(0)
        output = training.model(inputs)
        loss = nn.functional.mse_loss(output.float(), targets)
    _must_equal(output.dtype, torch.bfloat16, "the format of the output")
    training.strategy.backward(loss, training.model)
    training.step()
    alone = bench.alone(_sgd)
    _step(alone, *bench.batch(0))
    bench.compare(training.state(), alone.state(), tolerance=0.02)


def model_state_is_plain(bench: Bench) -> None:
    """A model without strategy takes it, strictly; names have no prefix, order and buffers stay."""
    training = bench.distribute(_sgd)
    _step(training, *bench.own_batch(0))
    state = training.state()
    if bench.rank != 0:
        return
    plain = bench.model()
    _must_equal(list(state), list(plain.state_dict()), "the names in model_state()")
    plain.load_state_dict(_through_a_file(state), strict=True)


def states_can_be_put_back(bench: Bench) -> None:
    """Saved and loaded into a fresh model, the training goes on as if uninterrupted."""
    alone, first = bench.alone(_adamw), bench.distribute(_adamw)
    for step in range(_STEPS):
        _step(alone, *bench.batch(step))
        _step(first, *bench.own_batch(step))
    states = _through_a_file([first.state(), first.optimizer_state()])
    whole = bench.strategy.broadcast_obj(states, 0)
    second = bench.distribute(_adamw, seed=5)
    _step(second, *bench.own_batch(9))  # there is a state to be replaced
    second.put_back(*copy.deepcopy(whole))
    untouched = bench.distribute(_adamw, seed=6)
    untouched.put_back(*whole)
    for step in range(_STEPS, 2 * _STEPS):
        _step(alone, *bench.batch(step))
        _step(second, *bench.own_batch(step))
        _step(untouched, *bench.own_batch(step))
    bench.compare(second.state(), alone.state())
    bench.compare(untouched.state(), alone.state())


def a_single_process_can_go_on(bench: Bench) -> None:
    """The optimizer's state is that of PyTorch, so a training can change its strategy."""
    alone, training = bench.alone(_adamw), bench.distribute(_adamw)
    for step in range(_STEPS):
        _step(alone, *bench.batch(step))
        _step(training, *bench.own_batch(step))
    states = _through_a_file([training.state(), training.optimizer_state()])
    states = bench.strategy.broadcast_obj(states, 0)
    later = bench.alone(_adamw, seed=5)
    later.put_back(*states)
    _step(alone, *bench.batch(_STEPS))
    _step(later, *bench.batch(_STEPS))
    bench.compare(later.state(), alone.state())
    elsewhere = bench.distribute(_adamw, seed=6)
    elsewhere.put_back(*copy.deepcopy([alone.state(), alone.optimizer_state()]))
    _step(alone, *bench.batch(_STEPS + 1))
    _step(elsewhere, *bench.own_batch(_STEPS + 1))
    bench.compare(elsewhere.state(), alone.state())


def shards_can_be_put_back(bench: Bench) -> None:
    """What all ranks wrote together is read together, and is brought together by one process."""
    alone, first = bench.alone(_adamw), bench.distribute(_adamw)
    for step in range(_STEPS):
        _step(alone, *bench.batch(step))
        _step(first, *bench.own_batch(step))
    folder = bench.folder / "shards"
    bench.strategy.save_sharded(folder, first.model, first.optimizer)
    bench.strategy.barrier()
    merged = bench.alone(_adamw, seed=5)
    merged.put_back(*merge_shards(folder))
    second = bench.distribute(_adamw, seed=6)
    bench.strategy.load_sharded(folder, second.model, second.optimizer)
    for step in range(_STEPS, 2 * _STEPS):
        _step(alone, *bench.batch(step))
        _step(merged, *bench.batch(step))
        _step(second, *bench.own_batch(step))
    bench.compare(merged.state(), alone.state())
    bench.compare(second.state(), alone.state())


def another_training_can_follow(bench: Bench) -> None:
    """After ``clean_up()`` a new strategy of the same process trains as well."""
    bench.strategy.clean_up()
    _must(not bench.strategy.is_initialized, "is_initialized is True after clean_up()")
    bench.start_again()
    bench.strategy.init()
    trains_as_a_single_process(bench)
    bench.strategy.clean_up()


Rule = Callable[["Bench"], None]

RULES: tuple[Rule, ...] = (
    nothing_works_before_init,
    init_twice_is_refused,
    ranks_and_sizes,
    collectives,
    all_ranks_begin_with_the_weights_of_rank_0,
    trains_as_a_single_process,
    a_plain_loop_trains_too,
    zero_grad_drops_gradients,
    accumulated_batches_equal_a_large_one,
    clips_as_a_single_process,
    an_earlier_schedule_goes_on,
    autocast_reaches_the_model,
    model_state_is_plain,
    states_can_be_put_back,
    a_single_process_can_go_on,
    shards_can_be_put_back,
    another_training_can_follow,
)


# -- what the rules work with ----------------------------------------------------------------------


class Model(nn.Module):
    """Two layers, parameters that are not trained, and a buffer; sizes that 2 does not divide."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(1) + 0.5)
        self.first = nn.Linear(5, 7)
        self.fixed = nn.Linear(7, 7).requires_grad_(False)
        self.last = nn.Sequential(nn.Tanh(), nn.Linear(7, 3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Three numbers for each sample."""
        hidden = torch.tanh(self.first(inputs * self.scale))
        outputs: torch.Tensor = self.last(self.fixed(hidden))
        return outputs


class Training:
    """A model, its optimizer and schedule, as a strategy wrapped them."""

    def __init__(
        self,
        strategy: TorchDistributedStrategy,
        parts: tuple[nn.Module, Optimizer, Any],
    ) -> None:
        self.strategy = strategy
        self.model, self.optimizer, self.schedule = parts

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean over the samples."""
        return nn.functional.mse_loss(self.model(inputs), targets)

    def step(self) -> None:
        """Make a step, and drop the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Of the model; on rank 0, if it is sharded."""
        return self.strategy.model_state(self.model)

    def optimizer_state(self) -> dict[str, Any]:
        """Of the optimizer; on rank 0, if it is sharded."""
        return self.strategy.optimizer_state(self.model, self.optimizer)

    def put_back(self, model: Mapping[str, Any], optimizer: Mapping[str, Any]) -> None:
        """Load both states."""
        self.strategy.load_model_state(self.model, model)
        self.strategy.load_optimizer_state(self.model, self.optimizer, optimizer)


class Bench:
    """Makes what a rule needs, in one process of several.

    Args:
        rank: Of this process.
        factory: Makes the strategy.
        config: Training configuration.
        tolerance: Largest difference of a weight.
        world_size: Number of processes.
        ports: Where the processes meet, at the first and at the second time.
        folder: Common to all processes.
    """

    def __init__(
        self,
        rank: int,
        factory: Factory,
        config: dict[str, Any],
        tolerance: float,
        world_size: int,
        ports: list[int],
        folder: str,
    ) -> None:
        self.rank, self.world_size, self.folder = rank, world_size, Path(folder)
        self._factory, self._config, self._tolerance = factory, config, tolerance
        self._ports = ports
        self.start_again()

    def start_again(self) -> None:
        """Make a new strategy, whose processes meet at another port."""
        os.environ.update(
            RANK=str(self.rank),
            LOCAL_RANK=str(self.rank),
            WORLD_SIZE=str(self.world_size),
            LOCAL_WORLD_SIZE=str(self.world_size),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(self._ports.pop(0)),
        )
        self.strategy = self._factory()

    def model(self, seed: int = 0) -> Model:
        """A model whose weights follow from a seed."""
        torch.manual_seed(seed)
        return Model()

    def distribute(self, optimizer: Any, seed: int = 0, precision: str = "fp32") -> Training:
        """A training under the strategy."""
        values = {**self._config, "precision": precision, "batch_size": 1}
        options = self.strategy.default_options(TrainingConfiguration(**values))
        parts = self.strategy.distributed(*_parts(self.model(seed), optimizer), **options)
        return Training(self.strategy, parts)

    def alone(self, optimizer: Any, seed: int = 0) -> Training:
        """A training of a single process, without the strategy."""
        return Training(
            NonDistributedStrategy(), _parts(self.model(seed).to(self.strategy.device()), optimizer)
        )

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of all ranks together."""
        generator = torch.Generator().manual_seed(100 + number)
        inputs = torch.randn(_GLOBAL_BATCH, 5, generator=generator)
        targets = torch.randn(_GLOBAL_BATCH, 3, generator=generator)
        device = self.strategy.device()
        return inputs.to(device), targets.to(device)

    def own_batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of this rank."""
        inputs, targets = self.batch(number)
        return inputs[self.rank :: self.world_size], targets[self.rank :: self.world_size]

    def compare(
        self, found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float | None = None
    ) -> None:
        """Compare a model's state with that of a single process."""
        if self.strategy.is_sharded and self.rank != 0 and not found:
            return
        allowed = self._tolerance if tolerance is None else tolerance
        _must_equal(set(found), set(expected), "the names in model_state()")
        for name, value in expected.items():
            difference = (found[name].cpu() - value.cpu()).abs().max().item()
            _must(
                difference <= allowed,
                f"{name} differs from that of a single process by {difference:.2g}",
            )

    def compare_outputs(self, training: Training, alone: Training) -> None:
        """Compare what two models make of the same inputs, outside of a training."""
        inputs, _ = self.batch(50)
        with torch.no_grad():
            for one in (training, alone):
                one.model.eval()  # DeepSpeed's returns nothing
            outputs = [one.model(inputs) for one in (training, alone)]
        difference = (outputs[0] - outputs[1]).abs().max().item()
        _must(difference <= 10 * self._tolerance, f"outputs differ by {difference:.2g}")


def _sgd(model: nn.Module) -> Optimizer:
    # Unlike Adam it tells a sum of gradients from their mean.
    return SGD(model.parameters(), lr=0.2, momentum=0.9)


def _adamw(model: nn.Module) -> Optimizer:
    weights = [p for p in model.parameters() if p.dim() > 1]
    biases = [p for p in model.parameters() if p.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    return AdamW(groups, lr=0.01)


def _parts(model: nn.Module, make: Callable[[nn.Module], Optimizer]) -> tuple[Any, Any, Any]:
    optimizer = make(model)
    return model, optimizer, StepLR(optimizer, step_size=1, gamma=0.5)


def _step(
    training: Training, inputs: torch.Tensor, targets: torch.Tensor, max_norm: float | None = None
) -> None:
    """A user's own loop."""
    training.optimizer.zero_grad()
    training.loss(inputs, targets).backward()  # type: ignore[no-untyped-call]
    if max_norm is not None:
        nn.utils.clip_grad_norm_(training.model.parameters(), max_norm)
    training.optimizer.step()


def _accumulate(
    training: Training, inputs: torch.Tensor, targets: torch.Tensor, max_norm: float | None = None
) -> None:
    """A trainer's loop, in three batches of different sizes."""
    strategy, total = training.strategy, len(inputs)
    cuts = [0, total // 2, total // 2 + total // 3, total]
    for number, (begin, end) in enumerate(pairwise(cuts)):
        is_last = number == len(cuts) - 2
        with nullcontext() if is_last else strategy.accumulating(training.model):
            loss = training.loss(inputs[begin:end], targets[begin:end])
            strategy.backward(loss * (end - begin) / total, training.model)
    if max_norm is not None:
        strategy.clip_gradients(training.model, max_norm)
    training.step()


def _through_a_file(state: Any) -> Any:
    """Save and load, as a checkpoint does."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def _must(holds: bool, reason: str) -> None:
    if not holds:
        raise _BrokenError(reason)


def _must_equal(found: Any, expected: Any, what: str) -> None:
    _must(found == expected, f"{what} gives {found}, not {expected}")


def _must_raise(kind: type[Exception], use: Callable[[], Any], what: str) -> None:
    try:
        use()
    except kind:
        return
    raise _BrokenError(f"{what} does not raise {kind.__name__}")


# -- the processes ---------------------------------------------------------------------------------


class _BrokenError(Exception):
    """A rule does not hold, for the reason in the message."""


def _run(rank: int, *arguments: Any) -> None:
    """Check all rules, as one of the processes; leave a report, and exit with 1 if it fails."""
    report: dict[str, Any] = {"rule": "the strategy is made", "done": []}
    file = _report_file(Path(arguments[-1]), rank)
    torch.set_num_threads(1)
    try:
        bench = Bench(rank, *arguments)
        for rule in RULES:
            report["rule"] = rule.__name__.replace("_", " ")
            write_text(file, json.dumps(report))
            rule(bench)
            report["done"].append(report["rule"])
    except _BrokenError as broken:
        report["reason"] = f"on rank {rank}, {broken}"
    except BaseException:  # noqa: BLE001 - the strategy may raise anything
        report["reason"] = f"on rank {rank}:\n{traceback.format_exc()}"
    write_text(file, json.dumps(report))
    sys.stdout.flush()
    # Not by the interpreter's end: a broken strategy's threads may wait for other processes.
    os._exit(1 if "reason" in report else 0)


def _wait_for(processes: list[SpawnProcess], timeout: float) -> int | None:
    """Wait until all processes end or one fails; return that one's rank, and end the others."""
    deadline = time.monotonic() + timeout
    running: dict[Any, int] = {p.sentinel: rank for rank, p in enumerate(processes)}
    try:
        while running:
            ended = wait(list(running), max(0, deadline - time.monotonic()))
            if not ended:
                return next(iter(running.values()))
            for rank in [running.pop(sentinel) for sentinel in ended]:
                processes[rank].join()
                if processes[rank].exitcode != 0:
                    return rank
        return None
    finally:
        for process in processes:
            process.kill()
            process.join()


def _report_file(folder: Path, rank: int) -> Path:
    return folder / f"report-{rank}.json"


def _read_report(folder: Path, rank: int) -> dict[str, Any]:
    file = _report_file(folder, rank)
    report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return report


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
