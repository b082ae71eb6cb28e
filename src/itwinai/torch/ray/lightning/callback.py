"""A training by Lightning, as a trial of a study sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import itwinai
from itwinai.errors import MissingPackageError
from itwinai.hpo.errors import UnkeepableError
from itwinai.hpo.isolation.support import support
from itwinai.reporting import TrialStopped
from itwinai.torch.training.source import generator_states

try:
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.plugins.io import CheckpointIO
    from lightning.pytorch.utilities.combined_loader import CombinedLoader
    from lightning.pytorch.utilities.seed import isolate_rng
except ImportError as error:
    raise MissingPackageError(
        f"TrialCallback needs lightning ({error}): pip install 'itwinai[lightning]'"
    ) from error

if TYPE_CHECKING:
    from itwinai.hpo.functions import Trial

#: What a resumed training does not need, and may hold anything: the constructors' arguments.
_NOT_KEPT = {
    *("hparams_name", "hyper_parameters", "hparams_type"),
    *("datamodule_hparams_name", "datamodule_hyper_parameters", "datamodule_hparams_type"),
}


class TrialCallback(Checkpoint):  # type: ignore[misc] # the last of all callbacks, for Lightning
    """Reports a training to its trial, keeps Lightning's checkpoints, and ends it when told to.

    Each validation is reported, or each epoch where there is none, with all that was logged. One in
    the middle of an epoch (``val_check_interval``) is reported without a checkpoint, with what was
    logged since the epoch began: of training, what Lightning has of the last step. The end of that
    epoch is a report with a checkpoint in any case. Lightning takes the callback for a
    ``ModelCheckpoint`` and adds none of its own. What another callback has trained beyond
    ``max_epochs`` is not reported.

    Args:
        trial: The trial, as the function has it.

    Example:
        >>> def train(config, trial):
        ...     callback = TrialCallback(trial)
        ...     options = trainer_options(trial)
        ...     trainer = lightning.Trainer(max_epochs=3, callbacks=[callback], **options)
        ...     trainer.fit(Digits(config.width), loader, ckpt_path=callback.ckpt_path)
    """

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self._trial = trial
        self._file = trial.folder / f"resumed-{trial.rank}.ckpt"
        self._random: Any = None
        #: At the end of the last epoch.
        self._metrics: dict[str, float] = {}
        #: When the running epoch began, as Lightning had them; logged anew, they are other objects.
        self._before: dict[str, Any] = {}
        #: Whether another callback ended the training after it.
        self._ends = False
        #: Epochs that the training has, without those that other callbacks add; below 0: no limit.
        self._epochs = -1
        self._goes_on = self._validated = self._stopped = False

    @property
    def ckpt_path(self) -> Path | None:
        """What ``fit`` takes as its argument of that name; None where the trial begins."""
        with isolate_rng():  # module and data are made as they were at first
            checkpoint = self._trial.load()
            random = support().random_state()
        if checkpoint is None:
            return None
        self._random = random
        torch.save(checkpoint, self._file)
        return self._file

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Ask for the epochs before ``StochasticWeightAveraging`` adds one for batch norms."""
        self._epochs = -1 if trainer.max_epochs is None else trainer.max_epochs

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Put random numbers back, before ``configure_optimizers`` may ask for the data."""
        self._put_random_numbers_back()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Put them back where Lightning loads a checkpoint later; it shuffles after this."""
        self._put_random_numbers_back()

    def _put_random_numbers_back(self) -> None:
        if self._random is not None:
            support().set_random_state(self._random)
            self._random, self._goes_on = None, True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Do what the checkpoint was too early for."""
        if not self._goes_on:
            return
        self._goes_on = False
        self._file.unlink(missing_ok=True)
        _begin_next_epoch(trainer.fit_loop)
        trainer.should_stop |= self._ends
        if self._trial.rank == 0:
            _warn_of_generators(trainer)
        for config in trainer.lr_scheduler_configs:
            is_due = config.interval == "epoch" and trainer.current_epoch % config.frequency == 0
            if config.reduce_on_plateau and is_due and config.monitor in self._metrics:
                pl_module.lr_scheduler_step(config.scheduler, self._metrics[config.monitor])

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Note what was logged before."""
        self._before = dict(trainer.callback_metrics)
        self._validated = False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report in the middle of an epoch; at its end, note that there is something to report."""
        self._validated = not trainer.sanity_checking
        share = _share(trainer)
        if self._validated and share < 1:
            logged = trainer.callback_metrics.items()
            new = {name: value for name, value in logged if value is not self._before.get(name)}
            self._report(trainer, share, _numbers(new), None)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the epoch."""
        if trainer.enable_validation and (not self._validated or _share(trainer) < 1):
            return
        # Both for the checkpoint to know.
        self._metrics = _numbers(trainer.callback_metrics)
        self._ends = trainer.should_stop and not self._stopped
        self._report(trainer, 1, self._metrics, self._checkpoint(trainer))

    def _report(
        self,
        trainer: Any,
        share: float,
        metrics: Mapping[str, float],
        checkpoint: Mapping[str, Any] | None,
    ) -> None:
        """Report after a part of the running epoch."""
        if 0 <= self._epochs <= trainer.current_epoch:
            return
        epoch = (trainer.current_epoch + share) / (trainer.check_val_every_n_epoch or 1)
        try:
            self._trial.report(
                metrics, checkpoint=checkpoint, epoch=epoch, step=trainer.global_step
            )
        except TrialStopped:
            if self._stopped:  # it has gone on, as its min_epochs may want
                raise
            self._stopped = trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What was logged, for the schedules that wait for a plateau of it, and what follows."""
        return {"metrics": self._metrics, "ends": self._ends}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self._metrics, self._ends = state_dict["metrics"], state_dict.get("ends", False)

    def _checkpoint(self, trainer: Any) -> Mapping[str, Any] | None:
        """What Lightning would write to a file, on rank 0; all ranks must ask for it."""
        kept, strategy = _Kept(), trainer.strategy
        usual, strategy.checkpoint_io = strategy.checkpoint_io, kept
        try:
            trainer.save_checkpoint(self._trial.folder / "parts.ckpt", weights_only=False)
        finally:
            strategy.checkpoint_io = usual
        if self._trial.rank == 0 and kept.checkpoint is None:
            raise UnkeepableError(
                f"{type(strategy).__name__} writes a checkpoint in parts, which a trial cannot "
                "keep. Give it state_dict_type='full', or take another strategy"
            )
        return kept.checkpoint


def _begin_next_epoch(loop: Any) -> None:
    """Leave out the end of the epoch that the checkpoint holds: it was gone through before.

    Of a training that counts its steps (``max_steps``) Lightning would go through it once more, and
    call what is to be done there.
    """
    if not getattr(loop, "restarted_on_epoch_end", False):  # not in every Lightning
        return
    loop.epoch_progress.increment_completed()
    loop.reset_restart_stage()
    # Its own setter would not take it, that of its base does.
    base = [kind for kind in type(loop).__mro__ if "restarting" in vars(kind)][-1]
    vars(base)["restarting"].fset(loop, False)


def _warn_of_generators(trainer: Any) -> None:
    """Say that the data are in another order than they would be, where a loader has it alone."""
    loaders = CombinedLoader(trainer.train_dataloader).flattened
    if any(generator_states(loader, torch.default_generator) for loader in loaders):
        itwinai.logger.warning(
            "warning: the training data is shuffled by a generator of its own, which Lightning "
            "does not keep: after this resume it is in the order of the first epochs again. Leave "
            "the loader's generator out."
        )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _share(trainer: Any) -> float:
    """The part of the running epoch that is trained; all of it where its length is not known."""
    batches, loop = trainer.num_training_batches, trainer.fit_loop.epoch_loop
    return (loop.batch_idx + 1) / batches if math.isfinite(batches) else 1


class _Kept(CheckpointIO):  # type: ignore[misc]
    """Keeps a checkpoint instead of writing it."""

    def __init__(self) -> None:
        self.checkpoint: dict[str, Any] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        self.checkpoint = {k: value for k, value in checkpoint.items() if k not in _NOT_KEPT}

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        raise NotImplementedError

    def remove_checkpoint(self, path: Any) -> None:
        raise NotImplementedError


class TrialEnvironment(TorchElasticEnvironment):  # type: ignore[misc]
    """Takes each process of a trial for a node of its own: it sees no devices but its own."""

    def local_rank(self) -> int:
        """The only process of its node."""
        return 0

    def node_rank(self) -> int:
        """As many nodes as processes."""
        return int(self.global_rank())


def trainer_options(trial: Trial) -> dict[str, Any]:
    """Arguments of Lightning's ``Trainer`` in a trial: its place and devices, and no output.

    Change them as any dictionary: ``trainer_options(trial) | {"strategy": "fsdp"}``.

    Args:
        trial: The trial, as the function has it.
    """
    several = trial.world_size > 1
    return {
        "accelerator": "gpu" if trial.device == "cuda" else "cpu",
        "devices": 1,
        "num_nodes": trial.world_size,
        "strategy": "ddp" if several else "auto",
        "plugins": [TrialEnvironment()] if several else [],
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
