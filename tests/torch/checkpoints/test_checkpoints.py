"""Checkpoints: a resumed training equals an uninterrupted one, whatever happened in between."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks
from small_trainings import MLP, make_data, options

from itwinai.errors import CheckpointError
from itwinai.torch.checkpoints import files as checkpoint
from itwinai.torch.checkpoints.sharded import merge_shards
from itwinai.torch.trainer import TorchTrainer

HERE = Path(__file__).parent


def run(folder: Path, processes: int, **choices: Any) -> list[dict[str, str]]:
    """Run the program; return rank 0's epochs."""
    folder.mkdir(exist_ok=True)
    run_ranks(HERE / "resume_program.py", str(folder), json.dumps(choices), ranks=processes)
    histories = [
        json.loads((folder / f"epochs-{rank}.json").read_text()) for rank in range(processes)
    ]
    assert all(history == histories[0] for history in histories)
    return histories[0]


def assert_same_files(one: Path, other: Path) -> None:
    for name in ("model.pt", "state.pt"):
        first, second = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        assert leaves(first) == leaves(second)


def leaves(value: Any) -> Any:
    """A nested value, with the bits of each tensor."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: leaves(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [leaves(item) for item in value]
    return value


# The break is in the middle of the cosine, and between two steps of the step schedule.
def test_a_disk_that_takes_no_more_is_told_as_such_and_keeps_no_half(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(tmp_path / "epoch_0", {"weight": torch.zeros(10**6)}, {}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("processes", "choices"),
    [
        (1, {"schedule": "cosine", "ema": 0.8}),
        pytest.param(
            1, {"schedule": "onecycle", "precision": "fp16"}, marks=pytest.mark.exhaustive
        ),
        pytest.param(1, {"schedule": "step", "workers": 2}, marks=pytest.mark.exhaustive),
        (2, {"schedule": "cosine", "ema": 0.8}),
        pytest.param(2, {"schedule": "step", "precision": "bf16"}, marks=pytest.mark.exhaustive),
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, processes: int, choices: dict[str, Any]
) -> None:
    whole = run(tmp_path / "whole", processes, **choices)
    assert len(whole) == 6
    part = tmp_path / "part"
    first = run(part, processes, stop_at=3, **choices)
    rest = run(part, processes, **{"from": str(part / "checkpoints/epoch_2"), **choices})
    assert first + rest == whole
    assert len(rest) == 3
    for name in ("epoch_5", "best_model"):
        assert_same_files(tmp_path / "whole/checkpoints" / name, part / "checkpoints" / name)


def test_a_scratch_folder_of_a_killed_process_goes_with_the_next_save(tmp_path: Path) -> None:
    left, other = tmp_path / ".epoch_1-killed", tmp_path / ".epoch_2-other"
    left.mkdir()
    other.mkdir()
    in_use = tmp_path / ".epoch_1-in-use"
    in_use.mkdir()
    descriptor = os.open(in_use, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    state = {"epoch": 1, "best_validation_metric": 0.0, "optimizer_state_dict": {}}
    checkpoint.save(tmp_path / "epoch_1", {"weight": torch.zeros(2)}, state, {})
    os.close(descriptor)
    assert sorted(path.name for path in tmp_path.iterdir()) == [in_use.name, other.name, "epoch_1"]


def test_fifty_kills_while_saving_leave_a_good_checkpoint_each_time(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "kill_program.py"), str(tmp_path), "50"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    begun = [int(line) for line in done.stdout.splitlines()]
    assert len(begun) == 50
    for number, last in enumerate(begun):
        found = [checkpoint.load(path)[1:] for path in _visible(tmp_path / str(number))]
        model, state = max(found, key=lambda pair: pair[1]["epoch"])
        assert state["epoch"] >= last - 1  # that one's save had returned
        assert torch.equal(model["weight"], torch.full((200, 1000), float(state["epoch"])))


def _visible(folder: Path) -> set[Path]:
    return {path.with_suffix("") for path in folder.iterdir() if path.name.startswith("epoch_")}


def train(folder: Path, **changes: Any) -> TorchTrainer:
    trainer = TorchTrainer(**options(folder, **changes))
    trainer.execute(make_data(), make_data(35))
    return trainer


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.pt", "state.pt", "config.yaml"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "the file was cut off after it was written"),
        (alter, "the file was altered after it was written"),
        (Path.unlink, "this file of the checkpoint is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Any, words: str
) -> None:
    expected = train(tmp_path, epochs=4, checkpoint_every=1).epoch_metrics
    location = tmp_path / "checkpoints"
    damage(location / "epoch_2" / name)
    damage(location / "epoch_1" / name)
    with caplog.at_level(logging.WARNING, "itwinai"):
        resumed = train(tmp_path, epochs=4, from_checkpoint=location / "epoch_2")
    for epoch in (2, 1):
        assert f"{location / f'epoch_{epoch}' / name}: " in caplog.text
    assert words in caplog.text
    assert resumed.epoch_metrics == expected  # from epoch_0 on, and to the same end
    damage(location / "epoch_0" / name)
    with pytest.raises(CheckpointError, match=words):
        train(tmp_path, epochs=4, from_checkpoint=location / "epoch_2")


def test_a_folder_of_checkpoints_means_its_newest_good_one(tmp_path: Path) -> None:
    train(tmp_path, epochs=12, checkpoint_every=1)
    location = tmp_path / "checkpoints"
    assert checkpoint.load(location)[0] == location / "epoch_11"
    alter(location / "epoch_11/model.pt")
    assert checkpoint.load(location, or_earlier=True)[0] == location / "epoch_10"


def test_only_the_newest_are_kept_and_the_best(tmp_path: Path) -> None:
    train(tmp_path, epochs=5, checkpoint_every=1, checkpoint_last=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best_model", "epoch_3", "epoch_4"]


def test_the_manifest_says_what_the_checkpoint_is(tmp_path: Path) -> None:
    trainer = train(tmp_path, checkpoint_every=3)
    folder = tmp_path / "checkpoints/epoch_2"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["epoch"] == 2
    assert manifest["metrics"] == trainer.epoch_metrics
    assert (manifest["strategy"], manifest["world_size"]) == ("non-distributed", 1)
    assert manifest["versions"]["torch"] == torch.__version__
    assert set(manifest["files"]) == {"model.pt", "state.pt", "config.yaml"}
    assert manifest["files"]["model.pt"]["bytes"] == (folder / "model.pt").stat().st_size
    MLP().load_state_dict(torch.load(folder / "model.pt", weights_only=True))


def saved(folder: Path, **state: Any) -> Path:
    """A small checkpoint; one of a training of itwinai says what was ``built``."""
    needed = {"epoch": 1, "best_validation_metric": 0.0, "optimizer_state_dict": {}}
    checkpoint.save(folder, {"weight": torch.zeros(100)}, needed | state, {}, {"run": "abc"})
    return folder


READERS = [checkpoint.load, checkpoint.load_model, checkpoint.check_whole]


@pytest.mark.parametrize("read", READERS)
def test_a_lost_manifest_is_named(tmp_path: Path, read: Any) -> None:
    folder = saved(tmp_path / "epoch_1", built={})
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json: this file .* is missing"):
        read(folder)
    assert read(without_manifest(saved(tmp_path / "of 0.4")))


@pytest.mark.parametrize("read", READERS)
def test_without_a_manifest_the_check_sums_in_the_files_are_looked_at(
    tmp_path: Path, read: Any
) -> None:
    folder = without_manifest(saved(tmp_path / "epoch_1"))
    content = (folder / "model.pt").read_bytes()
    weights = content.index(bytes(400))
    (folder / "model.pt").write_bytes(content[:weights] + b"\x01" + content[weights + 1 :])
    torch.load(folder / "model.pt", weights_only=True)  # PyTorch sees no damage
    with pytest.raises(CheckpointError, match=r"model\.pt: not a whole checkpoint"):
        read(folder)


def without_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    return folder


def test_an_altered_manifest_is_named(tmp_path: Path) -> None:
    file = saved(tmp_path / "epoch_1") / "manifest.json"
    file.write_text(file.read_text().replace('"abc"', '"abd"'))
    with pytest.raises(CheckpointError, match=r"manifest\.json: not a whole checkpoint"):
        checkpoint.load(file.parent)
    content = json.loads(file.read_text())
    del content["sha256"]  # as of earlier versions
    file.write_text(json.dumps(content))
    assert checkpoint.load(file.parent)[0] == file.parent


def test_a_checkpoint_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    train(tmp_path, checkpoint_every=3)
    file = tmp_path / "checkpoints/epoch_2/manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 3}))
    with pytest.raises(CheckpointError, match="written in format 3, but this version"):
        checkpoint.load(file.parent)


def test_another_model_is_refused_with_the_checkpoints_name(tmp_path: Path) -> None:
    train(tmp_path, checkpoint_every=3)
    folder = tmp_path / "checkpoints/epoch_2"
    with pytest.raises(CheckpointError, match="epoch_2: it does not fit this training"):
        train(tmp_path, epochs=5, config={"width": 5}, from_checkpoint=folder)


def test_steps_are_counted_on(tmp_path: Path) -> None:
    whole = train(tmp_path, epochs=4, checkpoint_every=2)
    resumed = train(tmp_path, epochs=4, from_checkpoint=tmp_path / "checkpoints/epoch_1")
    assert resumed.train_glob_step == whole.train_glob_step == 16


def test_the_buffers_in_shards_are_those_of_one_rank(tmp_path: Path) -> None:
    run_ranks(HERE / "buffers_program.py", str(tmp_path))
    saved = sorted(tmp_path.iterdir())
    assert len(saved) == 3
    for shards in saved:
        model, _ = merge_shards(shards)
        buffers = [value for name, value in model.items() if "running" in name]
        assert len(buffers) == 8
        assert all(value.eq(1).all() for value in buffers), shards
