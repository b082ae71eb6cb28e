"""A logger of the user's own, written from scratch on the base class."""

import json
from pathlib import Path

from dataset import Net, PointsGetter, PointsSplitter
from hpo import arguments, ray_arguments

from itwinai.loggers import Logger, check_initialized, check_not_initialized
from itwinai.pipeline import Pipeline
from itwinai.torch.trainer import TorchTrainer


class LinesLogger(Logger):
    """One JSON line per item."""

    supported_kinds = ("metric", "param")

    def __init__(self, savedir="mllogs", log_freq="epoch", log_on_workers=0) -> None:
        super().__init__(savedir=savedir, log_freq=log_freq, log_on_workers=log_on_workers)
        self.file = None

    @check_not_initialized
    def create_logger_context(self, rank: int = 0, **kwargs) -> None:
        self.worker_rank = rank
        self.is_initialized = True
        if not self.should_log():
            return
        Path(self.savedir).mkdir(parents=True, exist_ok=True)
        self.file = (Path(self.savedir) / f"lines-{rank}.jsonl").open("a")

    @check_initialized
    def destroy_logger_context(self) -> None:
        if self.file is not None:
            self.write({"end": True})
            self.file.close()
            self.file = None
        self.is_initialized = False

    @check_initialized
    def save_hyperparameters(self, params) -> None:
        if self.should_log():
            self.write({"params": dict(params)})

    @check_initialized
    def log(self, item, identifier, kind="metric", step=None, batch_idx=None, **kwargs) -> None:
        if self.should_log(batch_idx=batch_idx) and kind in self.supported_kinds:
            self.write({"name": identifier, "value": float(item), "step": step})

    def write(self, content) -> None:
        self.file.write(json.dumps(content, default=str) + "\n")
        self.file.flush()


def main() -> None:
    args = arguments()
    trainer = TorchTrainer(
        config={"batch_size": 16, "optim_lr": 0.01, "num_workers_dataloader": 0},
        epochs=2,
        model=Net(),
        strategy=args.strategy,
        random_seed=1,
        logger=LinesLogger(savedir=Path("mllogs").resolve(), log_on_workers=[0, 1]),
        **ray_arguments(args, "validation_loss"),
    )
    Pipeline([PointsGetter(), PointsSplitter(0.6, 0.4), trainer]).execute()


if __name__ == "__main__":
    main()
