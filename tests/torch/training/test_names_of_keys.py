"""Keys that nothing reads: refused where that is certain, and said after an epoch elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trainings import CONFIG, MLP, make_data, options

from itwinai.errors import ConfigurationError
from itwinai.loggers import WandBLogger
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer

DATA = make_data()


class Reading(TorchTrainer):
    """Reads a key of its own, in a hook."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        self.log(self.config.weight, "weight")
        return super().train_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("batchsize", "config.batchsize: nothing reads it; did you mean 'batch_size'?"),
        ("optim_rl", "config.optim_rl: nothing reads it; did you mean 'optim_lr'?"),
        ("learning_rate", "config.learning_rate: nothing reads it; did you mean 'optim_lr'?"),
        ("widht", "config.widht: nothing reads it; did you mean 'width'?"),
        ("epochs", "config.epochs: nothing reads it there; epochs is an argument of the trainer"),
        ("num_samples", "config.num_samples: nothing reads it there; num_samples is a key of the"),
        ("zzz", "config.zzz: nothing reads it. Remove it, or read it in a hook of your own"),
    ],
)
@pytest.mark.parametrize("kind", [TorchTrainer, RayTorchTrainer])
def test_a_key_that_nothing_can_read_is_refused(
    key: str, message: str, kind: type[TorchTrainer], tmp_path: Path
) -> None:
    trainer = kind(**options(tmp_path, config={key: 1}))
    with pytest.raises(ConfigurationError) as caught:
        trainer.execute(DATA, DATA)
    assert str(caught.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_all_such_keys_are_named_at_once(tmp_path: Path) -> None:
    trainer = TorchTrainer(**options(tmp_path, config={"batchsize": 4, "optim_rl": 0.5}))
    with pytest.raises(ConfigurationError) as caught:
        trainer.execute(DATA, DATA)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "config.batchsize",
        "config.optim_rl",
    ]


def test_what_the_model_takes_is_read(tmp_path: Path) -> None:
    trainer = TorchTrainer(**options(tmp_path, config={"width": 4}, epochs=1))
    trainer.execute(DATA, DATA)
    assert trainer.config.unread(["width"]) == []


def test_what_no_hook_has_read_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = options(tmp_path, config={"weight": 2.0, "wieght": 3.0, "odd": 1})
    Reading(**settings).execute(DATA, DATA)
    said = [line for line in capsys.readouterr().out.splitlines() if "nothing has read" in line]
    assert said == [
        "warning: nothing has read config.wieght in the first epoch; did you mean 'weight'?",
        "warning: nothing has read config.odd in the first epoch",
    ]


def test_a_hook_may_read_what_it_likes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Reading(**options(tmp_path, config={"weight": 2.0})).execute(DATA, DATA)
    assert "nothing has read" not in capsys.readouterr().out


@pytest.mark.parametrize("epochs", ["twelve", 2.5, True, 0, None])
def test_epochs_that_are_no_number_of_them_are_refused(epochs: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TorchTrainer(CONFIG, epochs, model=MLP, checkpoints_location=tmp_path)
    assert str(caught.value) == f"epochs={epochs!r}: expected a whole number of at least 1"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("initial_best_validation_metric", "low", "a number"),
        ("initial_best_validation_metric", True, "a number"),
        ("initial_best_validation_metric", 10**400, "a number"),
        ("initial_best_validation_metric", float("nan"), "a number"),
        ("checkpoints_location", ["here"], "the path of a folder"),
        ("checkpoints_location", "a\0b", "the path of a folder"),
        ("from_checkpoint", 3, "the path of a folder"),
        ("checkpoint_sharded", "none", "true or false"),
        ("enable_torch_profiling", None, "true or false"),
        ("checkpoint_last", 0, "a whole number of at least 1"),
        ("profiling_wait_epochs", 1.7, "a whole number of at least 0"),
        ("run_name", 20261130, "a name; write it in quotes"),
    ],
)
def test_arguments_of_another_kind_are_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TorchTrainer(CONFIG, 1, model=MLP, **{name: value})
    assert str(caught.value).startswith(f"{name}=")
    assert str(caught.value).endswith(f": expected {expected}")


def test_a_truth_may_be_a_text(tmp_path: Path) -> None:
    given = {"checkpoint_sharded": "false", "enable_torch_profiling": "no", "time_ray": "true"}
    trainer = TorchTrainer(**options(tmp_path), **given)
    assert [getattr(trainer, name) for name in given] == [False, False, True]
    assert WandBLogger(offline_mode="false").offline_mode is False


@pytest.mark.parametrize("seed", [-1, 2**32, "one"])
def test_a_seed_out_of_range_is_refused(seed: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^random_seed=.*expected a whole number of at"):
        TorchTrainer(**options(tmp_path, random_seed=seed))


def test_paths_know_the_home_folder_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    trainer = TorchTrainer(**options(tmp_path) | {"checkpoints_location": "~/checkpoints"})
    assert trainer.run_directory == tmp_path / "checkpoints"
    study = RayTorchTrainer(**options(tmp_path), study={"storage_path": "$SCRATCH/studies"}).study
    assert study.directory == tmp_path / "scratch" / "studies" / "study"
