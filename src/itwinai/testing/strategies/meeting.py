"""That the processes meet, talk, part, and can meet again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import TensorDataset

from itwinai.testing.claims import must, must_equal, must_raise
from itwinai.testing.strategies.bench import Bench, sgd
from itwinai.testing.strategies.steps import trains_as_a_single_process
from itwinai.torch.type import DistributedStrategyError, UninitializedStrategyError


def nothing_works_before_init(bench: Bench) -> None:
    """Every use raises UninitializedStrategyError before ``init()``.

    Of a single process ranks and collectives are known already.
    """
    strategy = bench.strategy
    uses: tuple[Callable[[], Any], ...] = (
        strategy.device,
        strategy.set_device,
        lambda: strategy.create_dataloader(TensorDataset(torch.ones(2))),
        lambda: bench.distribute(sgd),
        strategy.clean_up,
    )
    of_several: tuple[Callable[[], Any], ...] = (
        strategy.global_rank,
        strategy.global_world_size,
        strategy.local_rank,
        strategy.local_world_size,
        strategy.barrier,
        lambda: strategy.allgather_obj(1),
        lambda: strategy.gather_obj(1),
        lambda: strategy.gather(torch.ones(1)),
        lambda: strategy.broadcast_obj(1, 0),
    )
    for use in uses + of_several * strategy.is_distributed:
        must_raise(UninitializedStrategyError, use, f"{use} before init()")


def init_twice_is_refused(bench: Bench) -> None:
    """The second ``init()`` raises DistributedStrategyError."""
    bench.strategy.init()
    must(bench.strategy.is_initialized, "is_initialized is False after init()")
    must_raise(DistributedStrategyError, bench.strategy.init, "a second init()")


def ranks_and_sizes(bench: Bench) -> None:
    """Ranks count from 0, and sizes are those of the launcher."""
    strategy, size = bench.strategy, bench.world_size
    must_equal(strategy.global_world_size(), size, "global_world_size()")
    must_equal(strategy.local_world_size(), size, "local_world_size()")
    must_equal(strategy.global_rank(), bench.rank, "global_rank()")
    must_equal(strategy.local_rank(), bench.rank, "local_rank()")
    must_equal(strategy.is_main_worker, bench.rank == 0, "is_main_worker")
    torch.device(strategy.device())


def collectives(bench: Bench) -> None:
    """Objects and tensors of all ranks arrive, in the order of ranks, where they should."""
    strategy, size, rank = bench.strategy, bench.world_size, bench.rank
    last = size - 1
    expected = [{"rank": number} for number in range(size)]
    strategy.barrier()
    must_equal(strategy.allgather_obj({"rank": rank}), expected, "allgather_obj()")
    gathered = strategy.gather_obj({"rank": rank}, dst_rank=last)
    must_equal(gathered, expected if rank == last else None, "gather_obj()")
    tensors = strategy.gather(torch.full((2,), float(rank), device=strategy.device()))
    numbers = None if tensors is None else [tensor.tolist() for tensor in tensors]
    whole = [[float(number)] * 2 for number in range(size)]
    must_equal(numbers, whole if rank == 0 else None, "gather()")
    must_equal(strategy.broadcast_obj(f"of {rank}", last), f"of {last}", "broadcast_obj()")
    total = strategy.sum_over_ranks(torch.tensor([rank + 1.0], device=strategy.device()))
    must_equal(total.tolist(), [size * (size + 1) / 2], "sum_over_ranks()")


def another_training_can_follow(bench: Bench) -> None:
    """After ``clean_up()`` a new strategy of the same process trains as well."""
    bench.strategy.clean_up()
    must(not bench.strategy.is_initialized, "is_initialized is True after clean_up()")
    bench.start_again()
    bench.strategy.init()
    trains_as_a_single_process(bench)
    bench.strategy.clean_up()
