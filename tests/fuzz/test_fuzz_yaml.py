"""Texts of YAML with mistakes in them, read by the commands that read YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from given_values import ODD_TEXT, VALUES
from hypothesis import assume, example, given
from hypothesis import strategies as st
from refusing import FEWER, check_message, soon, taken
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.config.reading import read_mapping, validate_file
from itwinai.slurm.config import SlurmConfiguration

PIPELINE = """\
folder: data
training_pipeline:
  _target_: itwinai.pipeline.Pipeline
  steps:
    trainer:
      _target_: itwinai.torch.trainer.RayTorchTrainer
      epochs: 2
      checkpoints_location: ${folder}/checkpoints
      config:
        batch_size: 4
        optim_lr: 1e-3
      logger:
        _target_: itwinai.loggers.ConsoleLogger
      search_space:
        optim_lr: {type: loguniform, lower: 1e-4, upper: 1e-1}
        width: {type: choice, categories: [4, 8]}
      study:
        name: points
        metric: validation_loss
        mode: min
        constraints: ["width > 4"]
"""
JOB = """\
account: abc
nodes: 2
time: "12:00:00"
environment:
  OMP_NUM_THREADS: 4
"""
PIECES = [
    *("&a ", "*a", "<<: *a", "!!python/object:os.system ", "!!binary ", "!!set ", "!mine ", "? "),
    *("\t", "{", "}", "[", "]", "- ", ": ", ":", "'", '"', "|\n", ">\n", "#", "@", "`", "\n", "  "),
    *("%YAML 1.1\n", "---\n", "...\n", "\ufeff", "${now:%H}", "${folder}", "${hydra:x}", "${..x}"),
    *("${itwinai.multiply:a,b}", "\ndefaults: [x]\n", "\nhydra: {run: 1}\n", "\npipe_key: x\n"),
    *("\npipe_steps: [x]\n", "_target_: ", "_partial_: x", "_args_: [1]", "_convert_: x"),
    *ODD_TEXT,
]


@st.composite
def mistaken(draw: Any, text: str) -> str:
    """A text after some mistakes of whoever edits it."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 12))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=3))
        text = text[:begin] + piece + text[begin + length :]
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "config.yaml").write_text(PIPELINE)
    CliRunner().invoke(app, ["exec-pipeline"])  # the first one loads PyTorch
    return tmp_path


def test_the_pipeline_without_a_mistake_lacks_data_alone(folder: Path) -> None:
    result = CliRunner().invoke(app, ["exec-pipeline"])
    assert "received too few input arguments" in result.stderr


def is_written(path: Path, text: str) -> bool:
    """Write a text, if it is one that a file can hold."""
    try:
        path.write_text(text, encoding="utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_ends_well(text: str) -> None:
    """The command refuses what is not right; without data it could not train in any case."""
    with soon():
        result = CliRunner().invoke(app, ["exec-pipeline"])
    assert isinstance(result.exception, SystemExit), (text, result.exception)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    check_message(result.stderr)


@FEWER
@given(mistaken(PIPELINE))
def test_a_pipeline(folder: Path, text: str) -> None:
    assume(is_written(folder / "config.yaml", text))
    check_ends_well(text)


@FEWER
@given(st.dictionaries(st.sampled_from(["config", "study", "search_space", "logger"]), VALUES))
def test_a_trainer(folder: Path, arguments: dict[str, Any]) -> None:
    content = yaml.safe_load(PIPELINE)
    content["training_pipeline"]["steps"]["trainer"] |= arguments
    try:
        text = yaml.safe_dump(content)
    except yaml.YAMLError:  # a value that YAML has no form for
        assume(False)
    assume(is_written(folder / "config.yaml", text))
    check_ends_well(text)


@example(JOB.replace('"12:00:00"', '!!set "12:00:00"'))
@given(mistaken(JOB))
def test_a_job(tmp_path: Path, text: str) -> None:
    path = tmp_path / "slurm.yaml"
    assume(is_written(path, text))
    taken(lambda: validate_file(SlurmConfiguration, read_mapping(path), path))
