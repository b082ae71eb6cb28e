"""Checkpoints with damage: refused, or read as they were written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusing import taken

from itwinai.torch.checkpoints import files as checkpoint

FILES = ["model.pt", "state.pt", "config.yaml", "manifest.json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "epoch_1"
    model = {"weight": torch.arange(60.0).reshape(6, 10), "bias": torch.ones(3)}
    state = {
        "epoch": 1,
        "best_validation_metric": 0.5,
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(8.0)}}, "param_groups": [{}]},
    }
    checkpoint.save(folder, model, state, {"optim_lr": 0.01}, {"epoch": 1, "run": "abc"})
    return folder


Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: Any) -> Damage:
    """What disks, copies and editors do to a file."""
    kind = draw(st.sampled_from(["bit", "cut", "hole", "insert", "bytes"]))
    place, length = draw(st.floats(0, 1, exclude_max=True)), draw(st.sampled_from([1, 4, 64, 512]))
    bit, piece = draw(st.integers(0, 7)), draw(st.binary(min_size=1, max_size=8))

    def damaged(content: bytes) -> bytes:
        at = int(place * len(content))
        before, after = content[:at], content[at + length :]
        return {
            "bit": before + bytes([content[at] ^ 1 << bit]) + content[at + 1 :],
            "cut": before,
            "hole": before + bytes(min(length, len(content) - at)) + after,
            "insert": before + piece + content[at:],
            "bytes": before + piece + content[at + len(piece) :],
        }[kind]

    return damaged


def leaves(value: Any) -> Any:
    """A nested value, with the bits of each tensor."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: leaves(item) for key, item in value.items()}
    return [leaves(item) for item in value] if isinstance(value, list) else value


@given(
    name=st.sampled_from(FILES),
    damage=damages() | st.none(),
    without=st.sampled_from(["", "", "manifest.json", "config.yaml", "model.pt"]),
)
def test_a_damaged_checkpoint(
    whole: Path, tmp_path: Path, name: str, damage: Damage | None, without: str
) -> None:
    folder = tmp_path / "epoch_1"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(damage((whole / name).read_bytes()))
    if without:
        (folder / without).unlink(missing_ok=True)
    _, *expected = checkpoint.load(whole)
    read = taken(lambda: checkpoint.load(folder))
    if read is not None:
        assert leaves(list(read[1:])) == leaves(expected)
    taken(lambda: checkpoint.check_whole(folder))
