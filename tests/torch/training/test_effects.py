"""What is configured has an effect, in a loop of one's own too, or it is said that it has none."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import MemoryLogger, make_data, options

import itwinai
from itwinai.torch.trainer import TorchTrainer

DATA = make_data(60), make_data(35)
ALL = {
    "lr_scheduler": "exponential",
    "lr_scheduler_gamma": 0.5,
    "gradient_clipping": 0.1,
    "ema_decay": 0.5,
    "early_stopping_patience": 2,
    "precision": "bf16",
}


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


class ByHand(TorchTrainer):
    """Its loop is as one writes it without this package."""

    def train(self) -> None:
        for _ in range(self.epochs):
            for inputs, target in self.train_dataloader:
                self.optimizer.zero_grad()
                self.loss(self.model(inputs), target).backward()
                self.optimizer.step()
            self.after_epoch()

    def after_epoch(self) -> None:
        self.ray_report({"validation_loss": 1.0})


class StepsItsSchedule(ByHand):
    """Lets its schedule go on after the report, and clips by itself."""

    def after_epoch(self) -> None:
        super().after_epoch()
        self.lr_scheduler.step()
        assert self.config.gradient_clipping


class Whole(TorchTrainer):
    """Its loop calls what the trainer offers."""

    def train(self) -> None:
        for _ in self.remaining_epochs():
            self.model.train()
            for inputs, target in self.train_dataloader:
                with self.autocast():
                    loss = self.loss(self.model(inputs), target)
                self.optimize(loss)
            self.end_epoch({"validation_loss": torch.tensor(1.0), "parts": {"a": 2}})


class NeverSteps(TorchTrainer):
    def train_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, target = batch
        self.optimizer.zero_grad()
        loss = self.loss(self.model(inputs), target)
        loss.backward()
        self.optimizer.step()
        return loss, {}


def trained(folder: Path, kind: type[TorchTrainer], **changes: Any) -> Any:
    trainer = kind(**options(folder, **changes))
    trainer.execute(*DATA)
    return trainer


def said(messages: pytest.LogCaptureFixture) -> set[str]:
    """The keys of which it was said, once each, that they had no effect."""
    found = [r.getMessage() for r in messages.records if "has had no effect" in r.getMessage()]
    keys = [text.split("config.")[1].split("=")[0] for text in found]
    assert len(keys) == len(set(keys))
    return set(keys)


def test_a_loop_by_hand_is_told_what_it_forgets(tmp_path, messages):
    trained(tmp_path, ByHand, config=ALL)
    assert said(messages) == set(ALL) - {"lr_scheduler_gamma"}
    assert "config.ema_decay=0.5 has had no effect: nothing called self.optimize(loss)" in (
        messages.text
    )


def test_what_a_loop_does_by_itself_is_not_forgotten(tmp_path, messages):
    trained(tmp_path, StepsItsSchedule, config=ALL)
    assert said(messages) == {"ema_decay", "early_stopping_patience", "precision"}


def test_an_own_step_is_told_what_it_forgets(tmp_path, messages):
    changes = {"lr_scheduler": "cosine", "gradient_accumulation_steps": 2}
    trained(tmp_path, NeverSteps, config={**ALL, **changes})
    forgotten = {"ema_decay", "precision", "gradient_clipping", *changes}
    assert said(messages) == forgotten


@pytest.mark.parametrize("kind", [TorchTrainer, Whole])
def test_what_has_its_effect_is_not_mentioned(tmp_path, messages, kind):
    trained(tmp_path, kind, config=ALL)
    assert said(messages) == set()


def test_one_call_an_epoch_does_all_that_follows_one(tmp_path):
    logger = MemoryLogger()
    trainer = trained(tmp_path, Whole, config=ALL, epochs=9, logger=logger, checkpoint_every=1)
    assert trainer.current_epoch == 2  # the loss never fell
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**3)
    assert trainer.epoch_metrics == {"validation_loss": 1.0, "parts_a": 2.0}
    assert logger.steps("parts_a_epoch") == [0, 1, 2]
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert saved == {"epoch_0", "epoch_1", "epoch_2", "best_model"}


def test_an_own_loop_goes_on_where_it_was(tmp_path):
    config = {key: value for key, value in ALL.items() if key != "early_stopping_patience"}
    whole = trained(tmp_path / "a", Whole, config=config, epochs=4, checkpoint_every=1)
    begun = tmp_path / "a" / "checkpoints" / "epoch_1"
    gone_on = trained(tmp_path / "b", Whole, config=config, epochs=4, from_checkpoint=begun)
    ours, theirs = gone_on.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
