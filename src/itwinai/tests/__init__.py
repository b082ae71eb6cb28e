"""Face of :mod:`itwinai.compatibility.dummy_components`, for programs written for itwinai 0.4."""

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
