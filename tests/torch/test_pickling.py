"""What cannot be sent to another process, and the sentence about it."""

from __future__ import annotations

import functools
import multiprocessing
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import cloudpickle
from small_trainings import make_data, options
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from itwinai.errors import ConfigurationError
from itwinai.torch.pickling import unpicklable_part
from itwinai.torch.trainer import TorchTrainer


class Holding(Dataset[Any]):
    """A data set with whatever it is given."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.ones(4), torch.tensor(index % 2)


class Stream(IterableDataset[Any]):
    def __init__(self) -> None:
        self.source = (number for number in range(4))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.source)


class Lazy(Holding):
    """Opens its connection where it is needed."""

    def __getstate__(self) -> dict[str, Any]:
        return {"held": None}


class Method:
    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")

    def collate(self, samples: Any) -> Any:
        return samples


def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


def local_function() -> Any:
    def local(x: Any) -> Any:
        return x

    return local


def circle() -> Holding:
    first, second = Holding(None), Holding(connection())
    first.held, second.first = second, first  # type: ignore[attr-defined]
    return first


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Holding(connection()), "its 'held' is a sqlite3.Connection"),
        (Subset(Holding([1, {"db": connection()}]), [0]), "its 'dataset.held[1]['db']' is a sqli"),
        (Stream(), "its 'source' is a generator"),
        (Holding(lambda x: x), "its 'held' is the function <lambda>"),
        (lambda x: x, "it is the function <lambda>"),
        (local_function(), "it is the function local that is defined within another"),
        (functools.partial(len, connection()), "its 'args[0]' is a sqlite3.Connection"),
        (Method().collate, "its '__self__.connection' is a sqlite3.Connection"),
        (circle(), "its 'held.held' is a sqlite3.Connection"),
    ],
)
def test_the_innermost_part_is_named(value, sentence):
    assert (unpicklable_part(value) or "").startswith(sentence)


@pytest.mark.parametrize(
    "value",
    [
        make_data(4),
        Lazy(connection()),
        Holding({"array": np.ones(3), "text": "x"}),
        Holding(multiprocessing.Lock()),  # which goes to a process as it starts, and only then
    ],
)
def test_what_can_be_sent_has_no_such_part(value):
    assert unpicklable_part(value) is None


def test_another_way_of_pickling_takes_more():
    held = Holding(local_function())
    assert unpicklable_part(held) is not None
    assert unpicklable_part(held, cloudpickle.dumps) is None
    assert unpicklable_part(Holding(connection()), cloudpickle.dumps) is not None


# -- in a training -------------------------------------------------------------------------------


class Started(TorchTrainer):
    """Its loaders start their processes by a method that must pickle, or not."""

    method = "spawn"
    collate: Any = None

    def create_dataloaders(self, train: Any, validation: Any = None, test: Any = None) -> None:
        super().create_dataloaders(train, validation, test)
        for name in ("train_dataloader", "validation_dataloader"):
            old = getattr(self, name)
            new = DataLoader(
                old.dataset,
                batch_size=2,
                num_workers=old.num_workers,
                collate_fn=self.collate,
                multiprocessing_context=self.method if old.num_workers else None,
            )
            setattr(self, name, new)


def trained(folder: Path, data: tuple[Any, Any], workers: int = 1, **attributes: Any) -> Any:
    kind = type("Own", (Started,), attributes)
    config = {"num_workers_dataloader": workers}
    trainer = kind(**options(folder, config=config, epochs=1, metrics=None))
    trainer.execute(*data)
    return trainer


@pytest.mark.parametrize(
    ("data", "attributes", "told"),
    [
        (
            (Holding(connection()), Holding(1)),
            {},
            "the training set (Holding) cannot be sent to the processes that load it, which are "
            "started by 'spawn': its 'held' is a sqlite3.Connection, which cannot be pickled.",
        ),
        ((Holding(1), Holding(connection())), {}, "the validation set (Holding) cannot be sent"),
        (
            (Holding(1), Holding(1)),
            {"collate": staticmethod(lambda samples: samples), "method": "forkserver"},
            "the collate_fn of the training set (function) cannot be sent to the processes that "
            "load it, which are started by 'forkserver': it is the function <lambda>, which",
        ),
    ],
)
def test_a_loader_that_cannot_start_is_refused_before_the_first_epoch(
    tmp_path, data, attributes, told
):
    with pytest.raises(ConfigurationError) as caught:
        trained(tmp_path, data, **attributes)
    assert str(caught.value).startswith(told)
    assert "in __getitem__" in str(caught.value)
    assert str(caught.value).endswith("or set num_workers_dataloader: 0.")


@pytest.mark.parametrize(("workers", "method"), [(0, "spawn"), (1, "fork")])
def test_a_loader_that_pickles_nothing_takes_all(tmp_path, workers, method):
    data = Holding(connection()), Holding(connection())
    assert trained(tmp_path, data, workers, method=method).epoch_metrics["train_loss"] > 0
