"""Data sets as each trial gets them: whatever is in them, as it was, and the trial's own."""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import make_data, options
from torch.utils.data import Subset, TensorDataset

from itwinai.errors import ConfigurationError
from itwinai.hpo.engine import Place
from itwinai.hpo.trial import Assignment
from itwinai.reporting import NullReporter
from itwinai.torch.ray.pickling import SharedDatasets
from itwinai.torch.ray.program import TrainerProgram
from itwinai.torch.trainer import TorchTrainer

LARGE = torch.arange(4000.0).reshape(100, 40)


@dataclass
class Holder:
    """Not even a data set; it holds a value."""

    value: Any


@pytest.fixture(params=["memory", "file"])
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the originals are kept outside of Ray: in a file on systems other than Linux."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)


@pytest.mark.parametrize(
    "tensor",
    [
        LARGE,
        LARGE[10:20, ::2],
        LARGE.t(),
        LARGE[:1].expand(50, 40),
        LARGE.bfloat16(),
        LARGE.to(torch.float8_e4m3fn),
        LARGE.to(torch.complex64),
        LARGE.to(torch.complex64).conj(),
        LARGE > 3,
        LARGE.clone().requires_grad_(),
        torch.nn.Parameter(LARGE.clone(), requires_grad=False),
        torch.eye(50).to_sparse(),
        torch.tensor(2.5),
        torch.empty(0, 3),
    ],
    ids=lambda t: f"{type(t).__name__}-{t.dtype}-{t.layout}-{tuple(t.shape)}",
)
def test_a_tensor_of_any_kind_arrives_as_it_is(tensor: torch.Tensor) -> None:
    with SharedDatasets((Holder(tensor), None, None)).copies() as (copy, *_):
        arrived = copy.value
        assert type(arrived) is type(tensor)
        assert (arrived.dtype, arrived.shape) == (tensor.dtype, tensor.shape)
        assert (arrived.layout, arrived.requires_grad) == (tensor.layout, tensor.requires_grad)
        if tensor.layout is torch.strided:
            assert arrived.stride() == tensor.stride()
        wide = torch.complex64  # no others are compared in 8 bits
        assert torch.equal(arrived.to_dense().to(wide), tensor.to_dense().to(wide))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(4000.0).reshape(100, 40),
        np.asfortranarray(np.arange(4000.0).reshape(100, 40)),
        np.arange(4000.0)[::2],
        np.arange(3),
        np.array([1, "a", None], dtype=object),
        np.zeros(4, dtype=[("x", "f4"), ("y", "i8")]),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
@pytest.mark.parametrize("writeable", [True, False])
def test_an_array_can_be_written_to_if_it_could_be(array: Any, writeable: bool) -> None:
    array = array.copy(order="A")
    array.flags.writeable = writeable
    with SharedDatasets((Holder(array), None, None)).copies() as (copy, *_):
        assert copy.value.dtype == array.dtype
        assert np.array_equal(copy.value, array)
        assert copy.value.flags.f_contiguous == array.flags.f_contiguous
        assert copy.value.flags.writeable == (writeable or array.dtype == object)


@pytest.mark.usefixtures("_place")
def test_what_one_changes_is_its_own_and_gone_afterwards() -> None:
    original = {"tensor": LARGE.clone(), "array": np.ones(5000), "small": np.ones(2), "list": [1]}
    shared = SharedDatasets((Holder(original), None, None))
    kept = []
    with shared.copies() as (first, *_), shared.copies() as (second, *_):
        for value in first.value.values():
            value[:] = [7] * len(value) if isinstance(value, list) else 7
        first.extra = 1
        assert torch.equal(second.value["tensor"], LARGE)
        kept.append(first.value["tensor"])
    for _ in range(2):
        with shared.copies() as (fresh, *_):
            assert not hasattr(fresh, "extra")
            assert torch.equal(fresh.value["tensor"], LARGE)
            assert fresh.value["array"].sum() == 5000
            assert (fresh.value["small"].tolist(), fresh.value["list"]) == ([1, 1], [1])
    # Its memory has been given back, although somebody still refers to it.
    assert torch.equal(kept[0], LARGE)
    assert torch.equal(original["tensor"], LARGE)


def test_what_is_one_object_stays_one() -> None:
    base = LARGE.clone()
    points = TensorDataset(base)
    datasets = (Holder([base, base[1:]]), Subset(points, [0, 1]), Subset(points, [2]))
    with SharedDatasets(datasets).copies() as (holder, validation, test):
        assert validation.dataset is test.dataset
        assert validation.dataset.tensors[0] is holder.value[0]
        holder.value[1][0] = -1  # a view of the same memory
        assert validation.dataset[1][0].tolist() == [-1.0] * 40


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        (
            (make_data(), Holder({"db": [0, sqlite3.connect(":memory:")]}), None),
            "the validation set (Holder) cannot be sent to a trial's process: its "
            "'value['db'][1]' is a sqlite3.Connection",
        ),
        (
            (Holder(Holder(threading.Lock())), None, None),
            "the training set (Holder) cannot be sent to a trial's process: its 'value.value' is "
            "a _thread.lock",
        ),
        (
            (make_data(), make_data(), (sample for sample in range(3))),
            "the test set (generator) cannot be sent to a trial's process: it is a generator",
        ),
    ],
    ids=["connection", "lock", "generator"],
)
def test_what_cannot_be_sent_is_named(datasets: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SharedDatasets(datasets)
    assert str(caught.value) == (
        f"{message}, which cannot be pickled. Open files, locks and connections when the first "
        "sample is read, not in the constructor."
    )


def test_a_data_set_that_refers_to_itself_is_searched_to_an_end() -> None:
    holder = Holder(None)
    holder.value = [holder, threading.Lock()]
    with pytest.raises(ConfigurationError, match=r"process: its 'value\[1\]' is a"):
        SharedDatasets((holder, None, None))


class Listener(NullReporter):
    """Hears what the user is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, about: str, text: str) -> None:
        self.notes.append(text)


def test_a_class_of_the_main_program_is_made_anew_and_nothing_is_said(tmp_path: Path) -> None:
    class Local(TorchTrainer):
        """Other processes cannot import it, so that it comes with the trainer."""

        calls: list[int] = []  # noqa: RUF012 - a mistake that users make

        def train(self) -> None:
            with seen.open("a") as file:
                file.write(f"{len(Local.calls)} ")
            Local.calls.append(1)

    seen = tmp_path / "seen"
    program = TrainerProgram(Local(**options(tmp_path)), (make_data(), None, None))
    listener = Listener()
    for number in range(3):
        program(Assignment(number, {}, str(tmp_path)), Place(), listener)
    assert seen.read_text() == "0 0 0 "
    assert listener.notes == []
