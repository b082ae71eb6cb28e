"""Seeds."""

from __future__ import annotations

import random

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
        rnd_seed: The seed; None leaves the global generators as they are.
        deterministic_cudnn: Whether cuDNN is kept to deterministic algorithms.
    """
    generator = torch.Generator()
    if rnd_seed is None:
        return generator
    random.seed(rnd_seed)
    np.random.seed(rnd_seed % 2**32)
    torch.manual_seed(rnd_seed)
    if deterministic_cudnn and torch.cuda.is_available():
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    return generator.manual_seed(rnd_seed)
