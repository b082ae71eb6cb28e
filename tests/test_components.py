"""Components: execution protocol, splitting proportions, adapters and predictors."""

from __future__ import annotations

from typing import Any

import pytest

import itwinai
from itwinai.components import (
    Adapter,
    BaseComponent,
    DataGetter,
    DataProcessor,
    DataSplitter,
    Predictor,
    Saver,
    Trainer,
    monitor_exec,
)
from itwinai.errors import ConfigurationError
from itwinai.serialization import ModelLoader


class Worker(BaseComponent):
    def __init__(self, fails: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.fails = fails
        self.cleaned = 0

    @monitor_exec
    def execute(self, value: int, *, factor: int = 2) -> int:
        """Multiply."""
        if self.fails:
            raise RuntimeError("no")
        return value * factor

    def cleanup(self) -> None:
        self.cleaned += 1


class Splitter(DataSplitter):
    def execute(self, dataset: Any) -> tuple[Any, Any, Any]:
        return dataset, dataset, dataset


class Loader(ModelLoader):
    def __call__(self) -> str:
        return f"model from {self.model_uri}"


class Oracle(Predictor):
    def execute(self, predict_dataset: Any, model: Any | None = None) -> Any:
        return model or self.model


def test_name_is_the_class_name_unless_given() -> None:
    assert Worker().name == "Worker"
    assert Worker(name="w").name == "w"


@pytest.mark.parametrize(
    "base", [BaseComponent, DataGetter, DataProcessor, Trainer, Saver, DataSplitter, Predictor]
)
def test_execute_must_be_written(base: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        base()


def test_monitored_execution_returns_the_result_and_measures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages: list[str] = []
    clock = iter([100.0, 102.5])
    monkeypatch.setattr(Worker, "_printout", staticmethod(messages.append))
    monkeypatch.setattr("itwinai.components.time.time", lambda: next(clock))
    worker = Worker(name="w")
    assert worker.exec_t is None
    assert worker.execute(3, factor=5) == 15
    assert worker.exec_t == 2.5
    assert worker.cleaned == 1
    assert messages == ["Starting execution of 'w'...", "'w' executed in 2.500s"]


def test_monitored_execution_keeps_name_and_docstring() -> None:
    assert Worker.execute.__name__ == "execute"
    assert Worker.execute.__doc__ == "Multiply."


def test_cleanup_also_after_an_error() -> None:
    worker = Worker(fails=True)
    with pytest.raises(RuntimeError, match="no"):
        worker.execute(1)
    assert worker.cleaned == 1
    assert worker.exec_t is None


def test_messages_are_framed_and_go_to_the_logger(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(itwinai.logger, "info", messages.append)
    BaseComponent._printout("hello")
    assert messages == ["#########", "# hello #", "#########"]
    assert capsys.readouterr().out == ""


def test_splitter_takes_shares_and_numbers() -> None:
    splitter = Splitter(0.8, 0.2, 100)
    assert (splitter.train_proportion, splitter.test_proportion) == (0.8, 100)
    splitter.validation_proportion = 1.0
    assert splitter.validation_proportion == 1.0
    assert splitter.parameters == {
        "train_proportion": 0.8,
        "validation_proportion": 0.2,
        "test_proportion": 100,
        "name": None,
    }


@pytest.mark.parametrize("key", ["train_proportion", "validation_proportion", "test_proportion"])
@pytest.mark.parametrize("value", [-0.1, 1.01, -3, float("nan"), "'a fifth'", True])
def test_splitter_refuses_impossible_shares(key: str, value: Any) -> None:
    shares: dict[str, Any] = {
        "train_proportion": 0.1,
        "validation_proportion": 0.1,
        "test_proportion": 0.1,
    }
    with pytest.raises(ValueError, match=f"{key}={value}"):
        Splitter(**{**shares, key: value.strip("'") if isinstance(value, str) else value})
    splitter = Splitter(**shares)
    with pytest.raises(ConfigurationError):
        setattr(splitter, key, value)
    assert getattr(splitter, key) == 0.1


def test_predictor_loads_its_model() -> None:
    assert Oracle(Loader("here")).model == "model from here"
    assert Oracle("a model").execute([]) == "a model"
    assert Oracle("a model").execute([], model="other") == "other"


def test_adapter_picks_inputs_and_constants() -> None:
    adapter = Adapter([Adapter.INPUT_PREFIX + "-1", 42, "INPUT_ARG#0", "INPUT_ARG#0", "text"])
    assert adapter.execute("a", "b", "c") == ("c", 42, "a", "a", "text")
    assert Adapter([]).execute(1) == ()


@pytest.mark.parametrize(("index", "needed"), [(2, 3), (-3, 3)])
def test_adapter_says_how_many_inputs_it_needs(index: int, needed: int) -> None:
    adapter = Adapter([f"INPUT_ARG#{index}", "INPUT_ARG#0"], name="ad")
    assert adapter.execute(0, 1, 2)[0] == (0, 1, 2)[index]
    expected = (
        "The args received as input by 'ad' are not consistent with the given adapter policy "
        "because input args are too few! Input args are 2 but the policy foresees at least "
        f"{needed} items."
    )
    with pytest.raises(IndexError) as caught:
        adapter.execute(0, 1)
    assert str(caught.value) == expected


def test_adapter_refuses_a_policy_without_a_number() -> None:
    with pytest.raises(ConfigurationError, match="'ad', policy item 'INPUT_ARG#x'"):
        Adapter(["INPUT_ARG#x"], name="ad")
