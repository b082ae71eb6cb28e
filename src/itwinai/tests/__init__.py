"""Components that do nothing, to try pipelines with."""

from __future__ import annotations

from itwinai.tests.dummy_components import (
    FakeGetter,
    FakeGetterExec,
    FakePreproc,
    FakePreprocExec,
    FakeSaver,
    FakeSaverExec,
    FakeSplitter,
    FakeSplitterExec,
    FakeTrainer,
    FakeTrainerExec,
)

__all__ = [
    "FakeGetter",
    "FakeGetterExec",
    "FakePreproc",
    "FakePreprocExec",
    "FakeSaver",
    "FakeSaverExec",
    "FakeSplitter",
    "FakeSplitterExec",
    "FakeTrainer",
    "FakeTrainerExec",
]
