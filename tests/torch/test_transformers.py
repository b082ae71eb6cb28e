"""A ``Trainer`` of Transformers in a study, on a real Ray; its model is made here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset, random_split

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from itwinai.errors import CheckpointError
from itwinai.hpo import StudyResult, Trial, TrialState, tune
from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.functions import FunctionProgram
from itwinai.hpo.trial import Assignment
from itwinai.reporting import NullReporter, TrialStopped
from itwinai.testing.integrations import check_integration
from itwinai.torch.transformers import TrialCallback

FILE = np.zeros(1, np.uint8)
SPACE = {"lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1}}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for the whole module, whose processes ask no other host for anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        with ray_cluster():
            yield


class Training:
    """A tiny model on sentences of eight tokens, and whether the first is the larger.

    Args:
        killed: A file that appears when the process of trial 1 is killed, in its third epoch;
            None: never.
        saves: When the trainer saves.
        every: Steps between two evaluations; None: an epoch.
    """

    def __init__(
        self, killed: Path | None = None, saves: str = "epoch", every: int | None = None
    ) -> None:
        self.killed, self.saves, self.every = killed, saves, every

    def __call__(self, config: Any, trial: Trial) -> None:
        callback = TrialCallback(trial)
        arguments = TrainingArguments(
            output_dir=str(trial.folder),
            num_train_epochs=4,
            per_device_train_batch_size=16,
            learning_rate=config.lr,
            eval_strategy="epoch" if self.every is None else "steps",
            eval_steps=self.every,
            save_strategy=self.saves,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=trial.seed,
        )
        size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
        shape = BertConfig(vocab_size=20, num_hidden_layers=1, max_position_embeddings=8, **size)
        seen, unseen = sentences()[:128], sentences()[128:]
        trainer = Trainer(
            BertForSequenceClassification(shape),
            arguments,
            train_dataset=seen,
            eval_dataset=unseen,
            callbacks=[callback, Killing(trial, self.killed)],
        )
        trainer.train(resume_from_checkpoint=callback.checkpoint)
        trainer.evaluate()


class Killing(TrainerCallback):  # type: ignore[misc]
    """Writes down which epochs begin, and kills the process in one."""

    def __init__(self, trial: Trial, mark: Path | None) -> None:
        self.trial, self.mark = trial, mark

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trial.rank != 0:
            return
        with (self.trial.folder / "begun.txt").open("a") as file:
            file.write(f"{round(state.epoch)} ")
        due = self.trial.number == 1 and round(state.epoch) == 2
        if self.mark is not None and due and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def sentences() -> list[dict[str, Any]]:
    tokens = torch.randint(20, (192, 8), generator=torch.Generator().manual_seed(0))
    data = TensorDataset(tokens, (tokens[:, 0] > tokens[:, 1]).long())
    return [{"input_ids": sentence, "labels": label} for sentence, label in data]


def run(function: Any, folder: Path, **settings: Any) -> StudyResult:
    settings = {"num_samples": 2, "scheduler": "none", "algorithm": "random", "seed": 3} | settings
    settings = {"resources_per_worker": {"CPU": 0.5}, "max_concurrent_trials": 1} | settings
    known = {"config": {"lr": 1e-2}, "epochs": 4, "metric": "eval_loss", "mode": "min"}
    return tune(function, SPACE, storage_path=folder, **(known | settings))


@pytest.mark.exhaustive
def test_the_callback_keeps_all_rules_of_an_integration() -> None:
    assert check_integration(Training(), {"lr": 1e-2}, epochs=4)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_trial_goes_on_to_the_numbers_of_one_that_was_not(
    tmp_path: Path, workers: int
) -> None:
    points = [{"lr": 1e-2}]  # of the default, which trains undisturbed
    training = Training(tmp_path / "killed")
    result = run(training, tmp_path, points=points, workers_per_trial=workers)
    assert (tmp_path / "killed").exists()
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED] * 2
    undisturbed, killed = (trial.history for trial in result.trials)
    assert [set(epoch) for epoch in undisturbed] == [{"eval_loss"}] * 4
    assert len({epoch["eval_loss"] for epoch in undisturbed}) == 4
    assert killed == undisturbed
    begun = (tmp_path / "study/trials/00001/begun.txt").read_text()
    assert begun.split() == ["0", "1", "2", "2", "3"]
    assert len(list(tmp_path.glob("study/trials/*/*/"))) == 1


def test_a_trainer_is_stopped_and_one_that_saves_nothing_reports(tmp_path: Path) -> None:
    early = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
    points = [{"lr": 1e-2}, {"lr": 1e-4}]
    result = run(Training(saves="no"), tmp_path, num_samples=3, scheduler=early, points=points)
    states = [trial.state for trial in result.trials]
    assert TrialState.STOPPED in states
    assert set(states) <= {TrialState.STOPPED, TrialState.COMPLETED}
    assert not list(tmp_path.glob("study/trials/*/*/"))


@pytest.mark.parametrize(
    ("epochs", "at"), [(4, [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]), (8, range(1, 9))]
)
def test_evaluations_by_steps_are_shares_of_the_training(
    tmp_path: Path, epochs: int, at: Sequence[float]
) -> None:
    # 128 sentences in batches of 16: an epoch has eight steps.
    result = run(Training(saves="no", every=4), tmp_path, epochs=epochs, num_samples=1)
    assert list(result.trials[0].at) == list(at)
    assert result.trials[0].state is TrialState.COMPLETED


class Listener(NullReporter):
    """Hears the reports of a trial, and has it end after some of them."""

    def __init__(self, heard: int) -> None:
        self.heard = heard
        self.reports: list[Any] = []
        self.checkpoint: Path | None = None

    def report(self, metrics: Any, checkpoint: Any = None, progress: Any = None) -> bool:
        self.reports.append(metrics)
        self.checkpoint = checkpoint
        return len(self.reports) == self.heard


def drawing(config: Any, trial: Trial) -> None:
    """Draws its data and its model after the callback was made."""
    callback = TrialCallback(trial)
    data = random_split(sentences(), [128, 64])
    arguments = TrainingArguments(
        output_dir=str(trial.folder),
        num_train_epochs=4,
        per_device_train_batch_size=16,
        eval_strategy="epoch",
        save_strategy=config["saves"],
        metric_for_best_model="eval_loss" if config["sets"] == 1 else "eval_some_loss",
        load_best_model_at_end=config["saves"] != "no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=trial.seed,
        **config["arguments"],
    )
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    shape = BertConfig(vocab_size=20, num_hidden_layers=1, max_position_embeddings=8, **size)
    early = EarlyStoppingCallback(config["patience"], early_stopping_threshold=9.0)
    trainer = Trainer(
        BertForSequenceClassification(shape),
        arguments,
        train_dataset=data[0],
        eval_dataset={"some": data[1], "more": data[1]} if config["sets"] > 1 else data[1],
        callbacks=[callback, early],
    )
    trainer.train(resume_from_checkpoint=callback.checkpoint)


@pytest.mark.parametrize(
    ("arguments", "patience", "whole"),
    [
        ({}, 9, 4),
        ({"eval_on_start": True}, 9, 4),
        ({"save_only_model": True}, 9, 4),
        ({}, 2, 3),
        ({}, 1, 2),
    ],
)
def test_a_trial_that_goes_on_ends_where_and_as_one_that_was_not_lost(
    tmp_path: Path, arguments: dict[str, Any], patience: int, whole: int
) -> None:
    config = {"arguments": arguments, "patience": patience, "sets": 1, "saves": "epoch"}
    program = FunctionProgram(drawing, config, epochs=4)
    undisturbed, first, second = Listener(4), Listener(2), Listener(4)
    folder = str(tmp_path / "parts")
    whole_trial = Assignment(0, {}, str(tmp_path / "whole"), seed=1)
    for trial, listener in ((whole_trial, undisturbed), (Assignment(0, {}, folder, seed=1), first)):
        with suppress(TrialStopped):
            program(trial, Place(), listener)
    with suppress(TrialStopped):
        program(Assignment(0, {}, folder, str(first.checkpoint), 2, seed=1), Place(), second)
    assert [*first.reports, *second.reports] == undisturbed.reports
    assert len(undisturbed.reports) == whole


@pytest.mark.parametrize("saves", ["epoch", "no"])
def test_sets_that_are_evaluated_together_are_one_report(tmp_path: Path, saves: str) -> None:
    config = {"arguments": {}, "patience": 9, "sets": 2, "saves": saves}
    listener = Listener(5)
    program = FunctionProgram(drawing, config, epochs=4)
    program(Assignment(0, {}, str(tmp_path / "trial"), seed=1), Place(), listener)
    assert [set(report) for report in listener.reports] == [
        {"eval_some_loss", "eval_more_loss"}
    ] * 4


class Holding:
    """A trial with a checkpoint."""

    rank = 0
    total = 4

    def __init__(self, folder: Path, content: Any) -> None:
        self.folder, self.content = folder, content

    def load(self) -> Any:
        return self.content

    def report(self, metrics: Any, checkpoint: Any = None, **place: Any) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    "content", [1.0, {"weights": 1.0}, {"../elsewhere": FILE}, {"/elsewhere": FILE}]
)
def test_a_checkpoint_of_anything_else_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CheckpointError, match="its checkpoint"):
        TrialCallback(Holding(tmp_path / "trial", content))
    assert not list(tmp_path.glob("**/elsewhere"))
