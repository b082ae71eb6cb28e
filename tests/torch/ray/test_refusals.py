"""Everything that cannot work is refused with a sentence, before anything has started."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from small_trainings import MLP, make_data, options

from itwinai.errors import ConfigurationError, ItwinaiError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError
from itwinai.hpo.search import ALGORITHMS
from itwinai.torch.ray.arguments import RayArguments
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer

LR = {"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1}}
BOUNDS = {"type": "loguniform", "lower": 1e-4, "upper": 1e-1}


class OwnStep(RayTorchTrainer):
    """A hook of the user's own, which may read anything."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        return super().train_step(batch, batch_idx)


class OwnMetrics(RayTorchTrainer):
    """A method of the user's own that is no hook."""

    def figure_of_merit(self) -> float:
        return 1.0


class OwnOptimizer(RayTorchTrainer):
    """A hook that may read any of the optimizers' options."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()


def any_options(**options: Any) -> MLP:
    return MLP(**options)


def start(folder: Path, space: Any = LR, kind: type = RayTorchTrainer, **changes: Any) -> None:
    """Make a study's trainer and execute it, as a user does."""
    study = {"storage_path": folder / "studies", "metric": "validation_loss", "mode": "min"}
    study |= {"num_samples": 2, "scheduler": "none", "seed": 1} | changes.pop("study", {})
    trainer = kind(
        **options(folder, **changes),
        search_space=space,
        study={key: value for key, value in study.items() if value is not None},
    )
    trainer.execute(make_data(), make_data())


def assert_nothing_started(folder: Path) -> None:
    assert not list(folder.iterdir())
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def refused(folder: Path, *args: Any, **changes: Any) -> str:
    """What a user is told."""
    with pytest.raises(ItwinaiError) as caught:
        start(folder, *args, **changes)
    assert_nothing_started(folder)
    assert isinstance(caught.value, ConfigurationError)
    return str(caught.value)


# -- keys of the study ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"num_sample": 3}, "study.num_sample: unknown key; did you mean 'num_samples'?"),
        (
            {"zzz": 3},
            "study.zzz: unknown key; known keys: " + ", ".join(StudyConfiguration.model_fields),
        ),
        (
            {"storage_path": "s3://bucket/studies"},
            "study.storage_path='s3://bucket/studies': 's3://bucket/studies' is an address, but "
            "records and checkpoints need a folder of a file system, which all nodes share; "
            "object storage can neither lock a file nor add to one. Give a path, and copy the "
            "finished study",
        ),
        (
            {"resources_per_worker": {"GPU": 0.5}, "workers_per_trial": 2},
            "study: resources_per_worker: GPU=0.5 with workers_per_trial=2: only a trial of one "
            "worker can take less than a GPU, and nothing can take one and a half. Give each "
            "worker a whole number, or set workers_per_trial to 1",
        ),
        (
            {"num_samples": 0},
            "study.num_samples=0: Input should be greater than or equal to 1",
        ),
        ({"mode": "minimum"}, "study.mode='minimum': Input should be 'min' or 'max'"),
        (
            {"name": "../up"},
            "study.name='../up': a study's name is 1 to 100 letters, digits, '.', '_' or '-', "
            "and does not start with '.' or '-'",
        ),
        (
            {"keep_checkpoints": "none"},
            "study.keep_checkpoints='none': Input should be 'best', 'completed' or 'all'",
        ),
        (
            {"exclude_nodes": "node7"},
            "study.exclude_nodes='node7': give 'auto', 'never', or a list of nodes, such as "
            "[node7]",
        ),
        ({"algorithm": "tpee"}, "study.algorithm='tpee': unknown; did you mean 'tpe'?"),
        (
            {"algorithm": "xyz"},
            "study.algorithm='xyz': unknown; known names: auto, " + ", ".join(ALGORITHMS),
        ),
        (
            {"algorithm": {"name": "tpe", "n_startup": 3}},
            "study.algorithm(tpe).n_startup: unknown key; did you mean 'n_startup_trials'?",
        ),
        ({"scheduler": "ashaa"}, "study.scheduler='ashaa': unknown; did you mean 'asha'?"),
        (
            {"scheduler": {"name": "asha", "grace": 3}},
            "study.scheduler(asha).grace: unknown key; did you mean 'grace_period'?",
        ),
        (
            {"mode": None},
            "study.mode is missing: say 'min' or 'max', whichever makes 'validation_loss' "
            "better; for 'validation_loss' that is most likely 'min'",
        ),
        (
            {"mode": None, "metric": "validation_accuracy"},
            "study.mode is missing: say 'min' or 'max', whichever makes 'validation_accuracy' "
            "better; for 'validation_accuracy' that is most likely 'max'",
        ),
        (
            {"mode": None, "metric": "reward"},
            "study.mode is missing: say 'min' or 'max', whichever makes 'reward' better",
        ),
    ],
    ids=lambda value: " ".join(map(str, value.items())) if isinstance(value, dict) else "",
)
def test_a_wrong_key_or_value_of_the_study(
    tmp_path: Path, study: dict[str, Any], message: str
) -> None:
    assert refused(tmp_path, study=study) == message


@pytest.mark.parametrize("name", ["asha", "median"])
@pytest.mark.parametrize("grace_period", [3, 5])
def test_a_grace_period_that_reaches_the_end(tmp_path: Path, name: str, grace_period: int) -> None:
    scheduler = {"name": name, "grace_period": grace_period}
    assert refused(tmp_path, study={"scheduler": scheduler}) == (
        f"study.scheduler({name}).grace_period={grace_period} with epochs=3: no trial could ever "
        "be stopped early. Use a grace period below 3, more epochs, or scheduler: none."
    )


@pytest.mark.parametrize("max_t", [2, 100])
def test_a_maximum_that_contradicts_the_epochs(tmp_path: Path, max_t: int) -> None:
    assert refused(tmp_path, study={"scheduler": {"name": "asha", "max_t": max_t}}) == (
        f"study.scheduler(asha).max_t={max_t} contradicts epochs=3. Leave max_t out: a study's "
        "trials end at the trainer's epochs."
    )


def test_a_mode_that_contradicts_the_metric_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The warning comes before what is refused afterwards.
    refused(tmp_path, study={"mode": "max", "scheduler": "ashaa"})
    assert (
        "warning: study.mode='max' looks for the highest 'validation_loss'; is 'min' meant?"
        in capsys.readouterr().out.splitlines()
    )
    refused(tmp_path, study={"metric": "validation_f1", "scheduler": "ashaa"})
    assert (
        "warning: study.mode='min' looks for the lowest 'validation_f1'; is 'max' meant?"
        in capsys.readouterr().out.splitlines()
    )
    refused(tmp_path, study={"metric": "validation_loss", "scheduler": "ashaa"})
    assert "warning" not in capsys.readouterr().out


def test_more_cores_than_there_are(tmp_path: Path) -> None:
    message = refused(tmp_path, study={"resources_per_worker": {"CPU": 4096}})
    assert message.startswith(
        "study.resources_per_worker: a trial needs 1 worker(s) with 4096 CPU each, which no "
        "machine here can ever give (there is: "
    )
    assert message.endswith("Ask for less per worker, or for fewer study.workers_per_trial.")
    message = refused(tmp_path, study={"workers_per_trial": 4096})
    assert "a trial needs 4096 worker(s) with 1 CPU each" in message


@pytest.mark.parametrize(
    ("scheduler", "first"), [({"name": "pbt", "interval": 2}, 2), ({"name": "pasha"}, 6)], ids=str
)
def test_checkpoints_that_come_after_the_first_pause_are_refused(
    tmp_path: Path, scheduler: dict[str, Any], first: int
) -> None:
    study = {"scheduler": scheduler, "algorithm": "auto"}
    message = refused(tmp_path, epochs=20, checkpoint_every=first + 1, study=study)
    assert message == (
        f"checkpoint_every={first + 1} with study.scheduler={scheduler['name']!r}: this one pauses "
        f"trials after epoch {first}, when they would have no checkpoint to go on from. Set "
        "checkpoint_every to 1, or use a scheduler that pauses no trial, such as asha."
    )


# -- the search space ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (
            {"type": "loguniforn", "lower": 1, "upper": 2},
            "search_space.optim_lr.type='loguniforn': unknown; did you mean 'loguniform'?",
        ),
        (
            {"type": "uniform", "lower": 1, "upper": 0.5},
            "search_space.optim_lr: the range from 1 to 0.5 is empty; lower must be below upper",
        ),
        (
            {"type": "uniform", "lower": 1, "upper": 1},
            "search_space.optim_lr: the range from 1 to 1 is empty; lower must be below upper",
        ),
        (
            {"type": "randint", "lower": 3, "upper": 3},
            "search_space.optim_lr: the range from 3 up to, not including, 3 is empty",
        ),
        (
            {"type": "uniform", "lower": 0, "upper": float("inf")},
            "search_space.optim_lr.upper=inf: a range must be finite",
        ),
        (
            {"type": "uniform", "lower": float("nan"), "upper": 1},
            "search_space.optim_lr.lower=nan: a range must be finite",
        ),
        (
            {"type": "uniform", "lower": "low", "upper": 1},
            "search_space.optim_lr.lower='low': expected a number",
        ),
        (
            {"type": "uniform", "lower": 0},
            "search_space.optim_lr.upper: this key is required",
        ),
        (
            {"type": "choice", "categories": []},
            "search_space.optim_lr.categories=[]: a choice needs a list of at least one value",
        ),
        (
            [1e-3, 1e-2],
            "search_space.optim_lr=[0.001, 0.01]: expected a mapping such as {type: uniform, "
            "lower: 0, upper: 1}, a Ray Tune domain, or a plain value, which is then a constant. "
            "For a list of values to choose from, use {type: choice, categories: [...]}.",
        ),
    ],
    ids=repr,
)
def test_a_domain_without_values(tmp_path: Path, domain: Any, message: str) -> None:
    assert refused(tmp_path, {"optim_lr": domain}) == message


@pytest.mark.parametrize("lower", [0, -1])
def test_a_logarithmic_range_that_reaches_zero(tmp_path: Path, lower: float) -> None:
    domain = {"type": "loguniform", "lower": lower, "upper": 1}
    assert refused(tmp_path, {"optim_lr": domain}) == (
        f"search_space.optim_lr: a logarithmic range needs lower above 0, got {lower}. Use a "
        "small positive bound, or the linear type."
    )


def test_an_empty_search_space(tmp_path: Path) -> None:
    assert refused(tmp_path, {}) == (
        "search_space: at least one hyper-parameter is needed, for example "
        "{optim_lr: {type: loguniform, lower: 1e-4, upper: 1e-1}}"
    )


def test_a_name_that_nothing_reads(tmp_path: Path) -> None:
    assert refused(tmp_path, {"learning_rate": BOUNDS}) == (
        "search_space.learning_rate: nothing would read it; did you mean 'optim_lr'?"
    )
    assert refused(tmp_path, {"gamma": BOUNDS}, kind=OwnMetrics) == (
        "search_space.gamma: nothing would read it; did you mean 'lr_scheduler_gamma'?"
    )
    assert refused(tmp_path, {"widht": {"type": "randint", "lower": 1, "upper": 9}}) == (
        "search_space.widht: nothing would read it; did you mean 'width'?"
    )
    # A factory gets only what it names.
    message = refused(tmp_path, {"zzz": BOUNDS}, model=any_options)
    assert ", width" not in message
    message = refused(tmp_path, {"zzz": BOUNDS})
    assert message.startswith(
        "search_space.zzz: nothing would read it. Names that are read: batch_size, "
    )
    assert ", width" in message


def test_a_model_that_is_built_already(tmp_path: Path) -> None:
    width = {"width": {"type": "randint", "lower": 1, "upper": 9}}
    for kind in (RayTorchTrainer, OwnStep):
        assert refused(tmp_path, width, kind, model=MLP()) == (
            "search_space.width: the model is built already, so its 'width' cannot change. Pass "
            "the class (model=MLP), or in YAML add _partial_: true to the model."
        )


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("optim_momentum", {}, "with optimizer='adam'; it is for rmsprop, sgd"),
        ("optim_betas", {"optimizer": "sgd"}, "with optimizer='sgd'; it is for adam, adamw"),
        (
            "lr_scheduler_gamma",
            {},
            "with lr_scheduler=None; it is for step, multistep, exponential",
        ),
        (
            "lr_scheduler_gamma",
            {"lr_scheduler": "linear"},
            "with lr_scheduler='linear'; it is for step, multistep, exponential",
        ),
    ],
)
def test_an_option_of_another_optimizer_or_schedule(
    tmp_path: Path, name: str, config: dict[str, Any], message: str
) -> None:
    space = {name: {"type": "choice", "categories": [0.5, 0.9]}}
    expected = (
        f"search_space.{name}: nothing reads it {message}. Remove it, or choose one of those."
    )
    assert refused(tmp_path, space, config=config) == expected
    # Also where only optimizers without it are among the choices.
    if name == "optim_momentum":
        space["optimizer"] = {"type": "choice", "categories": ["adamw", "adam"]}
        assert "nothing reads it with optimizer='adamw'" in refused(tmp_path, space)


def accepted(folder: Path, *args: Any, **changes: Any) -> bool:
    """Tell whether all is well up to the check that comes last."""
    study = {"resources_per_worker": {"CPU": 4096}}
    return "4096 CPU" in refused(folder, *args, **changes, study=study)


def test_names_that_something_may_read_are_accepted(tmp_path: Path) -> None:
    momentum = {"optim_momentum": {"type": "uniform", "lower": 0, "upper": 1}}
    optimizers = {"optimizer": {"type": "choice", "categories": ["adam", "sgd"]}}
    assert accepted(tmp_path, momentum | optimizers)
    assert accepted(tmp_path, momentum, config={"optimizer": "sgd"})
    assert accepted(tmp_path, momentum, OwnOptimizer)
    width = {"width": {"type": "randint", "lower": 1, "upper": 9}}
    assert accepted(tmp_path, width)
    assert accepted(tmp_path, {"temperature": BOUNDS}, OwnStep)


def test_a_default_that_is_not_there_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accepted(tmp_path, {"temperature": BOUNDS, **LR}, OwnStep)
    assert (
        "warning: the config lacks a value for some of temperature, optim_lr, so there is no "
        "default configuration to compare with. Set them in the config, or "
        "study.default_first=false." in capsys.readouterr().out.splitlines()
    )


@pytest.mark.parametrize(("num_samples", "advice"), [(3, "smaller"), (4, "smaller"), (6, "larger")])
def test_a_total_that_is_not_the_grids(tmp_path: Path, num_samples: int, advice: str) -> None:
    space = {
        "width": {"type": "choice", "categories": [2, 3]},
        "dropout": {"type": "quniform", "lower": 0, "upper": 0.2, "q": 0.2},
    }
    study = {"algorithm": "grid", "num_samples": num_samples}
    assert refused(tmp_path, space, study=study) == (
        f"study.num_samples={num_samples}: the grid has 4 points and the default configuration, "
        f"so the study has 5 trials. Leave num_samples out, or make the grid {advice}."
    )


def test_points_that_would_never_be_trained(tmp_path: Path) -> None:
    study = {"num_samples": 2, "points": [{"optim_lr": 1e-3}, {"optim_lr": 1e-2}]}
    assert refused(tmp_path, study=study) == (
        "study.num_samples=2: study.points has 2 points and the default configuration, so the "
        "study has at least 3 trials. Leave num_samples out, or give fewer points."
    )


def test_a_grid_over_a_range_without_steps(tmp_path: Path) -> None:
    assert refused(tmp_path, study={"algorithm": "grid", "num_samples": None}) == (
        "search_space.optim_lr: a grid needs a step or a list of values. Use quniform with q, or "
        "choice, or another algorithm than grid."
    )
    assert refused(tmp_path, {"width": {"grid_search": [1, 2]}}, study={"algorithm": "tpe"}) == (
        "search_space.width: grid_search asks for every value, but study.algorithm is 'tpe'. Use "
        "algorithm: grid, or type: choice."
    )


# -- the rest ------------------------------------------------------------------------------------


def test_a_study_that_exists(tmp_path: Path) -> None:
    folder = tmp_path / "studies/study"
    folder.mkdir(parents=True)
    (folder / "record.log").write_text("something\n")
    with pytest.raises(StudyError) as caught:
        start(tmp_path)
    assert str(caught.value) == (
        f"study 'study' exists already in {folder}. Set study.resume=true to go on with it, or "
        "give this one another study.name."
    )
    assert (folder / "record.log").read_text() == "something\n"
    assert [path.name for path in folder.iterdir()] == ["record.log"]
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("/proc/nowhere", "No such file or directory"),
    ],
)
def test_a_place_that_cannot_hold_files(tmp_path: Path, storage: str, reason: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    place = tmp_path / "other" / storage
    with pytest.raises(ConfigurationError) as caught:
        start(tmp_path, study={"storage_path": place})
    assert str(caught.value).startswith(f"study.storage_path={str(place)!r} cannot hold a ")
    assert f": {reason} (" in str(caught.value)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["file"]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def in_itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def bomb() -> Any:
    """A billion values, of thirty lists."""
    value: Any = [1, 1]
    for _ in range(30):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (10**400, "a whole number of more than 300 digits"),
        ([-(10**5000)], "a whole number of more than 300 digits"),
        (nested(3000), "a value that goes more than 100 levels deep, or into itself"),
        ({"a": nested(3000)}, "a value that goes more than 100 levels deep, or into itself"),
        (in_itself(), "a value that goes more than 100 levels deep, or into itself"),
        (bomb(), "more than 1,000,000 values"),
        (range(10**12), "more than 1,000,000 values"),
    ],
    ids=["huge", "huger", "deep", "deeper", "round", "bomb", "long"],
)
def test_a_value_that_nothing_could_work_through(tmp_path: Path, value: Any, reason: str) -> None:
    space = {"optim_lr": BOUNDS, "width": {"type": "choice", "categories": value}}
    assert refused(tmp_path, space) == f"search_space.width: {reason}"
    assert refused(tmp_path, study={"seed": value}) == f"study.seed: {reason}"
    scheduler = {"name": "asha", "grace_period": value}
    assert refused(tmp_path, study={"scheduler": scheduler}) == f"study.scheduler: {reason}"
    assert refused(tmp_path, config={"width": value}) == f"config.width: {reason}"
    assert refused(tmp_path, epochs=value) == f"epochs: {reason}"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"optimizer": {"type": "uniform", "lower": 0, "upper": 1}},
            "search_space.optimizer: a trial could get 1.0. Input should be 'adadelta', 'adam', "
            "'adamw', 'rmsprop' or 'sgd'",
        ),
        (
            {"batch_size": {"type": "randint", "lower": 0, "upper": 9}},
            "search_space.batch_size: a trial could get 0. Input should be greater than or equal "
            "to 1",
        ),
        (
            {"loss": {"type": "choice", "categories": ["mse", "msee"]}},
            "search_space.loss: a trial could get 'msee'. Input should be 'mse', 'nllloss', "
            "'cross_entropy', 'l1', 'l2' or 'bceloss'",
        ),
    ],
)
def test_a_value_that_a_key_cannot_have(tmp_path: Path, space: Any, message: str) -> None:
    assert refused(tmp_path, space) == message


def test_several_metrics_without_modes(tmp_path: Path) -> None:
    study = {"metric": ["validation_loss", "validation_accuracy"], "mode": None}
    assert refused(tmp_path, study=study) == (
        "study.mode is missing: give a list of 'min' or 'max', one for each of validation_loss, "
        "validation_accuracy, such as [min, max]"
    )


class Holding(RayTorchTrainer):
    """Takes a lock too early."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.Lock()


def test_a_trainer_that_cannot_be_sent(tmp_path: Path) -> None:
    message = refused(tmp_path, kind=Holding)
    assert message == (
        "the trainer cannot be sent to a trial's process: cannot pickle '_thread.lock' object. "
        "Open files, locks and connections must be made inside train(), not in the constructor."
    )


def test_what_ray_is_told_of_failures_and_ends_is_not_left_out() -> None:
    tune = pytest.importorskip("ray.tune")

    def study(**run_options: Any) -> Any:
        space = {"optim_lr": tune.uniform(0.1, 1)}
        return RayArguments(search_space=space, run=tune.RunConfig(**run_options)).study()[1]

    assert study().max_failures == 3
    assert study(failure_config=tune.FailureConfig(max_failures=7)).max_failures == 7
    assert study(failure_config=tune.FailureConfig(max_failures=-1)).max_failures > 1000
    with pytest.raises(ConfigurationError, match=r"ray_run_config.stop=.*'training_iteration'"):
        study(stop={"training_iteration": 2})


def test_ray_arguments_are_checked_like_a_study(tmp_path: Path) -> None:
    tune = pytest.importorskip("ray.tune")

    def message(space: Any = None, **tune_options: Any) -> str:
        trainer = TorchTrainer(
            **options(tmp_path),
            ray_search_space=space or {"optim_lr": tune.loguniform(1e-4, 1e-1)},
            ray_tune_config=tune.TuneConfig(**tune_options),
            ray_run_config=tune.RunConfig(name="old", storage_path=str(tmp_path / "studies")),
        )
        with pytest.raises(ConfigurationError) as caught:
            trainer.execute(make_data(), make_data())
        assert_nothing_started(tmp_path)
        return str(caught.value)

    assert message({"learning_rate": tune.uniform(0, 1)}) == (
        "search_space.learning_rate: nothing would read it; did you mean 'optim_lr'?"
    )
    assert message(metric="validation_accuracy").startswith("study.mode is missing: say 'min' or")
    assert message(scheduler=tune.schedulers.ASHAScheduler(grace_period=9)) == (
        "study.scheduler(AsyncHyperBandScheduler).grace_period=9 with epochs=3: no trial could "
        "ever be stopped early. Use a grace period below 3, more epochs, or scheduler: none."
    )
    assert message(scheduler=tune.schedulers.ASHAScheduler(max_t=2, grace_period=1)) == (
        "study.scheduler(AsyncHyperBandScheduler).max_t=2 contradicts epochs=3. Leave max_t out: "
        "a study's trials end at the trainer's epochs."
    )
    assert message({"optim_lr": tune.sample_from(lambda spec: 1)}).startswith(
        "search_space.optim_lr="
    )


REFUSALS = """
import sys
from pathlib import Path
from test_refusals import LR, start
from itwinai.errors import ConfigurationError

for space, study in (
    ({"learning_rate": LR["optim_lr"]}, {}),
    ({"optim_momentum": LR["optim_lr"]}, {}),
    (LR, {"mode": None}),
    (LR, {"scheduler": {"name": "asha", "grace_period": 3}}),
    (LR, {"resources_per_worker": {"CPU": 4096}}),
    (LR, {"algorithm": "grid"}),
):
    try:
        start(Path(sys.argv[1]), space, study=study)
    except ConfigurationError as error:
        print("refused:", error)
print("ray" in sys.modules)
"""


def test_a_refusal_does_not_even_load_ray(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSALS, str(tmp_path)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("refused: ")]) == 6
    assert lines[-1] == "False"
    assert_nothing_started(tmp_path)


def test_the_library_has_not_changed_how_others_log(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    refused(tmp_path, {})
    assert (root.level, list(root.handlers)) == before
