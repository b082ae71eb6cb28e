"""Checkpoints with damage: refused, or read as they were written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from damaging import Damage, damages
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
