"""PyTorch opens the files that it saves to by itself, which Python's audit hooks do not hear."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def saves_are_heard() -> Iterator[None]:
    """Let ``torch.save`` tell which file it opens, as ``open`` does."""
    save = torch.save

    @functools.wraps(save)
    def audible(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        sys.audit("open", f, "wb", os.O_WRONLY | os.O_CREAT)
        return save(obj, f, *args, **kwargs)

    torch.save = audible
    try:
        yield
    finally:
        torch.save = save
