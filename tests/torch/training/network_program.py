"""Trains two networks on two ranks; writes rank 0's second one and its metrics."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.type import DistributedStrategyError

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_trainings import make_data, options


class Adversarial(TorchTrainer):
    """Its critic is handed to the strategy, unless it is to be left alone."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        critic = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
        optimizer = torch.optim.Adam(critic.parameters(), lr=0.05)
        if not self.config.alone:
            kwargs = self.get_default_distributed_kwargs()
            critic, optimizer, _ = self.strategy.distributed(critic, optimizer, **kwargs)
        self.critic, self.critic_optimizer = critic, optimizer
        if self.config.parameter:
            self.scale = nn.Parameter(torch.ones(1))
            self.critic_optimizer.add_param_group({"params": [self.scale]})

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        loss, metrics = super().train_step(batch, batch_idx)
        with torch.no_grad():
            fake = self.model(batch[0])
        fake = fake * self.scale if self.config.parameter else fake
        self.critic_optimizer.zero_grad()
        judged = (self.critic(fake) - 1).square().mean()
        self.strategy.backward(judged, self.critic)
        self.critic_optimizer.step()
        return loss, {**metrics, "critic": judged.detach()}


def main(folder: Path, choices: dict[str, Any]) -> None:
    trainer = Adversarial(
        **options(
            folder,
            epochs=choices["epochs"],
            strategy=choices["strategy"],
            config={name: choices.get(name, False) for name in ("alone", "parameter")},
            checkpoint_every=1,
            from_checkpoint=folder / "checkpoints" if choices.get("resume") else None,
        )
    )
    outcome: dict[str, Any] = {}
    keep = trainer.train

    def train() -> None:
        keep()
        state = trainer.strategy.model_state(trainer.critic)
        outcome["critic"] = [v for t in state.values() for v in t.flatten().tolist()]
        outcome["rank"] = trainer.strategy.global_rank()

    trainer.train = train
    try:
        trainer.execute(make_data(60), make_data(35))
    except DistributedStrategyError as error:
        outcome = {"refused": str(error), "rank": 0}
    outcome["metrics"] = trainer.epoch_metrics
    if outcome.pop("rank") == 0:
        (folder / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
