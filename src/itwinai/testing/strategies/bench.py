"""What the rules work with: a model, data, and the training of a single process to compare with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR

from itwinai.testing.claims import must, must_equal
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.strategies import NonDistributedStrategy, TorchDistributedStrategy

Factory = Callable[[], TorchDistributedStrategy]
Rule = Callable[["Bench"], None]

#: Samples of one step of all ranks together; any world size up to 6 divides it.
GLOBAL_BATCH = 60
#: Steps of a training.
STEPS = 3


class Model(nn.Module):
    """Two layers, parameters that are not trained, and a buffer; sizes that 2 does not divide."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(1) + 0.5)
        self.first = nn.Linear(5, 7)
        self.fixed = nn.Linear(7, 7).requires_grad_(False)
        self.last = nn.Sequential(nn.Tanh(), nn.Linear(7, 3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Three numbers for each sample."""
        hidden = torch.tanh(self.first(inputs * self.scale))
        outputs: torch.Tensor = self.last(self.fixed(hidden))
        return outputs


class Training:
    """A model, its optimizer and schedule, as a strategy wrapped them."""

    def __init__(
        self,
        strategy: TorchDistributedStrategy,
        parts: tuple[nn.Module, Optimizer, Any],
    ) -> None:
        self.strategy = strategy
        self.model, self.optimizer, self.schedule = parts

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean over the samples."""
        return nn.functional.mse_loss(self.model(inputs), targets)

    def step(self) -> None:
        """Make a step, and drop the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Of the model; on rank 0, if it is sharded."""
        return self.strategy.model_state(self.model)

    def optimizer_state(self) -> dict[str, Any]:
        """Of the optimizer; on rank 0, if it is sharded."""
        return self.strategy.optimizer_state(self.model, self.optimizer)

    def put_back(self, model: Mapping[str, Any], optimizer: Mapping[str, Any]) -> None:
        """Load both states."""
        self.strategy.load_model_state(self.model, model)
        self.strategy.load_optimizer_state(self.model, self.optimizer, optimizer)


class Bench:
    """Makes what a rule needs, in one process of several.

    Args:
        rank: Of this process.
        factory: Makes the strategy.
        config: Training configuration.
        tolerance: Largest difference of a weight.
        world_size: Number of processes.
        ports: Where the processes meet, at the first and at the second time.
        folder: Common to all processes.
    """

    def __init__(
        self,
        rank: int,
        factory: Factory,
        config: dict[str, Any],
        tolerance: float,
        world_size: int,
        ports: list[int],
        folder: str,
    ) -> None:
        self.rank, self.world_size, self.folder = rank, world_size, Path(folder)
        self._factory, self._config, self._tolerance = factory, config, tolerance
        self._ports = ports
        self.start_again()

    def start_again(self) -> None:
        """Make a new strategy, whose processes meet at another port."""
        os.environ.update(
            RANK=str(self.rank),
            LOCAL_RANK=str(self.rank),
            WORLD_SIZE=str(self.world_size),
            LOCAL_WORLD_SIZE=str(self.world_size),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(self._ports.pop(0)),
        )
        self.strategy = self._factory()

    def model(self, seed: int = 0) -> Model:
        """A model whose weights follow from a seed."""
        torch.manual_seed(seed)
        return Model()

    def distribute(self, optimizer: Any, seed: int = 0, precision: str = "fp32") -> Training:
        """A training under the strategy."""
        values = {**self._config, "precision": precision, "batch_size": 1}
        options = self.strategy.default_options(TrainingConfiguration(**values))
        parts = self.strategy.distributed(*_parts(self.model(seed), optimizer), **options)
        return Training(self.strategy, parts)

    def alone(self, optimizer: Any, seed: int = 0) -> Training:
        """A training of a single process, without the strategy."""
        return Training(
            NonDistributedStrategy(), _parts(self.model(seed).to(self.strategy.device()), optimizer)
        )

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of all ranks together."""
        generator = torch.Generator().manual_seed(100 + number)
        inputs = torch.randn(GLOBAL_BATCH, 5, generator=generator)
        targets = torch.randn(GLOBAL_BATCH, 3, generator=generator)
        device = self.strategy.device()
        return inputs.to(device), targets.to(device)

    def own_batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of this rank."""
        inputs, targets = self.batch(number)
        return inputs[self.rank :: self.world_size], targets[self.rank :: self.world_size]

    def compare(
        self, found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float | None = None
    ) -> None:
        """Compare a model's state with that of a single process."""
        if self.strategy.is_sharded and self.rank != 0 and not found:
            return
        allowed = self._tolerance if tolerance is None else tolerance
        must_equal(set(found), set(expected), "the names in model_state()")
        for name, value in expected.items():
            difference = (found[name].cpu() - value.cpu()).abs().max().item()
            must(
                difference <= allowed,
                f"{name} differs from that of a single process by {difference:.2g}",
            )

    def compare_outputs(self, training: Training, alone: Training) -> None:
        """Compare what two models make of the same inputs, outside of a training."""
        inputs, _ = self.batch(50)
        with torch.no_grad():
            for one in (training, alone):
                one.model.eval()  # DeepSpeed's returns nothing
            outputs = [one.model(inputs) for one in (training, alone)]
        difference = (outputs[0] - outputs[1]).abs().max().item()
        must(difference <= 10 * self._tolerance, f"outputs differ by {difference:.2g}")


def sgd(model: nn.Module) -> Optimizer:
    """An optimizer that, unlike Adam, tells a sum of gradients from their mean."""
    return SGD(model.parameters(), lr=0.2, momentum=0.9)


def adamw(model: nn.Module) -> Optimizer:
    """An optimizer with a state for each parameter, and two groups."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    biases = [p for p in model.parameters() if p.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    return AdamW(groups, lr=0.01)


def plain_step(
    training: Training, inputs: torch.Tensor, targets: torch.Tensor, max_norm: float | None = None
) -> None:
    """A user's own loop."""
    training.optimizer.zero_grad()
    training.loss(inputs, targets).backward()  # type: ignore[no-untyped-call]
    if max_norm is not None:
        nn.utils.clip_grad_norm_(training.model.parameters(), max_norm)
    training.optimizer.step()


def _parts(model: nn.Module, make: Callable[[nn.Module], Optimizer]) -> tuple[Any, Any, Any]:
    optimizer = make(model)
    return model, optimizer, StepLR(optimizer, step_size=1, gamma=0.5)
