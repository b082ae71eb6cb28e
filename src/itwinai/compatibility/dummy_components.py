"""Components that do nothing: those named ``Exec`` can be executed, the others only described."""

from __future__ import annotations

from typing import Any

from itwinai.components import BaseComponent, monitor_exec


class FakeGetter(BaseComponent):
    """Would fetch data from ``data_uri``."""

    def __init__(self, data_uri: str, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.data_uri = data_uri

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do nothing."""


class FakeGetterExec(FakeGetter):
    """Returns the name of a data set."""

    result = "dataset"

    @monitor_exec
    def execute(self) -> str:
        """Return ``"dataset"``."""
        return self.result


class FakeSplitter(BaseComponent):
    """Would split data by ``train_prop``."""

    def __init__(self, train_prop: float, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.train_prop = train_prop

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do nothing."""


class FakeSplitterExec(FakeSplitter):
    """Returns the names of three data sets."""

    result = ("train_dataset", "val_dataset", "test_dataset")

    @monitor_exec
    def execute(self, dataset: Any) -> tuple[Any, Any, Any]:
        """Return ``"train_dataset"``, ``"val_dataset"`` and ``"test_dataset"``."""
        return self.result


class FakePreproc(BaseComponent):
    """Would keep ``max_items`` of each data set."""

    def __init__(self, max_items: int, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.max_items = max_items

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do nothing."""


class FakePreprocExec(FakePreproc):
    """Returns the data sets as they are."""

    @monitor_exec
    def execute(
        self, train_dataset: Any, val_dataset: Any, test_dataset: Any
    ) -> tuple[Any, Any, Any]:
        """Return the three data sets."""
        return train_dataset, val_dataset, test_dataset


class FakeTrainer(BaseComponent):
    """Would train with ``lr`` and ``batch_size``."""

    def __init__(self, lr: float, batch_size: int, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.lr = lr
        self.batch_size = batch_size

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do nothing."""


class FakeTrainerExec(FakeTrainer):
    """Returns the data sets, and the name of a model."""

    model = "trained_model"

    @monitor_exec
    def execute(
        self, train_dataset: Any, val_dataset: Any, test_dataset: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Return the three data sets and ``"trained_model"``."""
        return train_dataset, val_dataset, test_dataset, self.model


class FakeSaver(BaseComponent):
    """Would save to ``save_path``."""

    def __init__(self, save_path: str, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.save_path = save_path

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do nothing."""


class FakeSaverExec(FakeSaver):
    """Returns the artifact."""

    @monitor_exec
    def execute(self, artifact: Any) -> Any:
        """Return the artifact."""
        return artifact
