"""A training in this process: what is built, its epochs and batches, its state, its reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.torch.training.reporting import report_as_one
    from itwinai.torch.training.trainer import LocalTrainer

__all__ = ["LocalTrainer", "report_as_one"]

__getattr__ = lazily(__name__, {"reporting": "report_as_one", "trainer": "LocalTrainer"})
