"""What the data of the coming epoch follow from, beside the training's own random numbers.

That are the generators which a loader and its samplers draw from, the state of data that keep their
place themselves, which can hold how they are shuffled next, and the number of passes over it, where
nobody says the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader

import itwinai
from itwinai.torch.checkpoints.plain import has_state
from itwinai.torch.data import EpochCount, ExactSampler, is_iterable
from itwinai.torch.streams import RankShare, undealt
from itwinai.torch.training.protocol import Built
from itwinai.torch.training.source import (
    check_plain,
    generator_states,
    set_generators,
    source_of,
)

_LOADERS = ("train_dataloader", "validation_dataloader", "test_dataloader")


def data_states(training: Built) -> dict[str, Any]:
    """The state of each loader that has one, on this rank.

    Where the checkpoint is one in the middle of an epoch, its position has that of the training
    data.

    Raises:
        CheckpointError: If it could be given back only by running code.
    """
    states = {}
    for name, loader in _loaders(training):
        if name == "train_dataloader" and training.position.is_saved:
            continue
        keeper, epochs = _keeper_of(loader), _epochs_of(loader)
        state = {
            "generators": generator_states(loader, training.torch_rng),
            "kept": None if keeper is None else keeper.state_dict(),
            "passes": 0 if epochs is None else epochs.passes,
        }
        check_plain(keeper, state["kept"])
        if any(state.values()):
            states[name] = state
    return states


def load_data_states(training: Built, ranks: Sequence[Mapping[str, Any]]) -> None:
    """Let the next epoch have the data that it would have had.

    Args:
        training: The training.
        ranks: Of each rank that there was, its loaders as :func:`data_states` returned them.
    """
    rank, size = training.strategy.global_rank(), training.strategy.global_world_size()
    own = ranks[rank if len(ranks) == size else 0]
    for name, loader in _loaders(training):
        if name not in own:
            continue
        if len(ranks) != size and source_of(loader).is_of_ranks:
            _say_it_begins_anew(name, len(ranks), rank)
            continue
        set_generators(loader, own[name]["generators"])
        keeper, epochs = _keeper_of(loader), _epochs_of(loader)
        if epochs is not None:
            epochs.passes = own[name]["passes"]
        if keeper is not None and own[name]["kept"] is not None:
            keeper.load_state_dict(own[name]["kept"])


def _loaders(training: Built) -> Iterator[tuple[str, Any]]:
    found = ((name, getattr(training, name, None)) for name in _LOADERS)
    return ((name, loader) for name, loader in found if loader is not None)


def _keeper_of(loader: Any) -> Any:
    """What has a state from one epoch to the next, in this process; None if nothing has.

    That of torchdata's loader is one of a single epoch: a next one has its data set and generators.
    """
    if not isinstance(loader, DataLoader):
        return loader if has_state(loader) else None
    dataset: Any = undealt(loader.dataset)
    kept = is_iterable(dataset) and loader.num_workers == 0 and has_state(dataset)
    return dataset if kept else None


def _epochs_of(loader: Any) -> EpochCount | None:
    """What counts a loader's epochs where nobody says them."""
    for part in ("sampler", "dataset"):
        holder = getattr(loader, part, None)
        if isinstance(holder, ExactSampler | RankShare):
            return holder.epochs
    return None


def _say_it_begins_anew(name: str, ranks: int, rank: int) -> None:
    if rank == 0:
        itwinai.logger.warning(
            "warning: %s: each of the %d processes that wrote the checkpoint alone knew how its "
            "data is shuffled next, so its order begins anew. Start %d processes to go on with it.",
            name,
            ranks,
            ranks,
        )
