"""What a user sees of mistakes in a YAML pipeline: the table in ``yaml_mistakes.txt``.

A block of it is a title (``#``), lines of the good pipeline that a mistake replaces (``-``, ``+``),
the command (``$``), and the exact text on standard error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from itwinai.cli import app

MODULE = """
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

from itwinai.components import DataGetter, DataSplitter


class Getter(DataGetter):
    def __init__(self, path, header=0):
        super().__init__()
        self.path = path
        self.header = int(header)

    def execute(self):
        lines = Path(self.path).read_text().splitlines()[self.header :]
        return torch.tensor([[float(number) for number in line.split(",")] for line in lines])


class Splitter(DataSplitter):
    def execute(self, dataset):
        data = TensorDataset(dataset[:, :2], dataset[:, 2].long())
        return data, data, data


class ListSplitter(DataSplitter):
    def execute(self, dataset):
        return [dataset, dataset, dataset]


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 2))

    def forward(self, x):
        return self.layers(x)
"""

GOOD = """\
folder: data
training_pipeline:
  _target_: itwinai.pipeline.Pipeline
  steps:
    getter:
      _target_: mine.Getter
      path: ${folder}/points.csv
    splitter:
      _target_: mine.Splitter
      train_proportion: 0.6
      validation_proportion: 0.2
      test_proportion: 0.2
    trainer:
      _target_: itwinai.torch.trainer.RayTorchTrainer
      epochs: 2
      strategy: ddp
      config:
        batch_size: 4
        optim_lr: 0.001
        width: 8
        num_workers_dataloader: 0
      model:
        _target_: mine.Net
        _partial_: true
      logger:
        _target_: itwinai.loggers.ConsoleLogger
      search_space:
        optim_lr: {type: loguniform, lower: 1e-4, upper: 1e-1}
        width: {type: choice, categories: [4, 8]}
      study:
        name: points
        metric: validation_loss
        mode: min
        num_samples: 4
"""

#: The longest message.
LINES = 10

COMMAND = "itwinai exec-pipeline"


@dataclass(frozen=True)
class Mistake:
    title: str
    old: str
    new: str
    args: tuple[str, ...]
    text: str

    @classmethod
    def read(cls, block: str) -> Mistake:
        lines = block.splitlines()

        def marked(mark: str) -> list[str]:
            return [line[1:] for line in lines if line.startswith(mark)]

        rest = lines[1 + lines.index(next(line for line in lines if line.startswith("$"))) :]
        command = marked("$")[0].strip().removeprefix(COMMAND)
        pieces = ["".join(f"{line}\n" for line in marked(mark)) for mark in "-+"]
        return cls(marked("#")[0].strip(), *pieces, tuple(command.split()), "\n".join(rest))

    def made(self) -> str:
        """The pipeline with the mistake in it."""
        assert GOOD.count(self.old) == 1 or not self.old, self.old
        return GOOD.replace(self.old, self.new) if self.old else GOOD


TABLE = Path(__file__).with_name("yaml_mistakes.txt").read_text(encoding="utf-8")
MISTAKES = [Mistake.read(block) for block in TABLE.strip().split("\n\n")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import nosuchpackage\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "list.yaml").write_text("- getter\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "points.csv").write_text("0,1,0\n1,0,1\n" * 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for module in ("mine", "broken"):
        sys.modules.pop(module, None)


def run(folder: Path, config: str, *args: str) -> Result:
    (folder / "config.yaml").write_text(config)
    return CliRunner().invoke(app, ["exec-pipeline", *args])


def in_a_process(folder: Path, mistake: Mistake, **environment: str) -> tuple[int, str]:
    (folder / "config.yaml").write_text(mistake.made())
    done = subprocess.run(
        [sys.executable, "-m", "itwinai", "exec-pipeline", *mistake.args],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def titled(title: str) -> Mistake:
    return next(mistake for mistake in MISTAKES if mistake.title == title)


def test_the_pipeline_without_a_mistake_is_good(folder: Path) -> None:
    result = run(folder, GOOD, "+pipe_steps=[getter,splitter]")
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_table_is_long_enough() -> None:
    assert len({mistake.title for mistake in MISTAKES}) == len(MISTAKES) >= 30
    assert max(len(mistake.text.splitlines()) for mistake in MISTAKES) <= LINES


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.title for mistake in MISTAKES])
def test_what_the_user_sees(mistake: Mistake, folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    result = run(folder, mistake.made(), *mistake.args)
    assert result.stderr.replace(str(folder), "FOLDER") == f"{mistake.text}\n"
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "config.yaml"])
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def test_a_real_process_says_the_same(folder: Path) -> None:
    mistake = titled("a data file that is not there")
    assert in_a_process(folder, mistake) == (1, f"{mistake.text}\n")


def test_a_real_process_shows_the_traceback_if_asked(folder: Path) -> None:
    mistake = titled("a class that is not there")
    code, errors = in_a_process(folder, mistake, ITWINAI_DEBUG="1")
    assert code == 1
    assert "Traceback (most recent call last)" in errors
    assert errors.endswith(f"ConfigurationError: {mistake.text.removeprefix('error: ')}\n")


def test_a_step_that_was_chosen_keeps_its_name(folder: Path) -> None:
    result = run(folder, GOOD.replace("epochs: 2", "epochs: no"), "+pipe_steps=[splitter,trainer]")
    assert "in config.yaml: training_pipeline.steps.trainer\n" in result.stderr
    result = run(folder, GOOD.replace("mine.Net", "mine.Nte"), "+pipe_steps=[splitter,trainer]")
    assert "in config.yaml: training_pipeline.steps.trainer.model\n" in result.stderr


def test_of_a_long_message_the_beginning_is_shown(folder: Path) -> None:
    text = MODULE.replace("lines = Path", "raise ValueError('x\\n' * 50); lines = Path")
    (folder / "mine.py").write_text(text)
    result = run(folder, GOOD)
    assert len(result.stderr.splitlines()) <= LINES
    assert result.stderr.startswith("error: ValueError: x\nx\nx\n...\n  in config.yaml")
