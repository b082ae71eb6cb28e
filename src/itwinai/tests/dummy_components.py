"""Face of :mod:`itwinai.compatibility.dummy_components`, for programs written for itwinai 0.4."""

from itwinai.compatibility.dummy_components import (
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

for name in __all__:
    globals()[name].__module__ = __name__  # the address that pipelines in files give
