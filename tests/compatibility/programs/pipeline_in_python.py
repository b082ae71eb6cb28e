"""A pipeline in Python, with the trainer as it is."""
# ruff: noqa: T201

from dataset import Net, PointsGetter, PointsSplitter
from hpo import arguments, ray_arguments
from torchmetrics.classification import MulticlassAccuracy

from itwinai.components import Saver, monitor_exec
from itwinai.loggers import ConsoleLogger, LoggersCollection
from itwinai.pipeline import Pipeline
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.trainer import TorchTrainer


class WeightsReport(Saver):
    @monitor_exec
    def execute(self, train_dataset, validation_dataset, test_dataset, model):
        print("sizes", len(train_dataset), len(validation_dataset), len(test_dataset))
        print("model", type(model).__name__)
        return model


def main() -> None:
    args = arguments()
    config = TrainingConfiguration(
        batch_size=16,
        optim_lr=0.01,
        optimizer="adam",
        loss="cross_entropy",
        num_workers_dataloader=0,
    )
    config.shuffle_train = True
    trainer = TorchTrainer(
        config=config,
        epochs=2,
        model=Net(),
        strategy=args.strategy,
        random_seed=1,
        logger=LoggersCollection([ConsoleLogger(log_freq="epoch")]),
        metrics={"accuracy": MulticlassAccuracy(num_classes=2)},
        checkpoints_location="checkpoints",
        checkpoint_every=1,
        **ray_arguments(args, "validation_loss"),
    )
    steps = [PointsGetter(), PointsSplitter(0.6, 0.2, 0.2), trainer, WeightsReport()]
    Pipeline(steps).execute()


if __name__ == "__main__":
    main()
