"""The public address of what trains by Lightning, loaded from where it lives when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.torch.ray.lightning.callback import TrialCallback, trainer_options
    from itwinai.torch.ray.lightning.trainer import TorchLightningTrainer

__all__ = ["TorchLightningTrainer", "TrialCallback", "trainer_options"]

__getattr__ = lazily(
    __name__,
    {
        "ray.lightning.callback": "TrialCallback trainer_options",
        "ray.lightning.trainer": "TorchLightningTrainer",
    },
    package="itwinai.torch",
)
