"""A trial reports in the middle of its epochs, is stopped there, and goes on from there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from small_trainings import make_data, options
from torch.utils.data import DataLoader, IterableDataset

from itwinai.errors import ConfigurationError
from itwinai.hpo import TrialState
from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.trial import Assignment
from itwinai.reporting import END_OF_EPOCH, NullReporter, Progress, TrialStopped
from itwinai.torch.ray.program import TrainerProgram
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer

#: Four steps in an epoch.
DATA = (make_data(60), make_data(35, seed=8), None)
LR = {"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.3}}


class GoneError(Exception):
    """The process of a trial is gone."""


class Listener(NullReporter):
    """Keeps the reports of a trial, which ends at one of them."""

    def __init__(self, stop_at: float | None = None, lost_at: float | None = None) -> None:
        self.stop_at, self.lost_at = stop_at, lost_at
        self.reports: dict[float | None, Mapping[str, float]] = {}
        self.progress: list[Progress] = []
        self.checkpoints: list[str | None] = []
        self.notes: list[str] = []

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        self.reports[progress.epochs] = metrics
        self.progress.append(progress)
        self.checkpoints.append(checkpoint and checkpoint.name)
        if progress.epochs == self.lost_at:
            raise GoneError
        return progress.epochs == self.stop_at

    def note(self, about: str, text: str) -> None:
        self.notes.append(text)


def trained(
    folder: Path,
    listener: Listener,
    checkpoint: tuple[str, float] | None = None,
    params: dict[str, Any] | None = None,
    trainer: type[TorchTrainer] = TorchTrainer,
    **changes: Any,
) -> Listener:
    """Train a trial, from a checkpoint of so many epochs if there is one."""
    arguments = options(folder, epochs=2, **({"validate_every_steps": 2} | changes))
    program = TrainerProgram(trainer(**arguments), DATA)
    path, epochs = (None, 0.0) if checkpoint is None else checkpoint
    found = None if path is None else str(folder / path)
    with suppress(GoneError, TrialStopped):
        program(Assignment(0, params or {}, str(folder), found, epochs), Place(), listener)
    return listener


def test_evaluations_in_the_middle_of_epochs_are_reports(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", Listener(), validate_every_steps=None)
    heard = trained(tmp_path / "parts", Listener())
    assert list(heard.reports) == [0.5, 1, 1.5, 2]
    assert [progress.steps for progress in heard.progress] == [2, 4, 6, 8]
    assert {at: heard.reports[at] for at in (1, 2)} == whole.reports
    assert set(heard.reports[0.5]) == {
        "validation_loss",
        "validation_accuracy",
        "validation_error",
    }


@pytest.mark.parametrize("kind", ["loop", "own"])
def test_a_trial_ends_where_its_study_says(tmp_path: Path, kind: str) -> None:
    listener = Listener(stop_at=1.5)
    trained(tmp_path, listener, trainer=Own if kind == "own" else TorchTrainer)
    assert list(listener.reports) == [0.5, 1, 1.5]


class Own(TorchTrainer):
    """A loop of the user's own."""

    def train(self) -> None:
        for _ in self.remaining_epochs():
            for inputs, target in self.remaining_batches():
                self.model.train()
                self.optimize(self.loss(self.model(inputs), target))
            self.end_epoch({"validation_loss": self.validation_epoch()})


def test_what_a_checkpoint_holds_is_told_with_it(tmp_path: Path) -> None:
    at_each = trained(tmp_path / "each", Listener(), checkpoint_every_steps=2)
    assert at_each.checkpoints == ["epoch_0_step_2", "epoch_0", "epoch_1_step_2", "epoch_1"]
    assert [progress.saved for progress in at_each.progress] == [0.5, None, 1.5, None]
    between = trained(tmp_path / "between", Listener(), checkpoint_every_steps=3)
    assert between.checkpoints == [None, "epoch_0", "epoch_1_step_2", "epoch_1"]
    # The epochs' own ones are rarer than those of steps: the newest is of the middle of one.
    rare = trained(tmp_path / "rare", Listener(), checkpoint_every_steps=3, checkpoint_every=2)
    assert rare.checkpoints == [None, "epoch_0_step_3", "epoch_1_step_2", "epoch_1"]
    assert [progress.saved for progress in rare.progress] == [None, 0.75, 1.5, None]
    # After its last step an epoch is not over.
    last = trained(tmp_path / "last", Listener(), checkpoint_every_steps=4, checkpoint_every=2)
    assert last.checkpoints == [None, "epoch_0_step_4", "epoch_0_step_4", "epoch_1"]
    assert [progress.saved for progress in last.progress] == [None, 0.999999, 0.999999, None]


def test_a_checkpoint_after_the_last_step_is_gone_on_with_to_the_same_epochs(
    tmp_path: Path,
) -> None:
    saving = {"checkpoint_every_steps": 4, "checkpoint_every": 2}
    whole = trained(tmp_path / "whole", Listener(), **saving)
    folder = tmp_path / "lost"
    trained(folder, Listener(lost_at=1.5), **saving)
    rest = trained(folder, Listener(), ("epoch_0_step_4", 0.999999), **saving)
    assert rest.reports == {at: whole.reports[at] for at in (1, 1.5, 2)}


def test_a_checkpoint_that_the_record_does_not_know_counts_as_one_of_its_epoch(
    tmp_path: Path,
) -> None:
    saving = {"checkpoint_every_steps": 2, "checkpoint_every": 2, "validate_every_steps": None}
    folder = tmp_path / "lost"
    trained(folder, Listener(lost_at=1), **saving)
    rest = trained(folder, Listener(stop_at=1), ("epoch_0_step_2", 0.5), **saving)
    assert list(rest.reports) == [1]
    assert all(progress.saved < 1 for progress in rest.progress)


def test_a_trial_goes_on_in_the_middle_of_an_epoch_to_the_same_bits(tmp_path: Path) -> None:
    saving = {"checkpoint_every_steps": 2, "config": {"lr_scheduler": "cosine"}}
    whole = trained(tmp_path / "whole", Listener(), **saving)
    folder = tmp_path / "lost"
    trained(folder, Listener(lost_at=1.5), **saving)
    rest = trained(folder, Listener(), ("epoch_1_step_2", 1.5), **saving)
    assert rest.reports == {2: whole.reports[2]}
    assert [progress.steps for progress in rest.progress] == [8]


def test_a_newer_checkpoint_than_the_record_knows_is_used(tmp_path: Path) -> None:
    saving = {"checkpoint_every_steps": 1, "validate_every_steps": 3}
    whole = trained(tmp_path / "whole", Listener(), **saving)
    assert list(whole.reports) == [0.75, 1, 1.5, 2]
    folder = tmp_path / "lost"
    trained(folder, Listener(lost_at=1.5), **saving)
    # The record knows the first epoch alone.
    rest = trained(folder, Listener(), ("epoch_0", 1), **saving)
    assert rest.reports == {2: whole.reports[2]}


def test_where_a_job_ends_the_next_report_has_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stop").touch()
    monkeypatch.setenv("ITWINAI_STOP_FILE", str(tmp_path / "stop"))
    heard = trained(tmp_path, Listener(stop_at=0.5))
    assert heard.checkpoints == ["epoch_0_step_2"]
    assert [progress.saved for progress in heard.progress] == [0.5]


def test_without_its_checkpoint_a_trial_reports_only_what_is_new(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", Listener())
    again = trained(tmp_path / "again", Listener(), ("epoch_0_step_2", 0.5))
    assert again.reports == {at: whole.reports[at] for at in (1, 1.5, 2)}


def test_what_takes_effect_at_the_end_of_an_epoch_is_not_missed_before(tmp_path: Path) -> None:
    params = {"lr_scheduler_gamma": 0.5, "early_stopping_patience": 3}
    config = {"lr_scheduler": "step", "lr_scheduler_step_size": 1}
    heard = trained(tmp_path, Listener(), params=params, config=config)
    assert list(heard.reports) == [0.5, 1, 1.5, 2]


class Endless(IterableDataset[Any]):
    """Nobody knows how many there are."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(zip(*DATA[0].tensors, strict=True), 60)


class Streaming(TorchTrainer):
    """Trains on a stream."""

    def create_dataloaders(self, *datasets: Any) -> None:
        super().create_dataloaders(*datasets)
        self.train_dataloader = DataLoader(Endless(), batch_size=16)


def test_of_data_without_a_length_a_study_hears_whole_epochs(tmp_path: Path) -> None:
    heard = trained(tmp_path, Listener(), trainer=Streaming)
    assert list(heard.reports) == [1, 2]
    assert len([text for text in heard.notes if "the training set has no length" in text]) > 0


def test_a_metric_that_only_whole_epochs_tell_is_refused(tmp_path: Path) -> None:
    trainer = RayTorchTrainer(
        **options(tmp_path, validate_every_steps=2),
        search_space=LR,
        study={"metric": "train_loss", "mode": "min", "storage_path": tmp_path},
    )
    with pytest.raises(ConfigurationError, match="Leave validate_every_steps out"):
        trainer.execute(*DATA[:2])


@pytest.mark.parametrize("unit", ["epochs", pytest.param("steps", marks=pytest.mark.exhaustive)])
def test_the_processes_of_a_trial_end_together_in_the_middle_of_an_epoch(
    tmp_path: Path, unit: str
) -> None:
    grace = {"epochs": 0.5, "steps": 2}[unit]
    scheduler = {"name": "asha", "grace_period": grace, "unit": unit, "reduction_factor": 2}
    trainer = RayTorchTrainer(
        **options(tmp_path, epochs=1, validate_every_steps=1, config={"batch_size": 8}),
        search_space=LR,
        study={
            "metric": "validation_loss",
            "mode": "min",
            "storage_path": tmp_path,
            "num_samples": 2,
            "points": [{"optim_lr": 1e-4}],
            "scheduler": scheduler,
            "algorithm": "random",
            "workers_per_trial": 2,
            "resources_per_worker": {"CPU": 0.5},
            "max_concurrent_trials": 1,
        },
    )
    with ray_cluster():
        trainer.execute(*DATA[:2])
    result = trainer.study_result
    assert result is not None
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED, TrialState.STOPPED]
    assert result.trials[0].at == (0.25, 0.5, 0.75, 1)
    assert result.trials[1].epochs == 0.5
    logs = [path.read_text() for path in tmp_path.glob("study/trials/*/log*.txt")]
    assert not any("Traceback" in log for log in logs)
