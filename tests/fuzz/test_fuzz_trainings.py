"""Configurations of trainings and studies, as keywords of Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from given_values import NUMBERS, TEXT, VALUES, some_of
from hypothesis import given
from hypothesis import strategies as st
from refusing import taken

from itwinai.hpo.launch import StudyPlan, plan_study
from itwinai.hpo.schedulers.table import SCHEDULERS
from itwinai.hpo.search.algorithms import ALGORITHMS
from itwinai.hpo.space import SearchSpace
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.trainer import RayTorchTrainer

NAME = st.sampled_from(["digits", "study"]) | TEXT
METRIC = st.sampled_from(["loss", "validation_loss", "validation_accuracy"]) | TEXT
MODE = st.sampled_from(["min", "max"])


def named(names: Any) -> st.SearchStrategy[Any]:
    """A name of a table, or one with an option or two."""
    options = ("reduction_factor", "grace_period", "seed", "startup_trials", "max_t")
    name = st.sampled_from(sorted(names))
    return name | some_of(name=name, **dict.fromkeys(options, NUMBERS)) | VALUES


STUDY = some_of(
    name=NAME,
    metric=METRIC | st.lists(METRIC, max_size=3),
    mode=MODE | st.lists(MODE, max_size=3),
    primary=METRIC,
    num_samples=NUMBERS,
    time_budget_s=NUMBERS,
    algorithm=named(ALGORITHMS),
    scheduler=named(SCHEDULERS),
    constraints=st.lists(st.sampled_from(["optim_lr < 1", "x y", "1/0 < optim_lr"]) | TEXT),
    points=st.lists(st.dictionaries(st.just("optim_lr") | TEXT, VALUES, max_size=2), max_size=2),
    warm_start=TEXT,
    workers_per_trial=NUMBERS,
    resources_per_worker=st.dictionaries(st.sampled_from(["CPU", "GPU"]) | TEXT, NUMBERS),
    max_concurrent_trials=NUMBERS,
    fresh_processes=st.booleans(),
    default_first=st.booleans() | st.just("stop_early"),
    seed=NUMBERS,
    resume=st.booleans(),
    max_failures=NUMBERS,
    fail_fast=NUMBERS,
    report_timeout_s=NUMBERS,
    keep_checkpoints=st.sampled_from(["best", "completed", "all"]),
    readable_by=st.sampled_from(["owner", "group"]),
)
CONFIG = some_of(
    **{
        name: NUMBERS if name in ("optim_lr", "batch_size") else VALUES
        for name in TrainingConfiguration.model_fields
    }
)
ARGUMENTS = {
    "strategy": st.sampled_from(["ddp", "fsdp", "deepspeed"]) | st.none(),
    "test_every": NUMBERS,
    "random_seed": NUMBERS,
    "checkpoints_location": TEXT,
    "checkpoint_every": NUMBERS,
    "checkpoint_last": NUMBERS,
    "checkpoint_every_steps": NUMBERS,
    "checkpoint_every_seconds": NUMBERS,
    "validate_every_steps": NUMBERS,
    "run_name": TEXT,
    "profiling_wait_epochs": NUMBERS,
    "initial_best_validation_metric": NUMBERS | TEXT,
    "from_checkpoint": TEXT,
    "metrics": VALUES,
    "logger": VALUES,
    "study": STUDY,
}
SPACE = {"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1}}


def trainer_of(config: Any, epochs: Any, arguments: dict[str, Any]) -> RayTorchTrainer:
    model = arguments.pop("model", torch.nn.Linear(2, 2))
    return RayTorchTrainer(config=config, epochs=epochs, model=model, **arguments)


def check_are_as_given(read: dict[str, Any], config: dict[str, Any]) -> None:
    """A number that was taken is the number that was given, as closely as its field can hold it."""
    for key, value in config.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert repr(read[key]) == repr(type(read[key])(value)), (key, value)


@given(CONFIG | VALUES, NUMBERS)
def test_a_training_in_python(config: Any, epochs: Any) -> None:
    trainer = taken(lambda: trainer_of(config, epochs, {}))
    if trainer is not None:
        assert trainer.epochs == epochs
        check_are_as_given(trainer.config.snapshot(), config or {})


@given(st.fixed_dictionaries({}, optional={key: ARGUMENTS[key] | VALUES for key in ARGUMENTS}))
def test_a_trainers_arguments_in_python(arguments: dict[str, Any]) -> None:
    taken(lambda: trainer_of({}, 2, arguments))


def plan(study: Any, storage: Path) -> StudyPlan:
    trainer = trainer_of({"optim_lr": 0.01}, 3, {"study": study, "search_space": SPACE})
    settings = trainer.study.model_copy(update={"storage_path": storage})
    return plan_study(settings, SearchSpace.parse(SPACE), 3, {"optim_lr": 0.01})


@given(STUDY | VALUES)
def test_a_study_in_python(tmp_path: Path, study: Any) -> None:
    taken(lambda: plan(study, tmp_path))
