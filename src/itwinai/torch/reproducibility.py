"""Seeds, and the state of all random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch


def seed_worker(worker_id: int) -> None:
    """Seed a data loader's process from the seed that torch gave it."""
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


def set_seed(rnd_seed: int | None, deterministic_cudnn: bool = True) -> torch.Generator:
    """Seed torch, NumPy and Python, and return a generator for data loaders.

    Args:
        rnd_seed: The seed; None leaves the global generators as they are, and draws the returned
            one's from the operating system.
        deterministic_cudnn: Whether cuDNN is kept to deterministic algorithms.
    """
    generator = torch.Generator()
    if rnd_seed is None:
        generator.seed()
        return generator
    random.seed(rnd_seed)
    np.random.seed(rnd_seed % 2**32)
    torch.manual_seed(rnd_seed)
    if deterministic_cudnn and torch.cuda.is_available():
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    return generator.manual_seed(rnd_seed)


def part_streams(generator: torch.Generator, rank: int, epoch: int) -> None:
    """Give each rank above 0 random numbers of its own, from the epoch on.

    Weights have been drawn by then, alike on all ranks. Augmentation and dropout must differ, or
    the ranks would see the same noise on different samples. Rank 0 goes on as a single process.

    Args:
        generator: The data loaders', which seeds their processes. It is only moved on: the seed
            that it began with is the order of the data, the same on all ranks.
        rank: This process.
        epoch: The first one to train.
    """
    if rank == 0:
        return
    sequence = np.random.SeedSequence([torch.initial_seed(), rank, epoch])
    own, of_numpy, of_python = (int(number) for number in sequence.generate_state(3, np.uint64))
    torch.manual_seed(own >> 1)
    np.random.seed(of_numpy % 2**32)
    random.seed(of_python)
    torch.empty(rank * _APART, dtype=torch.int64).random_(generator=generator)


#: Numbers between the ranks' places in the data loaders' stream, of which an epoch takes a few.
_APART = 100_000


def random_state() -> dict[str, Any]:
    """State of the random numbers of Python, NumPy and torch, as plain values and tensors."""
    state = state_on_cpu()
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def state_on_cpu() -> dict[str, Any]:
    """The same without those of GPUs."""
    name, keys, position, has_gauss, gauss = cast("Any", np.random.get_state(legacy=True))
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what :func:`random_state` returned."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


#: How the state of a generator of one's own is read, and put back.
_GENERATORS: tuple[tuple[type, Callable[[Any], Any], Callable[[Any, Any], object]], ...] = (
    (torch.Generator, torch.Generator.get_state, torch.Generator.set_state),
    (random.Random, random.Random.getstate, random.Random.setstate),
    (
        np.random.Generator,
        lambda generator: generator.bit_generator.state,
        lambda generator, state: setattr(generator.bit_generator, "state", state),
    ),
)


def generator_state(value: Any) -> Any:
    """State of a generator of PyTorch, Python or NumPy; None if it is none of them."""
    return next((read(value) for kind, read, _ in _GENERATORS if isinstance(value, kind)), None)


def set_generator_state(generator: Any, state: Any) -> None:
    """Put back what :func:`generator_state` returned."""
    for kind, _, write in _GENERATORS:
        if isinstance(generator, kind):
            write(generator, state)


@contextmanager
def random_numbers_kept(generator: torch.Generator) -> Iterator[None]:
    """Let all random numbers go on after a block as if it had drawn none.

    Args:
        generator: The data loaders'.
    """
    state, of_loaders = random_state(), generator.get_state()
    try:
        yield
    finally:
        set_random_state(state)
        generator.set_state(of_loaders)


class RandomStream:
    """Random numbers that some work draws in place of the process's, where that is on the CPU.

    Args:
        seeds: What they follow from.
    """

    def __init__(self, *seeds: int) -> None:
        self._seeds = np.random.SeedSequence(seeds)
        #: Where they stand, as plain values and tensors; None before anything was drawn.
        self.state: dict[str, Any] | None = None

    def take_over(self) -> None:
        """Let the process draw them from now on."""
        if self.state is not None:
            set_random_state(self.state)
            return
        of_torch, of_numpy, of_python = self._seeds.generate_state(3, np.uint64).tolist()
        torch.default_generator.manual_seed(of_torch >> 1)
        np.random.seed(of_numpy % 2**32)
        random.seed(of_python)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Let a block draw them, and the process go on after it as if it had drawn none."""
        outer = state_on_cpu()
        self.take_over()
        try:
            yield
        finally:
            self.state = state_on_cpu()
            set_random_state(outer)
