"""A trainer with its own model, loss, optimizer and ``train()``, which reports to Ray."""

import json
from pathlib import Path

import torch
from dataset import Net, PointsGetter, PointsSplitter
from hpo import arguments, ray_arguments
from torch import nn

from itwinai.pipeline import Pipeline
from itwinai.torch.monitoring.monitoring import measure_gpu_utilization
from itwinai.torch.profiling.profiler import profile_torch_trainer
from itwinai.torch.trainer import TorchTrainer


class MyTrainer(TorchTrainer):
    def create_model_loss_optimizer(self) -> None:
        self.model = Net(hidden=6)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.config.optim_lr)
        self.model, self.optimizer, self.lr_scheduler = self.strategy.distributed(
            model=self.model,
            optimizer=self.optimizer,
            lr_scheduler=None,
            **self.get_default_distributed_kwargs(),
        )

    @profile_torch_trainer
    @measure_gpu_utilization
    def train(self) -> None:
        self.log(self.strategy.name, "strategy", kind="param")
        best = float("inf")
        for self.current_epoch in range(self.current_epoch, self.epochs):  # noqa: B020
            self.set_epoch()
            self.model.train()
            for batch_idx, (points, labels) in enumerate(self.train_dataloader):
                loss = self.step(points, labels, batch_idx)
            validation_loss = self.validate()
            if validation_loss < best:
                best = validation_loss
                self.save_checkpoint(name="best_model", best_validation_metric=best)
            self.save_checkpoint(name=f"epoch_{self.current_epoch}")
            self.ray_report(metrics={"loss": validation_loss, "last_train_loss": float(loss)})
        self.write_facts(validation_loss)

    def step(self, points, labels, batch_idx):
        points, labels = points.to(self.device), labels.to(self.device)
        self.optimizer.zero_grad()
        loss = self.loss(self.model(points), labels)
        loss.backward()
        self.optimizer.step()
        self.log(loss.item(), "my_loss", step=self.train_glob_step, batch_idx=batch_idx)
        self.train_glob_step += 1
        return loss

    @torch.no_grad()
    def validate(self) -> float:
        self.model.eval()
        losses = [
            self.loss(self.model(points.to(self.device)), labels.to(self.device))
            for points, labels in self.validation_dataloader
        ]
        gathered = self.strategy.gather(torch.stack(losses).mean(), dst_rank=0)
        mean = torch.stack(gathered).mean().item() if self.strategy.is_main_worker else None
        return self.strategy.broadcast_obj(mean, src_rank=0)

    def write_facts(self, loss: float) -> None:
        facts = {
            "loss": loss,
            "world_size": self.strategy.global_world_size(),
            "steps": self.train_glob_step,
        }
        path = Path(self.checkpoints_location) / f"facts-{self.strategy.global_rank()}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts))


def main() -> None:
    args = arguments()
    trainer = MyTrainer(
        config={"batch_size": 8, "optim_lr": 0.1, "num_workers_dataloader": 0},
        epochs=2,
        strategy=args.strategy,
        random_seed=1,
        **ray_arguments(args, "loss"),
    )
    Pipeline([PointsGetter(), PointsSplitter(0.6, 0.4), trainer]).execute()


if __name__ == "__main__":
    main()
