"""From a composed configuration to a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from itwinai.components import BaseComponent
from itwinai.config.compose import build_pipeline, register_resolvers, step_keys
from itwinai.errors import CheckpointError, ConfigurationError, notes_of
from itwinai.pipeline import Pipeline


class Keep(BaseComponent):
    def __init__(self, value: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.value = value

    def execute(self) -> Any:
        return self.value


class Picky(BaseComponent):
    def __init__(self, how: str) -> None:
        super().__init__()
        try:
            raise KeyError("inner")
        except KeyError as error:
            if how == "itwinai":
                raise CheckpointError("the checkpoint is gone") from error
            raise RuntimeError("own bug") from error

    def execute(self) -> None: ...


def compose(steps: Any, **others: Any) -> DictConfig:
    pipeline = {"_target_": "itwinai.pipeline.Pipeline", "steps": steps}
    return OmegaConf.create({"training_pipeline": pipeline, **others})


def keep(value: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.Keep", "value": value}


def values(pipeline: Pipeline) -> list[Any]:
    return [step.value for step in pipeline[:]._components()]


def test_dictionary_and_list_steps() -> None:
    named = build_pipeline(compose({"a": keep(1), "b": keep(2)}))
    assert list(named.steps) == ["a", "b"]
    assert isinstance(build_pipeline(compose([keep(1)])).steps, list)


def test_components_receive_plain_python_data() -> None:
    pipeline = build_pipeline(compose([keep({"a": ["${x}", {"b": 1}]})], x=5))
    value = pipeline[0].value
    assert value == {"a": [5, {"b": 1}]}
    assert (type(value), type(value["a"]), type(value["a"][1])) == (dict, list, dict)


def test_keys_of_the_user_that_look_like_special_ones_are_taken() -> None:
    own = {"target": 1, "partial": 2, "args_": 3, "_id": 4, "_private_": 5}
    assert values(build_pipeline(compose([keep(own)]))) == [own]


@pytest.mark.parametrize("steps", [[keep(1), keep("${nowhere}")], [{**keep(1), "value": "???"}]])
def test_values_of_steps_in_a_list_are_named(steps: list[Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_pipeline(compose(steps))
    assert f"in training_pipeline.steps.{len(steps) - 1}.value" in str(caught.value)


def test_a_step_in_a_list_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_pipeline(compose([keep(1), {**keep(1), "_target_": f"{__name__}.Keeep"}]))
    assert "in training_pipeline.steps.1" in str(caught.value)
    assert "did you mean 'Keep'?" in str(caught.value)


def test_pipe_key_is_a_dotted_path() -> None:
    inner = {"_target_": "itwinai.pipeline.Pipeline", "steps": [keep("${lr}")]}
    cfg = OmegaConf.create({"lr": 3, "mine": {"first": inner}, "pipe_key": "mine.first"})
    assert values(build_pipeline(cfg)) == [3]
    assert step_keys(cfg) == [0]


@pytest.mark.parametrize(
    ("pipe_key", "parts"),
    [
        ("trainin_pipeline", ["'trainin_pipeline'; did you mean 'training_pipeline'?", "other"]),
        ("other.depe", ["no pipeline 'depe'; did you mean 'deep'?"]),
        ("lr", ["Known keys: training_pipeline, other"]),
        ("pointer", ["no pipeline 'pointer'"]),
        ("other", ["other: this is not a pipeline, it has no key '_target_'"]),
    ],
)
def test_a_wrong_pipe_key_names_the_known_ones(pipe_key: str, parts: list[str]) -> None:
    cfg = compose([keep(1)], other={"deep": {}}, lr=0.1, pointer="${lr}", pipe_key=pipe_key)
    with pytest.raises(ConfigurationError) as caught:
        build_pipeline(cfg)
    for part in parts:
        assert part in str(caught.value)


def test_chosen_steps_become_a_list_and_keep_their_interpolations() -> None:
    cfg = compose({"a": keep(1), "b": keep("${x}"), "c": keep(3)}, x=2, pipe_steps=["c", "b"])
    before = OmegaConf.to_yaml(cfg)
    pipeline = build_pipeline(cfg)
    assert isinstance(pipeline.steps, list)
    assert values(pipeline) == [3, 2]
    assert step_keys(cfg) == ["c", "b"]
    assert OmegaConf.to_yaml(cfg) == before
    listed = compose([keep(1), keep(2)], pipe_steps=[1])
    assert values(build_pipeline(listed)) == [2]


def test_chosen_steps_may_refer_to_those_that_are_not_chosen() -> None:
    named = {"a": keep(7), "b": keep("${training_pipeline.steps.a.value}"), "c": keep("${..a}")}
    _, found = values(build_pipeline(compose(named, pipe_steps=["b", "c"])))
    assert values(build_pipeline(compose(named, pipe_steps=["b"]))) == [7]
    assert found.value == 7
    listed = [keep(1), keep(2), keep(3), keep("${training_pipeline.steps.1.value}")]
    assert values(build_pipeline(compose(listed, pipe_steps=[1, 2, 3]))) == [2, 3, 2]


@pytest.mark.parametrize("steps", [{"first": keep(1)}, [keep(1)]])
def test_a_wrong_step_is_refused(steps: Any) -> None:
    with pytest.raises(ConfigurationError, match="there is no step 'frist'"):
        build_pipeline(compose(steps, pipe_steps=["frist"]))


def test_an_itwinai_error_of_a_constructor_surfaces_as_it_is() -> None:
    step = {"_target_": f"{__name__}.Picky", "how": "itwinai"}
    with pytest.raises(CheckpointError) as caught:
        build_pipeline(compose({"a": {**keep(1), "value": step}}))
    assert str(caught.value) == "the checkpoint is gone"
    assert notes_of(caught.value) == ["in training_pipeline.steps.a.value"]


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        ({"_target_": f"{__name__}.Picky", "how": "x"}, ["steps.a", "own bug", "ITWINAI_DEBUG=1"]),
        ({"_target_": f"{__name__}.Nothing"}, ["steps.a", f"'{__name__}' has no 'Nothing'"]),
        ({"_target_": "no_such_module.Nothing"}, ["steps.a", "no module 'no_such_module'"]),
        ({**keep(1), "valu": 2}, ["steps.a.valu", "has no argument 'valu'; did you mean 'value'"]),
        (keep("${nowhere}"), ["steps.a.value", "no key 'nowhere'"]),
        (keep("???"), ["steps.a.value", "'???'"]),
    ],
)
def test_what_cannot_be_built_is_a_configuration_error(
    step: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_pipeline(compose({"a": step}))
    for part in parts:
        assert part in str(caught.value)


def test_resolvers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    register_resolvers()
    cfg = OmegaConf.create(
        {
            "here": "${itwinai.cwd:}",
            "range": "${itwinai.range:1,10,3}",
            "count": "${itwinai.range:3}",
            "product": "${itwinai.multiply:${factor},2.5}",
            "factor": 2,
        }
    )
    assert OmegaConf.to_container(cfg, resolve=True) == {
        "here": str(tmp_path),
        "range": [1, 4, 7],
        "count": [0, 1, 2],
        "product": 5.0,
        "factor": 2,
    }


def test_resolvers_take_numbers_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKS", "4")
    monkeypatch.setenv("RATE", "1e-3")
    register_resolvers()
    cfg = OmegaConf.create(
        {
            "product": "${itwinai.multiply:${oc.env:RANKS},2}",
            "rate": "${itwinai.multiply:2,${oc.env:RATE}}",
            "range": "${itwinai.range:${oc.env:RANKS}}",
            "word": "${itwinai.multiply:ab,2}",
        }
    )
    assert (cfg.product, cfg.rate, list(cfg.range)) == (8, 0.002, [0, 1, 2, 3])
    with pytest.raises(InterpolationResolutionError, match="'ab' is no number"):
        _ = cfg.word
