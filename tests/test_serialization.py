"""Objects written as configuration and rebuilt from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from itwinai.components import Adapter, BaseComponent
from itwinai.errors import ItwinaiError
from itwinai.pipeline import Pipeline
from itwinai.serialization import Serializable, SerializationError, fullname, is_jsonable


class Step(BaseComponent):
    def __init__(self, size: Any, inner: Any = None, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.size = size
        self.inner = inner

    def execute(self) -> Any:
        return self.size


TARGET = f"{__name__}.Step"


def test_parameters_are_the_constructors_arguments() -> None:
    step = Step(3, name="s")
    assert step.parameters == {"size": 3, "inner": None, "name": "s"}
    step.update_parameters(size=4)
    assert step.parameters == {"size": 4, "inner": None, "name": "s"}
    step.save_parameters(size=5)
    assert step.parameters == {"size": 5}


def test_locals2params_keeps_self_on_request() -> None:
    given = {"self": 1, "__class__": 2, "a": 3}
    assert Serializable.locals2params(given) == {"a": 3}
    assert Serializable.locals2params(given, pop_self=False) == {"self": 1, "a": 3}
    assert given == {"self": 1, "__class__": 2, "a": 3}


def test_plain_form_holds_nested_objects_and_lists() -> None:
    step = Step((1, {2}), inner={"deep": [Step("x")]}, name="s")
    inner = {"_target_": TARGET, "size": "x", "inner": None, "name": None}
    assert step.to_dict() == {
        "_target_": TARGET,
        "size": [1, [2]],
        "inner": {"deep": [inner]},
        "name": "s",
    }


def test_a_pipeline_is_rebuilt_from_its_plain_form() -> None:
    pipeline = Pipeline({"a": Step(3), "b": Adapter(["INPUT_ARG#0", "k"])}, name="p")
    rebuilt = instantiate(pipeline.to_dict(), _convert_="all")
    assert isinstance(rebuilt, Pipeline)
    assert rebuilt.to_dict() == pipeline.to_dict()
    assert rebuilt.execute() == (3, "k")


@pytest.mark.parametrize("nested_key", [None, "step", "a.b"])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_files(tmp_path: Path, form: str, nested_key: str | None) -> None:
    step = Step([1.5], name="s")
    file = tmp_path / f"step.{form}"
    file.write_text("old")
    getattr(step, f"to_{form}")(file, nested_key)
    content = (json.loads if form == "json" else yaml.safe_load)(file.read_text())
    for key in nested_key.split(".") if nested_key else []:
        assert list(content) == [key]
        content = content[key]
    assert content == step.to_dict()


@pytest.mark.parametrize("text", ["1e3", "-1.5E-3", "1e+5", "0o17", "y", "N", "010", "12:30:00"])
def test_a_text_in_a_file_stays_one_for_all_who_read_it(tmp_path: Path, text: str) -> None:
    Step({"word": text, "number": 1e-5}).to_yaml(tmp_path / "object.yaml")
    assert OmegaConf.load(tmp_path / "object.yaml").size == {"word": text, "number": 1e-5}
    assert f"word: '{text}'\n" in (tmp_path / "object.yaml").read_text()


def test_foreign_objects_are_refused_with_their_place() -> None:
    with pytest.raises(SerializationError) as caught:
        Step([object()]).to_dict()
    message = str(caught.value)
    assert f"{TARGET}, argument 'size'" in message
    assert "is not a Python built-in type and it does not extend" in message
    assert isinstance(caught.value, ItwinaiError)


def test_local_classes_are_refused() -> None:
    class Local(Step):
        pass

    with pytest.raises(
        SerializationError, match="is defined locally, which is not supported for serialization"
    ):
        Local(1).to_dict()


def test_is_jsonable() -> None:
    assert is_jsonable({"a": [1, None, "x"]})
    assert not is_jsonable({1, 2})
    loop: list[Any] = []
    loop.append(loop)
    assert not is_jsonable(loop)


def test_fullname() -> None:
    assert fullname(Step(1)) == TARGET
    assert fullname(Step) == TARGET
    assert fullname(1) == "int"
