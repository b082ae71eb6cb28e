"""A data loader for one of several processes."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.torch.data import ExactSampler, is_iterable
from itwinai.torch.reproducibility import seed_worker
from itwinai.torch.streams import RankShare
from itwinai.torch.type import described


def make_dataloader(
    dataset: Dataset[Any],
    rank: int,
    world_size: int,
    *,
    batch_size: int | None = 1,
    shuffle: bool | None = None,
    sampler: Any = None,
    batch_sampler: Any = None,
    seed: int = 0,
    **options: Any,
) -> DataLoader[Any]:
    """Make a loader that deals a data set out to ranks, counting no sample twice.

    Args:
        dataset: The data.
        rank: This process.
        world_size: Number of processes.
        batch_size: Samples per batch and rank.
        shuffle: Whether each epoch has another order; without effect on an iterable data set, which
            a warning says.
        sampler: A sampler of the user's own; only its random or sequential order is kept where
            several processes share the data.
        batch_sampler: A batch sampler of the user's own, for a single process.
        seed: Of the order, where ``options`` have no ``generator``.
        options: As of ``torch.utils.data.DataLoader``. A data set that is read from front to back
            gets at most one loading process, unless it has an attribute ``deals_to_workers``.

    Raises:
        ConfigurationError: If the data set is none.
        RuntimeError: If a user's own sampler cannot be shared by several processes.
    """
    options = {"worker_init_fn": seed_worker, **options}
    generator = options.get("generator")
    seed = seed if generator is None else generator.initial_seed()
    if batch_sampler is not None and world_size == 1:
        return DataLoader(dataset, batch_sampler=batch_sampler, **options)
    if is_iterable(dataset):
        _warn_of_no_order(dataset, shuffle, sampler or batch_sampler, rank)
        options["num_workers"] = _processes_for(dataset, options.get("num_workers", 0), rank)
        stream, drops = cast("IterableDataset[Any]", dataset), bool(options.get("drop_last"))
        if _is_dealt_out(stream, rank, world_size):
            stream = RankShare(stream, rank, world_size, seed, drops)
        return DataLoader(stream, batch_size=batch_size, **options)
    _check_indexed(dataset)
    if _keeps_own_sampler(dataset, sampler, batch_sampler, world_size):
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, **options)
    exact = ExactSampler(
        cast("Sized", dataset),
        batch_size=batch_size or 1,
        rank=rank,
        world_size=world_size,
        shuffle=isinstance(sampler, RandomSampler) or bool(shuffle),
        seed=seed,
        drop_last=bool(options.get("drop_last", False)),
    )
    return DataLoader(dataset, batch_size=batch_size, sampler=exact, **options)


def _check_indexed(dataset: Any) -> None:
    lacks = [name for name in ("__len__", "__getitem__") if not hasattr(dataset, name)]
    if lacks:
        raise ConfigurationError(
            f"the data set is {described(dataset)}, which has no {' and no '.join(lacks)}; "
            "expected a torch.utils.data.Dataset, or an IterableDataset for what is read from "
            "front to back"
        )


def _warn_of_no_order(dataset: Any, shuffle: bool | None, sampler: Any, rank: int) -> None:
    """Say that a data set comes in its own order, whatever was asked for."""
    if rank == 0 and (shuffle or sampler is not None):
        itwinai.logger.warning(
            "warning: %s has no effect on %s, which is read from front to back: it comes in its "
            "own order. Let it shuffle itself, anew for each set_epoch(epoch) that it is told",
            "shuffle" if shuffle else type(sampler).__name__,
            type(dataset).__name__,
        )


def _processes_for(dataset: Any, processes: int, rank: int) -> int:
    """How many processes may read a data set from front to back: each has a copy of it."""
    if processes <= 1 or getattr(dataset, "deals_to_workers", False):
        return processes
    if rank == 0:
        itwinai.logger.info(
            "one process reads %s, and not %d, each of which would give all its samples; if it "
            "deals itself out to them by torch.utils.data.get_worker_info(), give it an attribute "
            "deals_to_workers = True",
            type(dataset).__name__,
            processes,
        )
    return 1


def _is_dealt_out(dataset: IterableDataset[Any], rank: int, world_size: int) -> bool:
    if world_size == 1 or getattr(dataset, "deals_itself_out", False):
        return False
    if rank == 0:
        itwinai.logger.info(
            "each rank takes every %d-th sample of %s, and a loop of your own over the loader "
            "leaves out the last ones that do not go round; if it deals itself out to the ranks, "
            "give it an attribute deals_itself_out = True",
            world_size,
            type(dataset).__name__,
        )
    return True


def _keeps_own_sampler(dataset: Any, sampler: Any, batch_sampler: Any, world_size: int) -> bool:
    if sampler is None and batch_sampler is None:
        return False
    if world_size == 1 or isinstance(sampler, ExactSampler):
        return True
    if batch_sampler is None and _gives_each_once(sampler, dataset):
        return False
    raise RuntimeError(
        f"{type(batch_sampler or sampler).__name__}: with several processes each must get its "
        "own part of the data, which this sampler does not say. Leave it out (use shuffle), or "
        "pass an itwinai.torch.data.ExactSampler."
    )


def _gives_each_once(sampler: Any, dataset: Any) -> bool:
    """Whether a sampler only says that all samples come in their order, or in a random one."""
    if not isinstance(sampler, RandomSampler | SequentialSampler):
        return False
    return not getattr(sampler, "replacement", False) and len(sampler) == len(dataset)
