"""The public address of the trainers, each loaded from where it lives when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.torch.ray.lightning.trainer import TorchLightningTrainer
    from itwinai.torch.ray.trainer import RayTorchTrainer, TorchTrainer

__all__ = ["RayTorchTrainer", "TorchLightningTrainer", "TorchTrainer"]

__getattr__ = lazily(
    __name__,
    {
        "ray.lightning.trainer": "TorchLightningTrainer",
        "ray.trainer": "RayTorchTrainer TorchTrainer",
    },
    package="itwinai.torch",
)
