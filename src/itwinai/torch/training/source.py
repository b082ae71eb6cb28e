"""The batches of an epoch, from its begin or from the place where a checkpoint has left it.

What was trained on before is passed over without loading it: by the place in an order that all
ranks share, by drawing its batches from their sampler once more, or by a state of the data's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from itwinai.errors import CheckpointError, ConfigurationError
from itwinai.torch.checkpoints.plain import has_state, odd_part
from itwinai.torch.data import ExactSampler, is_iterable, length_of, set_epoch
from itwinai.torch.streams import RankShare, undealt
from itwinai.torch.type import described

#: Plain values that tell where the data of an epoch stands.
Place = Mapping[str, Any]


class Source:
    """The batches of any loader, which begins each epoch anew.

    Args:
        loader: As the training has it.
    """

    #: Whether a training can go on in the middle of an epoch of it.
    keeps_place = False
    #: Whether as many ranks must go on as there were.
    is_of_ranks = True

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._rest = loader
        #: Batches that were trained on since the source was made.
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rest)

    def __len__(self) -> int:
        return len(self._rest)

    @property
    def sampler(self) -> Any:
        """The loader's, if it has one."""
        return getattr(self._loader, "sampler", None)

    @property
    def dataset(self) -> Any:
        """The loader's, if it has one."""
        return getattr(self._loader, "dataset", None)

    @property
    def collate_fn(self) -> Any:
        """What makes the loader's batches, if it has one."""
        return getattr(self._loader, "collate_fn", None)

    def place(self) -> dict[str, Any]:
        """Where it stands: after the batches that were trained on, however many are loaded."""
        raise NotImplementedError

    def go_to(self, place: Place, begin: Callable[[], None], settle: Callable[[], None]) -> None:
        """Give only the batches after a place.

        Args:
            place: As of :meth:`place`.
            begin: To be called before the order is drawn again.
            settle: To be called once the order is drawn again, before anything is loaded.

        Raises:
            CheckpointError: If it is a place in other data.
        """
        raise NotImplementedError

    def left(self, batches: int) -> int | None:
        """Batches of this rank that are left of an epoch of which it has had so many."""
        whole = length_of(self._loader)
        return None if whole is None else whole - batches


class Dealt(Source):
    """Samples in an order that all ranks share: the place is the number of those that are done."""

    keeps_place = True
    is_of_ranks = False

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        loader.sampler.begin_at(0)  # type: ignore[attr-defined]

    def place(self) -> dict[str, Any]:
        """Where it stands."""
        epoch = {"epoch": self.sampler.epochs.said, "passes": self.sampler.epochs.passes}
        return {**self.sampler.order_key, **epoch, "done": self.sampler.samples_after(self.taken)}

    def go_to(self, place: Place, begin: Callable[[], None], settle: Callable[[], None]) -> None:
        """Give only the batches after a place."""
        _check_kind(place, "done", self._loader)
        self._begin_epoch(place)
        _check_order(place, self.sampler.order_key, "data, random_seed and shuffle_train")
        self.sampler.begin_at(place["done"])
        self._rest = _after(self._loader, 0, begin, settle)

    def left(self, batches: int) -> int | None:
        """Batches of this rank that are left."""
        return length_of(self._loader)

    def _begin_epoch(self, place: Place) -> None:
        """Let the data be those of the place's epoch, whose length can be its own."""
        if place.get("passes"):
            self.sampler.epochs.passes = place["passes"] - 1
        elif place.get("epoch") is not None:
            set_epoch(self._loader, place["epoch"])


class Drawn(Source):
    """Batches of any other sampler, which draws those that are done once more."""

    keeps_place = True

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        self._before = 0

    def place(self) -> dict[str, Any]:
        """Where it stands."""
        return {**self._order_key, "drawn": self._before + self.taken}

    def go_to(self, place: Place, begin: Callable[[], None], settle: Callable[[], None]) -> None:
        """Give only the batches after a place."""
        _check_kind(place, "drawn", self._loader)
        _check_order(place, self._order_key, "data, sampler and batch size")
        self._before = place["drawn"]
        self._rest = _after(self._loader, self._before, begin, settle)

    @property
    def _order_key(self) -> dict[str, Any]:
        """What the batches follow from, beside the random numbers at the epoch's begin."""
        batches = self._loader.batch_sampler
        sampler = getattr(batches, "sampler", self.sampler)
        return {
            "sampler": type(sampler).__name__,
            "its length": length_of(sampler),
            "samples": length_of(self._loader.dataset),
            "batch size": getattr(batches, "batch_size", None),
        }


class Stream(Source):
    """Data that keeps its place itself: an iterable data set, or a loader.

    Args:
        loader: As the training has it.
        keeper: What has the state, the loader itself or the data set in it.
    """

    keeps_place = True

    def __init__(self, loader: Any, keeper: Any) -> None:
        super().__init__(loader)
        self._keeper = keeper
        self._read = 0
        #: States after batches that were read ahead of the training.
        self._ahead: dict[int, Any] = {}
        self.is_of_ranks = keeper is loader or bool(getattr(keeper, "deals_itself_out", False))

    def __iter__(self) -> Iterator[Any]:
        for batch in self._rest:
            self._read += 1
            yield batch
            if self.taken < self._read:  # another one is read before this one was trained on
                here = copy.deepcopy(self._here())
                known = {n: state for n, state in self._ahead.items() if n >= self.taken}
                self._ahead = {**known, self._read: here}

    def place(self) -> dict[str, Any]:
        """Where it stands.

        Raises:
            CheckpointError: If the state could be given back only by running code.
        """
        is_here = self.taken >= self._read  # the last batch may stand in for others
        here, drawn = self._here() if is_here else self._ahead[self.taken], self._generator
        check_plain(self._keeper, here["state"])
        return {**here, "generator": None if drawn is None else drawn.get_state()}

    def go_to(self, place: Place, begin: Callable[[], None], settle: Callable[[], None]) -> None:
        """Give only the batches after a place."""
        _check_kind(place, "state", self._loader)
        self._keeper.load_state_dict(place["state"])
        if isinstance(self.dataset, RankShare):
            self.dataset.begin_with(place.get("read with"), place.get("passes", 0))
        if self._keeper is self._loader:
            self._rest = _Settled(self._loader, lambda: self._settle(place, settle))
        else:
            self._rest = _after(self._loader, 0, begin, settle)

    def _here(self) -> dict[str, Any]:
        """The state of the data, and of the random numbers with which all ranks read it."""
        here, share = {"state": self._keeper.state_dict()}, self.dataset
        if isinstance(share, RankShare) and share.stream is not None:
            here |= {"read with": share.stream.state, "passes": share.epochs.passes}
        return here

    @property
    def _generator(self) -> torch.Generator | None:
        """What the loader draws from, if it is not its data set that knows the place."""
        found = getattr(self._keeper, "generator", None)
        return found if isinstance(found, torch.Generator) else None

    def _settle(self, place: Place, settle: Callable[[], None]) -> None:
        """Let later epochs draw as they would have: torchdata's loader does not go on so far."""
        settle()
        if self._generator is not None and place.get("generator") is not None:
            self._generator.set_state(place["generator"])


def source_of(loader: Any) -> Source:
    """The batches of a loader, from the begin of an epoch."""
    is_loader = isinstance(loader, DataLoader)
    if is_loader and isinstance(loader.sampler, ExactSampler):
        return Dealt(loader)
    if has_state(loader):
        return Stream(loader, loader)
    if _is_drawn(loader):
        return Drawn(loader)
    if is_loader and loader.num_workers == 0 and has_state(undealt(loader.dataset)):
        return Stream(loader, undealt(loader.dataset))
    return Source(loader)


def keeps_processes(loader: Any) -> bool:
    """Whether a loader's order is drawn from random numbers, and its processes stay.

    PyTorch draws a seed for them when they start, before the order of that epoch, and none in
    later epochs.
    """
    return _is_drawn(loader) and bool(loader.persistent_workers)


def _is_drawn(loader: Any) -> bool:
    """Whether a sampler that is not ours says the order of a data set with a length."""
    if not isinstance(loader, DataLoader) or is_iterable(loader.dataset):
        return False
    return not isinstance(loader.sampler, ExactSampler) and not has_state(loader)


def generators_of(loader: Any) -> dict[str, torch.Generator]:
    """The generators that a loader and its samplers draw from, by where they lie."""
    found: dict[str, torch.Generator] = {}
    for where in ("", "sampler.", "batch_sampler.", "batch_sampler.sampler."):
        part = loader
        for name in where.split(".")[:-1]:
            part = getattr(part, name, None)
        for name, value in getattr(part, "__dict__", {}).items():
            is_new = not any(value is one for one in found.values())
            if isinstance(value, torch.Generator) and is_new:
                found[where + name] = value
    return found


def generator_states(loader: Any, but: torch.Generator) -> dict[str, torch.Tensor]:
    """State of the generators that a loader and its samplers draw from, by where they lie.

    Args:
        loader: Any loader.
        but: The training's, whose state is kept elsewhere.
    """
    found = generators_of(loader).items()
    return {where: one.get_state() for where, one in found if one is not but}


def set_generators(loader: Any, states: Mapping[str, torch.Tensor]) -> None:
    """Put back what :func:`generator_states` returned."""
    for where, generator in generators_of(loader).items():
        if where in states:
            generator.set_state(states[where])


def check_plain(keeper: Any, state: Any) -> None:
    """Refuse a state of data that keep their place which is no plain value.

    Raises:
        CheckpointError: If it could be given back only by running code.
    """
    odd = odd_part(state)
    if odd is not None:
        raise CheckpointError(
            f"the data ({type(keeper).__name__}): its state_dict() holds {odd}, which a "
            "checkpoint could give back only by running code. Let it return tensors, numbers, "
            "strings, and lists and dictionaries of them."
        )


def check_keeps_place(loader: Any, argument: str) -> None:
    """Refuse data of which nothing tells where an epoch goes on.

    Args:
        loader: The training set's.
        argument: Of the trainer, because of which it must.

    Raises:
        ConfigurationError: If nothing does, with what to do.
    """
    if source_of(loader).keeps_place:
        return
    state = "state_dict() and load_state_dict()"
    if not isinstance(loader, DataLoader):
        what, do = f"given by {described(loader)}", f"Give it {state}"
    elif not has_state(undealt(loader.dataset)):
        what = f"{described(undealt(loader.dataset))}, which is read from its begin"
        do = f"Give it {state}, and set num_workers_dataloader: 0"
    else:
        what = "read by loading processes, which have copies of it"
        do = "Set num_workers_dataloader: 0, or make a StatefulDataLoader of torchdata"
    raise ConfigurationError(
        f"{argument}: the training set is {what}, so nothing tells where an epoch goes on. {do}; "
        f"or leave {argument} out."
    )


class _After:
    """The batches of a sampler after the first ones, which are drawn and not loaded."""

    def __init__(
        self, sampler: Any, drawn: int, begin: Callable[[], None], settle: Callable[[], None]
    ) -> None:
        self._sampler = sampler
        self._drawn = drawn
        self._begin = begin
        self._settle = settle

    def __iter__(self) -> Iterator[Any]:
        self._begin()
        batches = iter(self._sampler)
        for _ in islice(batches, self._drawn):
            pass
        self._settle()
        yield from batches

    def __len__(self) -> int:
        return len(self._sampler) - self._drawn


class _Settled:
    """The batches of a loader that goes on by itself."""

    def __init__(self, loader: Any, settle: Callable[[], None]) -> None:
        self._loader = loader
        self._settle = settle

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        self._settle()
        yield from batches


def _after(
    loader: DataLoader[Any], drawn: int, begin: Callable[[], None], settle: Callable[[], None]
) -> DataLoader[Any]:
    """The same loader, of an epoch's rest, with processes for this rest alone."""
    rest = copy.copy(loader)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    # A loader refuses to have it set, for it may be in the middle of an epoch; this one is not.
    vars(rest)[name] = _After(getattr(loader, name), drawn, begin, settle)
    vars(rest)["persistent_workers"] = False
    return rest


def _check_kind(place: Place, key: str, loader: Any) -> None:
    if key not in place:
        raise CheckpointError(
            "the checkpoint was written in the middle of an epoch of another kind of data than "
            f"{described(loader)}. Go on with the same data, or from a checkpoint at the end of an "
            "epoch."
        )


def _check_order(place: Place, now: Mapping[str, Any], same: str) -> None:
    """Refuse an epoch whose rest is another one; what an earlier version did not keep is taken."""
    was = {key: place.get(key, value) for key, value in now.items()}
    if was != now:
        raise CheckpointError(
            f"the checkpoint was written in the middle of an epoch whose order followed from "
            f"{_listed(was)}, and now it follows from {_listed(now)}. Go on with the same "
            f"{same}, or from a checkpoint at the end of an epoch."
        )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
