"""Pipelines: what flows between steps, choosing steps, and the small functions they rest on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import itwinai
from itwinai.components import BaseComponent, DataProcessor, DataSplitter
from itwinai.errors import ConfigurationError
from itwinai.pipeline import Pipeline, StepError
from itwinai.utils import (
    SignatureInspector,
    clear_key,
    dynamically_import_class,
    filter_pipeline_steps,
    flatten_dict,
    get_root_cause,
    load_yaml,
    make_config_paths_absolute,
)


class Const(BaseComponent):
    def __init__(self, output: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.output = output

    def execute(self) -> Any:
        return self.output


class Echo(BaseComponent):
    def execute(self, *args: Any) -> Any:
        return args


class Pair(BaseComponent):
    def execute(self, first: Any, second: Any = "default") -> Any:
        return [first, second]


@pytest.mark.parametrize(
    ("output", "received"),
    [((1, 2), (1, 2)), (None, ()), ([1, 2], ([1, 2],)), ((), ()), (0, (0,))],
)
def test_what_a_step_returns_is_what_the_next_receives(output: Any, received: Any) -> None:
    assert Pipeline([Const(output), Echo()]).execute() == received
    assert Pipeline({"a": Const(output), "b": Echo()}).execute() == received


def test_arguments_of_the_pipeline_reach_the_first_step() -> None:
    assert Pipeline([Pair()]).execute("x") == ["x", "default"]
    assert Pipeline([Echo(), Pair()]).execute("x", "y") == ["x", "y"]


@pytest.mark.parametrize(
    ("output", "problem"),
    [(None, "received too few input arguments"), ((1, 2, 3), "received too many input arguments")],
)
def test_a_step_that_does_not_fit_is_named(output: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=f"Component 'Pair' {problem}"):
        Pipeline([Const(output), Pair()]).execute()


def test_the_step_that_returned_the_wrong_number_is_named_too() -> None:
    with pytest.raises(TypeError) as caught:
        Pipeline([Const((1, "x", 3), name="getter"), Pair()]).execute()
    assert "3 (int, str, int), which 'getter' returned; it takes at most 2" in str(caught.value)


class Splitter(DataSplitter):
    """Returns what it is told."""

    def __init__(self, output: Any) -> None:
        super().__init__(0.5, 0.5, 0.0)
        self.output = output

    def execute(self, dataset: Any) -> Any:
        return self.output


class Processor(DataProcessor):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def execute(self, *datasets: Any) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "came"), [([1, 2, 3], "one list"), ("all", "one str"), (None, "None")]
)
def test_several_data_sets_are_a_tuple(output: Any, came: str) -> None:
    told = (
        rf"execute\(\) returned {came}; expected a tuple of the training, validation and test set"
    )
    with pytest.raises(TypeError, match=f"'Splitter': {told}"):
        Pipeline([Const(1), Splitter(output), Echo()]).execute()
    with pytest.raises(TypeError, match=f"'Processor': {told}"):
        Pipeline([Const((1, 2, 3)), Processor(output), Echo()]).execute()


def test_a_processor_of_one_data_set_may_return_one() -> None:
    assert Pipeline([Const(1), Processor([2, 3]), Echo()]).execute() == ([2, 3],)
    assert Pipeline([Const(1), Splitter((1, 2)), Echo()]).execute() == (1, 2)


def test_choosing_steps() -> None:
    steps: list[BaseComponent] = [Const(1), Echo(), Pair()]
    listed = Pipeline(steps, name="p")
    assert listed[1] is steps[1]
    assert len(listed) == 3
    assert listed[1:].steps == steps[1:]
    assert (listed[:2].name, type(listed[:2])) == ("p", Pipeline)
    named = Pipeline(dict(zip("abc", steps, strict=True)))
    assert named["b"] is steps[1]
    assert named[-1] is steps[2]
    assert named[:2].steps == {"a": steps[0], "b": steps[1]}
    with pytest.raises(TypeError, match="'p', step 'a': the steps are a list"):
        listed["a"]


def test_signature_inspector() -> None:
    def plain(a: int, b: int = 1, *, c: int) -> None: ...
    def anything(a: int, *args: int, **kwargs: int) -> None: ...

    signature = SignatureInspector(plain)
    assert signature.required_params == ("a", "c")
    assert (signature.min_params_num, signature.max_params_num) == (2, 3)
    assert not signature.has_varargs
    assert not signature.has_kwargs
    signature = SignatureInspector(anything)
    assert (signature.has_varargs, signature.has_kwargs) == (True, True)
    assert (signature.min_params_num, signature.max_params_num) == (1, SignatureInspector.INFTY)
    assert SignatureInspector(Pair().execute).required_params == ("first",)


@pytest.mark.parametrize(
    ("steps", "chosen", "left"),
    [
        ({"a": 1, "b": 2, "c": 3}, ["c", "a"], [3, 1]),
        ([1, 2, 3], [2], [3]),
    ],
)
def test_filtered_steps_become_a_list(steps: Any, chosen: list[Any], left: list[int]) -> None:
    cfg = {"steps": steps}
    filter_pipeline_steps(cfg, chosen)
    assert cfg["steps"] == left


@pytest.mark.parametrize("steps", [{"getter": 1, "trainer": 2}, [1, 2]])
def test_unknown_steps_are_refused(steps: Any) -> None:
    with pytest.raises(ConfigurationError, match="there is no step 'trainr'") as caught:
        filter_pipeline_steps({"steps": steps}, ["trainr"])
    assert ", ".join(map(str, steps if isinstance(steps, dict) else [0, 1])) in str(caught.value)
    assert ("did you mean 'trainer'" in str(caught.value)) == isinstance(steps, dict)


def test_load_yaml(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("lr: 1e-4\nnested: {a: ['${lr}', x]}\n")
    assert load_yaml(file) == {"lr": 1e-4, "nested": {"a": ["${lr}", "x"]}}
    file.write_text("nested:\n  a: 1\n  b: 2\n  a: 3\n")
    with pytest.raises(ConfigurationError, match=r"a\.yaml, line 4: found duplicate key a"):
        load_yaml(file)
    file.write_text("a: [1\nb: 2\n")
    with pytest.raises(ConfigurationError, match=r"a\.yaml, line 2: "):
        load_yaml(file)
    with pytest.raises(ConfigurationError, match=r"none\.yaml: cannot be read: No such file"):
        load_yaml(tmp_path / "none.yaml")


def test_flatten_dict() -> None:
    assert flatten_dict({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {
        "a.b": 1,
        "a.c.d": 2,
        "e": [3],
    }
    assert flatten_dict({"a": {"b": 1}}, parent_key="p", sep="/") == {"p/a/b": 1}


def test_clear_key(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(itwinai.logger, "warning", lambda text, *args: warnings.append(text % args))
    assert clear_key({"a": 1, "b": 2}, "cfg", "a", complain=False) == {"b": 2}
    assert clear_key({"b": 2}, "cfg", "a") == {"b": 2}
    assert not warnings
    clear_key({"a": 1}, "cfg", "a")
    assert warnings == ["cfg: the key 'a' is ignored; remove it."]


def test_root_cause() -> None:
    def chained() -> None:
        try:
            try:
                raise KeyError("deep")
            except KeyError as error:
                raise ValueError("middle") from error
        except ValueError:
            raise RuntimeError("outer")  # noqa: B904 - an implicit link must be followed too

    with pytest.raises(RuntimeError) as caught:
        chained()
    assert get_root_cause(caught.value).args == ("deep",)
    lonely = ValueError()
    assert get_root_cause(lonely) is lonely


def test_dynamically_import_class() -> None:
    assert dynamically_import_class("itwinai.pipeline.Pipeline") is Pipeline
    with pytest.raises(ConfigurationError, match=r"module\.Class"):
        dynamically_import_class("Pipeline")


@pytest.mark.parametrize("flag", ["--config-path", "-cp"])
def test_config_paths_become_absolute_and_importable(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [])
    folder = str(tmp_path / "conf")
    assert make_config_paths_absolute(["a=b", flag, "conf"]) == ["a=b", flag, folder]
    assert make_config_paths_absolute([f"{flag}=conf", "-m"]) == [f"{flag}={folder}", "-m"]
    assert sys.path == [folder]
    assert make_config_paths_absolute([flag, "pkg://x"]) == [flag, "pkg://x"]
    assert make_config_paths_absolute([flag]) == [flag]
    assert sys.path == [folder]


@pytest.mark.parametrize("steps", [{"a": Const(1), "b": {}}, [Const(1), {}]])
def test_a_step_that_is_no_component_is_refused(steps: Any) -> None:
    name = "b" if isinstance(steps, dict) else "1"
    with pytest.raises(ConfigurationError, match=f"'p', step '{name}': a dict is no component"):
        Pipeline(steps, name="p")


def test_a_pipeline_knows_the_step_that_failed() -> None:
    steps = [Const(()), Pair()]
    pipeline = Pipeline(steps)
    assert pipeline.running is None
    with pytest.raises(StepError):
        pipeline.execute()
    assert pipeline.running is steps[1]
