"""A training in this process: what is built, its epochs and batches, its state, its reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.torch.training.trainer import LocalTrainer

__all__ = ["LocalTrainer"]

__getattr__ = lazily(__name__, {"trainer": "LocalTrainer"})
