"""What a configuration may name as code: tables of what is refused, and of what is built.

Each gadget would leave the file ``PWNED``, or take one away; the command is the real one.
"""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from itwinai.cli import app
from itwinai.config import public

MODULE = """
import ctypes
import functools
import os
import pathlib
import sqlite3
import subprocess
from functools import partial
from os import system
from pathlib import Path

import hydra
import outside
import torch
from hydra.utils import instantiate
from torch.nn import Linear

from itwinai.components import BaseComponent
from itwinai.slurm.tools import run_tool
from outside import Thing

NOTE = Path("PWNED")
touch = partial(os.system, "touch PWNED")
twice = partial(partial(os.system), "touch PWNED")
small = partial(Linear, 2)
opened = sqlite3.connect(":memory:")


class Keep(BaseComponent):
    def __init__(self, value=None, *more, **others):
        super().__init__()
        self.value = value

    @classmethod
    def made(cls, value=None):
        return cls(value)

    def execute(self, *args):
        print("kept", type(self.value).__name__)


class Net(torch.nn.Module):
    pass


class Caller:
    def __call__(self, value=1):
        return value


caller = Caller()


def doubled(value=1):
    return 2 * value
"""

OUTSIDE = """
class Thing:
    pass


def made():
    return Thing()
"""

TOUCH = ["touch PWNED"]
CODE = ["open('PWNED', 'w')"]
WORDS = [["touch", "PWNED"]]
NOTE = {"_target_": "pathlib.Path", "_args_": ["PWNED"]}
PICKLE = {"_target_": "builtins.open", "_args_": ["evil.pkl", "rb"]}
SYSTEM = {"_target_": "os.system", "_partial_": True}

#: Address and arguments of what nobody's configuration may do by itself.
GADGETS: list[tuple[str, dict[str, Any]]] = [
    ("os.system", {"_args_": TOUCH}),
    ("posix.system", {"_args_": TOUCH}),
    ("os.popen", {"_args_": TOUCH}),
    ("os.remove", {"_args_": ["victim"]}),
    ("os.unlink", {"_args_": ["victim"]}),
    ("os.execvp", {"_args_": ["touch", ["touch", "PWNED"]]}),
    ("os.mkdir", {"_args_": ["PWNED"]}),
    ("subprocess.run", {"_args_": WORDS}),
    ("subprocess.Popen", {"_args_": WORDS}),
    ("subprocess.call", {"_args_": WORDS}),
    ("subprocess.check_output", {"_args_": WORDS}),
    ("subprocess.getoutput", {"_args_": TOUCH}),
    ("pty.spawn", {"_args_": WORDS}),
    ("distutils.spawn.spawn", {"_args_": WORDS}),
    ("setuptools._distutils.spawn.spawn", {"_args_": WORDS}),
    ("multiprocessing.Process", {"target": SYSTEM, "args": TOUCH}),
    ("concurrent.futures.ThreadPoolExecutor", {"initializer": SYSTEM}),
    ("threading.Timer", {"interval": 0, "function": SYSTEM, "args": TOUCH}),
    ("builtins.eval", {"_args_": CODE}),
    ("builtins.exec", {"_args_": CODE}),
    ("builtins.open", {"_args_": ["PWNED", "w"]}),
    ("builtins.__import__", {"_args_": ["evil"]}),
    ("builtins.getattr", {"_args_": ["x", "y"]}),
    ("builtins.map", {"_args_": [SYSTEM, TOUCH]}),
    ("io.open", {"_args_": ["PWNED", "w"]}),
    ("codecs.open", {"_args_": ["PWNED", "w"]}),
    ("tempfile.mkdtemp", {"dir": "."}),
    ("timeit.timeit", {"_args_": CODE}),
    ("cProfile.run", {"_args_": CODE}),
    ("code.interact", {}),
    ("runpy.run_path", {"_args_": ["evil.py"]}),
    ("runpy.run_module", {"_args_": ["evil"]}),
    ("importlib.import_module", {"_args_": ["evil"]}),
    ("pkgutil.resolve_name", {"_args_": ["evil:x"]}),
    ("pydoc.locate", {"_args_": ["evil.x"]}),
    ("pickle.load", {"_args_": [PICKLE]}),
    ("pickle.loads", {"_args_": ["x"]}),
    ("cloudpickle.load", {"_args_": [PICKLE]}),
    ("ray.cloudpickle.load", {"_args_": [PICKLE]}),
    ("joblib.load", {"_args_": ["evil.pkl"]}),
    ("pandas.read_pickle", {"_args_": ["evil.pkl"]}),
    ("pandas.eval", {"_args_": ["1"]}),
    ("numpy.load", {"_args_": ["evil.pkl"], "allow_pickle": True}),
    ("torch.load", {"_args_": ["evil.pkl"], "weights_only": False}),
    ("torch.serialization.load", {"_args_": ["evil.pkl"], "weights_only": False}),
    ("torch.hub.load", {"_args_": ["hub", "evil"], "source": "local"}),
    ("torch.hub.load_state_dict_from_url", {"_args_": ["file:evil.pkl"]}),
    ("torch.jit.load", {"_args_": ["evil.pkl"]}),
    ("torch.compile", {"_args_": [SYSTEM]}),
    ("torch.multiprocessing.spawn", {"_args_": [SYSTEM]}),
    ("torch.utils.cpp_extension.load_inline", {"name": "x", "cpp_sources": "x"}),
    ("torch.nn.modules.module.torch.load", {"_args_": ["evil.pkl"]}),
    ("torch.nn.modules.os.system", {"_args_": TOUCH}),
    ("torch.nn.Module.load_state_dict", {"_args_": [{}]}),
    ("torch.optim.Optimizer.load_state_dict", {"_args_": [{}]}),
    ("torch.nn.modules.linear.Linear", {"_args_": [1, 1]}),
    ("torchmetrics.functional.accuracy", {}),
    ("ray.remote", {}),
    ("ray.init", {}),
    ("ray.tune.run", {}),
    ("ray.tune.Tuner", {"trainable": SYSTEM}),
    ("ray.tune.register_env", {"_args_": ["x", SYSTEM]}),
    ("optuna.storages.RDBStorage", {"url": "sqlite:///PWNED"}),
    ("lightning.pytorch.cli.LightningCLI", {}),
    ("functools.partial", {"_args_": [SYSTEM, *TOUCH]}),
    ("functools.reduce", {"_args_": [SYSTEM, TOUCH]}),
    ("hydra.utils.call", {"_args_": [{"_target_": "os.system", "_args_": TOUCH}]}),
    ("hydra.utils.instantiate", {"_args_": [{"_target_": "os.system", "_args_": TOUCH}]}),
    ("hydra.utils.get_method", {"_args_": ["os.system"]}),
    ("hydra.utils.get_object", {"_args_": ["evil.x"]}),
    ("hydra.utils.get_class", {"_args_": ["evil.x"]}),
    ("hydra._internal.utils._locate", {"_args_": ["evil.x"]}),
    ("omegaconf.OmegaConf.save", {"config": {}, "f": "PWNED"}),
    ("logging.FileHandler", {"filename": "PWNED"}),
    ("logging.config.dictConfig", {"_args_": [{"version": 1}]}),
    ("shutil.rmtree", {"_args_": ["hub"]}),
    ("shutil.copy", {"_args_": ["victim", "PWNED"]}),
    ("pathlib.Path", {"_args_": ["PWNED"]}),
    ("pathlib.Path.write_text", {"_args_": [NOTE, "x"]}),
    ("pathlib.Path.touch", {"_args_": [NOTE]}),
    ("pathlib.Path.unlink", {"_args_": [{"_target_": "pathlib.Path", "_args_": ["victim"]}]}),
    ("sqlite3.connect", {"_args_": ["PWNED"]}),
    ("ctypes.CDLL", {"_args_": ["./evil.so"]}),
    ("webbrowser.open", {"_args_": ["file:///"]}),
    ("urllib.request.urlretrieve", {"_args_": ["file:victim", "PWNED"]}),
    ("zipfile.ZipFile", {"_args_": ["PWNED", "w"]}),
    ("antigravity.webbrowser.open", {"_args_": ["file:///"]}),
    ("pip._internal.cli.main.main", {"_args_": [["--version"]]}),
    ("yaml.unsafe_load", {"_args_": ["!!python/object/apply:os.system ['touch PWNED']"]}),
    ("itwinai.slurm.tools.run_tool", {"_args_": ["touch", "PWNED"]}),
    ("itwinai.slurm.processes.start", {"_args_": WORDS}),
    ("itwinai.cli.hpo.run_command", {"_args_": [[]]}),
    ("itwinai.cli.kept.os.system", {"_args_": TOUCH}),
    ("itwinai.cli.app", {}),
    ("itwinai.__main__.app", {}),
    ("itwinai.io.files.write_text", {"_args_": [NOTE, "x"]}),
    ("itwinai.io.files.delete_folder", {"_args_": ["hub"]}),
    ("itwinai.utils.dynamically_import_class", {"_args_": ["evil.x"]}),
    ("itwinai.utils.add_to_sys_path", {"_args_": ["hub"]}),
    ("itwinai.utils.sys.exit", {}),
    ("itwinai.torch.ray.lightning.trainer.os.system", {"_args_": TOUCH}),
    ("itwinai.torch.ray.pickling.fresh_copy", {"_args_": ["x"]}),
    ("itwinai.torch.trainer.TorchTrainer.load_checkpoint", {"_args_": ["x"]}),
    ("itwinai.config.targets.located", {"_args_": ["evil.x"]}),
    ("itwinai.config.compose.build_pipeline", {"_args_": [{}]}),
    ("itwinai.parser.ArgumentParser", {}),
    # What lies elsewhere, though it could be imported.
    ("outside.Thing", {}),
    ("outside.made", {}),
    # Names of the own folder for what is not of it.
    ("mine.system", {"_args_": TOUCH}),
    ("mine.os.system", {"_args_": TOUCH}),
    ("mine.subprocess.run", {"_args_": WORDS}),
    ("mine.torch.load", {"_args_": ["evil.pkl"], "weights_only": False}),
    ("mine.torch.hub.load", {"_args_": ["hub", "evil"], "source": "local"}),
    ("mine.Path", {"_args_": ["PWNED"]}),
    ("mine.pathlib.Path.write_text", {"_args_": ["PWNED", "x"]}),
    ("mine.NOTE.write_text", {"_args_": ["x"]}),
    ("mine.NOTE.touch", {}),
    ("mine.ctypes.CDLL", {"_args_": ["./evil.so"]}),
    ("mine.partial", {"_args_": ["x"]}),
    ("mine.functools.partial", {"_args_": ["x"]}),
    ("mine.touch", {}),
    ("mine.twice", {}),
    ("mine.touch.func", {"_args_": TOUCH}),
    ("mine.opened.execute", {"_args_": ["select 1"]}),
    ("mine.instantiate", {"config": {}}),
    ("mine.hydra.utils.call", {"config": {}}),
    ("mine.hydra.utils.get_method", {"_args_": ["os.system"]}),
    ("mine.run_tool", {"_args_": ["touch", "PWNED"]}),
    ("mine.Thing", {}),
    ("mine.outside.made", {}),
    ("mine.Net.load_state_dict", {"_args_": [{}]}),
    ("mine.Keep.to_yaml", {"_args_": ["x", "PWNED"]}),
    ("mine.Keep.__subclasses__", {}),
    ("mine.Keep.__class__", {"_args_": ["x", [], {}]}),
    ("mine.doubled.__globals__.get", {"_args_": ["os"]}),
    ("mine.__loader__.load_module", {"_args_": ["mine"]}),
]

#: What is built without a flag.
ALLOWED: list[dict[str, Any]] = [
    {"_target_": "mine.Net"},
    {"_target_": "mine.Keep.made", "value": 1},
    {"_target_": "mine.doubled", "value": 3},
    {"_target_": "mine.doubled", "_partial_": True},
    {"_target_": "mine.caller"},
    {"_target_": "mine.Linear", "_args_": [1, 2]},
    {"_target_": "mine.small", "out_features": 2},
    {"_target_": "mine.torch.nn.Linear", "_args_": [1, 2]},
    {"_target_": "package.inner.Deep"},
    {"_target_": "plain_folder.module.Flat"},
    {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 2},
    {"_target_": "torch.nn.CrossEntropyLoss"},
    {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]},
    {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.1},
    {"_target_": "torch.optim.lr_scheduler.StepLR", "_partial_": True, "step_size": 1},
    {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "_partial_": True},
    {"_target_": "torch.utils.data.DataLoader", "_args_": [[1, 2]], "batch_size": 1},
    {"_target_": "torch.utils.data.TensorDataset"},
    {"_target_": "torch.utils.data.SequentialSampler", "_args_": [[1, 2]]},
    {"_target_": "torchmetrics.classification.MulticlassAccuracy", "num_classes": 2},
    {"_target_": "torchmetrics.Accuracy", "task": "binary"},
    {"_target_": "torchmetrics.MeanSquaredError"},
    {
        "_target_": "torchmetrics.MetricCollection",
        "metrics": [{"_target_": "torchmetrics.regression.MeanAbsoluteError"}],
    },
    {"_target_": "ray.tune.uniform", "lower": 0, "upper": 1},
    {"_target_": "ray.tune.choice", "categories": [1, 2]},
    {"_target_": "ray.tune.grid_search", "values": [1, 2]},
    {"_target_": "ray.tune.schedulers.ASHAScheduler", "max_t": 2},
    {"_target_": "ray.tune.search.ConcurrencyLimiter", "_partial_": True, "max_concurrent": 1},
    {"_target_": "ray.tune.search.basic_variant.BasicVariantGenerator"},
    {"_target_": "ray.tune.stopper.MaximumIterationStopper", "max_iter": 1},
    {"_target_": "ray.tune.TuneConfig", "num_samples": 1},
    {"_target_": "ray.tune.RunConfig", "name": "x"},
    {"_target_": "ray.train.ScalingConfig", "num_workers": 1},
    {"_target_": "ray.train.FailureConfig", "max_failures": 1},
    {"_target_": "optuna.samplers.TPESampler", "seed": 1},
    {"_target_": "optuna.pruners.MedianPruner"},
    {"_target_": "itwinai.loggers.ConsoleLogger"},
    {"_target_": "itwinai.loggers.LoggersCollection", "loggers": []},
    {"_target_": "itwinai.torch.trainer.TorchTrainer", "config": {}, "epochs": 1},
    {"_target_": "itwinai.torch.ray.trainer.RayTorchTrainer", "config": {}, "epochs": 1},
    {"_target_": "itwinai.torch.config.TrainingConfiguration", "batch_size": 4},
    {"_target_": "itwinai.torch.distributed.NonDistributedStrategy"},
    {
        "_target_": "itwinai.torch.inference.TorchModelLoader",
        "model_uri": "x",
        "model_class": "mine.Net",
    },
    {"_target_": "itwinai.components.Adapter", "policy": []},
    {"_target_": "itwinai.tests.FakeGetter", "data_uri": "x"},
    {"_target_": "itwinai.tests.dummy_components.FakeGetterExec", "data_uri": "x"},
]

KEEP = {"_target_": "mine.Keep"}


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch PWNED",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    for path in (work / "hub", work / "package", work / "plain_folder", elsewhere):
        path.mkdir(parents=True)
    (work / "mine.py").write_text(MODULE)
    (work / "evil.py").write_text("open('PWNED', 'w').close()\nx = 1\n")
    (work / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    (work / "hub" / "hubconf.py").write_text("def evil(): open('PWNED', 'w').close()\n")
    (work / "victim").touch()
    (work / "package" / "__init__.py").touch()
    (work / "package" / "inner.py").write_text("class Deep: ...\n")
    (work / "plain_folder" / "module.py").write_text("class Flat: ...\n")
    (elsewhere / "outside.py").write_text(OUTSIDE)
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", [*sys.path, str(elsewhere)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield work
    for module in ("mine", "evil", "outside", "package", "package.inner", "plain_folder"):
        sys.modules.pop(module, None)
    sys.modules.pop("plain_folder.module", None)


def run(step: Any, *args: str, **others: Any) -> Result:
    """Run a pipeline of one step by the command; what it holds besides may be read by it."""
    pipeline = {"_target_": "itwinai.pipeline.Pipeline", "steps": {"first": step}}
    Path("config.yaml").write_text(yaml.safe_dump({"training_pipeline": pipeline, **others}))
    return CliRunner().invoke(app, ["exec-pipeline", *args])


def check_nothing_ran() -> None:
    there = {path.name for path in Path().iterdir()} - {"config.yaml"}
    of_folder = {"mine.py", "evil.py", "evil.pkl", "hub", "victim", "package", "plain_folder"}
    assert there == of_folder
    assert "evil" not in sys.modules


@pytest.mark.parametrize("place", ["a step", "an argument"])
@pytest.mark.parametrize(("name", "arguments"), GADGETS, ids=[name for name, _ in GADGETS])
def test_a_gadget_is_refused_and_nothing_runs(
    name: str, arguments: dict[str, Any], place: str, folder: Path
) -> None:
    gadget = {"_target_": name, **arguments}
    result = run(gadget if place == "a step" else {**KEEP, "value": [{"deep": gadget}]})
    key = "" if place == "a step" else ".value.0.deep"
    problem, where = result.stderr.splitlines()
    assert problem.startswith(f"error: {name}: ")
    assert problem.endswith(f"; if you trust it, add --allow {name}")
    assert where == f"  in config.yaml: training_pipeline.steps.first{key}"
    assert result.exit_code == 1
    check_nothing_ran()
    assert name.startswith("mine.") or not {"mine", "outside"} & set(sys.modules)


@pytest.mark.parametrize("name", ["os..system", "os.system ", "./evil.py", "evil", "evil:x"])
def test_what_is_no_address_is_refused(name: str, folder: Path) -> None:
    result = run({"_target_": name, "_args_": TOUCH})
    assert result.stderr.startswith(f"error: _target_={name}: ")
    assert "as 'module.Class'" in result.stderr or "as in 'module.Class'" in result.stderr
    check_nothing_ran()


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("codecs.open", "codecs"), ("shutil.copy", "shutil"), ("pathlib.Path.touch", "pathlib")],
)
def test_a_gadget_that_ran_would_be_noticed(name: str, allowed: str, folder: Path) -> None:
    result = run({**KEEP, "value": {"_target_": name, **dict(GADGETS)[name]}}, "--allow", allowed)
    assert result.exit_code == 0, result.stderr
    with pytest.raises(AssertionError, match="PWNED"):
        check_nothing_ran()


def test_what_is_allowed_is_built(folder: Path) -> None:
    result = run({**KEEP, "value": {f"{n}": node for n, node in enumerate(ALLOWED)}})
    assert (result.exit_code, result.stderr) == (0, "")
    assert "kept dict" in result.stdout


@pytest.mark.parametrize("package", ["lightning", "lightning.pytorch", "pytorch_lightning"])
def test_a_trainer_of_lightning_and_its_callbacks_are_built(package: str, folder: Path) -> None:
    pytest.importorskip("lightning")
    home = "lightning.pytorch" if package == "lightning" else package
    stopping = {"_target_": f"{home}.callbacks.EarlyStopping", "monitor": "loss"}
    trainer = {"_target_": f"{package}.Trainer", "logger": False, "callbacks": [stopping]}
    result = run({**KEEP, "value": trainer})
    assert result.exit_code == 0, result.stderr
    assert "kept Trainer" in result.stdout


def _table() -> list[str]:
    return [f"{module}.{name}" for module, names in public._NAMED.items() for name in names.split()]


@pytest.mark.parametrize("address", [name for name in _table() if name.startswith("itwinai.")])
def test_the_table_names_public_classes_of_ours(address: str) -> None:
    if address.endswith("Prov4MLLogger"):
        pytest.skip("its package is another one")
    module, _, name = address.rpartition(".")
    found = getattr(__import__(module, fromlist=[name]), name)
    assert inspect.isclass(found)
    assert not name.startswith("_")
    # Where a serialized object says that its class lives, it may be named as well.
    assert public.is_public_elsewhere(found)


# -- where the name comes from ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["${oc.env:EVIL}", "${a}.${b}", "${c.d}", "${oc.decode:${oc.env:QUOTED}}"],
)
def test_a_name_that_is_put_together_is_refused(
    target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIL", "os.system")
    monkeypatch.setenv("QUOTED", "'os.system'")
    step = {"_target_": target, "_args_": TOUCH}
    result = run(step, a="os", b="system", c={"d": "os.system"})
    assert result.stderr.startswith("error: os.system: ")
    check_nothing_ran()


@pytest.mark.parametrize(
    "step",
    [
        {**KEEP, "value": "${whole}"},
        {**KEEP, "_args_": ["${whole}"]},
        {**KEEP, "_args_": [[[{"_target_": "os.system", "_args_": TOUCH}]]]},
        {**KEEP, "_recursive_": False, "value": {"_target_": "os.system", "_args_": TOUCH}},
        {**KEEP, "value": {"_target_": "os.system", "_partial_": True, "_convert_": "none"}},
        "${whole}",
    ],
)
def test_a_name_in_any_place_is_refused(step: Any, folder: Path) -> None:
    result = run(step, whole={"_target_": "os.system", "_args_": TOUCH})
    assert result.stderr.startswith("error: os.system: ")
    check_nothing_ran()


@pytest.mark.parametrize("escaped", [r"\${whole}", r"\\\${whole}", "${once}", "${twice}"])
@pytest.mark.parametrize("place", ["value", "_target_"])
def test_a_name_behind_escaped_interpolations_is_refused(
    escaped: str, place: str, folder: Path
) -> None:
    """Hydra resolves a value, and reads the result as a value that may have to be resolved."""
    others = {"once": r"\${whole}", "twice": r"\\\${whole}"}
    whole: Any = {"_target_": "os.mkdir", "_args_": ["PWNED"]}
    whole = "os.mkdir" if place == "_target_" else whole
    step = {**KEEP, "value": {"_target_": escaped, "_args_": ["PWNED"]}}
    run(step if place == "_target_" else {**KEEP, "value": escaped}, whole=whole, **others)
    check_nothing_ran()


def test_a_name_on_the_command_line_is_refused(folder: Path) -> None:
    result = run(KEEP, "training_pipeline.steps.first._target_=os.system")
    assert result.stderr.startswith("error: os.system: ")
    result = run(KEEP, "training_pipeline._target_=os.system")
    assert "in config.yaml: training_pipeline\n" in result.stderr
    check_nothing_ran()


def test_a_pipeline_that_is_not_run_is_not_asked(folder: Path) -> None:
    other = {"_target_": "os.system", "_args_": TOUCH}
    assert run(KEEP, other=other).exit_code == 0
    check_nothing_ran()


@pytest.mark.parametrize("uri", ["runs:/1/net", "models:/net", "mlflow+file:/evil"])
def test_a_pickled_model_of_mlflow_is_one_more_name(uri: str, folder: Path) -> None:
    loader = {"_target_": "itwinai.torch.inference.TorchModelLoader", "model_uri": uri}
    result = run({**KEEP, "value": loader})
    assert result.stderr.startswith("error: mlflow.pytorch.load_model: ")
    assert "steps.first.value.model_uri\n" in result.stderr
    pytest.importorskip("mlflow")
    assert run({**KEEP, "value": loader}, "--allow", "mlflow").exit_code == 0


def test_the_class_of_a_loaded_model_is_one_more_name(folder: Path) -> None:
    loader = {"_target_": "itwinai.torch.inference.TorchModelLoader", "model_uri": "x"}
    result = run({**KEEP, "value": {**loader, "model_class": "os.system"}})
    assert result.stderr.startswith("error: os.system: ")
    assert "steps.first.value.model_class\n" in result.stderr


@pytest.mark.parametrize(
    "config",
    [
        {"model": {"class_path": "os.system"}},
        {"model": {"class_path": "mine.system"}},
        {"model": "os.system"},
        {"trainer": {"callbacks": [{"class_path": "itwinai.slurm.tools.run_tool"}]}},
        {"trainer": {"callbacks": [{"init_args": {"on_fit_start": "antigravity.fly"}}]}},
        "lightning.yaml",
    ],
)
def test_what_lightning_would_import_is_named_as_well(config: Any, folder: Path) -> None:
    step = {"_target_": "itwinai.torch.trainer.TorchLightningTrainer", "config": config}
    (folder / "lightning.yaml").write_text("model: {class_path: os.system}\n")
    result = run(step)
    assert "may not name" in result.stderr.splitlines()[0]
    assert "training_pipeline.steps.first.config" in result.stderr.splitlines()[1]
    assert len(result.stderr.splitlines()) == 2
    (folder / "lightning.yaml").unlink()
    check_nothing_ran()
    assert "antigravity" not in sys.modules


def test_what_a_study_of_lightning_would_import_is_named_as_well(folder: Path) -> None:
    space = {"model.class_path": {"type": "choice", "categories": ["mine.Net", "os.system"]}}
    step = {"_target_": "itwinai.torch.trainer.TorchLightningTrainer", "config": {}}
    result = run({**step, "search_space": space})
    assert "may not name" in result.stderr.splitlines()[0]
    assert "steps.first.search_space.model.class_path" in result.stderr.splitlines()[1]
    check_nothing_ran()


def test_lightning_may_import_what_others_may(folder: Path) -> None:
    pytest.importorskip("lightning")
    stopping = {"class_path": "lightning.pytorch.callbacks.EarlyStopping"}
    config = {
        "trainer": {"callbacks": [stopping], "default_root_dir": "mine.csv"},
        "model": {"class_path": "mine.Net", "init_args": {"file": "nowhere.csv"}},
    }
    trainer = {"_target_": "itwinai.torch.trainer.TorchLightningTrainer", "config": config}
    result = run({**KEEP, "value": trainer})
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_module_is_known_by_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python finds its own 'wave' before the one in the folder, which is later on its path.
    (folder / "wave.py").write_text("def open(f=None): return f\n")
    assert run({"_target_": "wave.open", "f": "PWNED"}).stderr.startswith("error: wave.open: ")
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert "error" not in run({**KEEP, "value": {"_target_": "wave.open"}}).stderr
    monkeypatch.delitem(sys.modules, "wave")


# -- what the user allows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("outside", "outside.Thing"),
        ("outside.Thing", "outside.Thing"),
        ("outside", "outside.made"),
        ("outside", "mine.Thing"),
        ("mine.Thing", "mine.Thing"),
        ("posix.getpid", "os.getpid"),
    ],
)
def test_what_is_allowed_by_name_is_built(name: str, target: str, folder: Path) -> None:
    step = {**KEEP, "value": {"_target_": target}}
    given = [name, "os.getpid"] if name == "posix.getpid" else [name]
    assert run(step).exit_code == 1
    flags = [word for given_name in given for word in ("--allow", given_name)]
    assert run(step, *flags).exit_code == 0


@pytest.mark.parametrize("name", ["outsid", "outside.Thin", "outside.Thing.more", "mine", "side"])
def test_another_name_allows_nothing(name: str, folder: Path) -> None:
    result = run({**KEEP, "value": {"_target_": "outside.Thing"}}, "--allow", name)
    assert result.stderr.startswith("error: outside.Thing: ")


def test_an_allowed_package_brings_nothing_else_in(folder: Path) -> None:
    path = folder.parent / "elsewhere" / "outside.py"
    path.write_text(OUTSIDE + "import os\n")
    result = run({"_target_": "outside.os.system", "_args_": TOUCH}, "--allow=outside")
    assert result.stderr.startswith("error: outside.os.system: this is posix.system, ")
    check_nothing_ran()


def test_the_environment_allows_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITWINAI_ALLOW", "torchvision, outside")
    assert run({**KEEP, "value": {"_target_": "outside.Thing"}}).exit_code == 0


@pytest.mark.parametrize("name", ["", "os system", "../outside", "a..b", "*"])
def test_what_is_no_name_is_refused(name: str, folder: Path) -> None:
    result = run(KEEP, f"--allow={name}")
    assert result.exit_code == 1
    assert f"--allow {name}: expected a package or an address" in result.stderr


@pytest.mark.parametrize("key", ["allow", "ITWINAI_ALLOW", "--allow"])
def test_a_configuration_allows_nothing(key: str, folder: Path) -> None:
    gadget = {"_target_": "os.system", "_args_": TOUCH}
    result = run({**gadget, key: ["os.system"]}, **{key: ["os.system", "os"]})
    assert result.stderr.startswith("error: os.system: ")
    check_nothing_ran()


def test_each_run_of_several_is_allowed_what_all_are(folder: Path) -> None:
    step = {**KEEP, "value": {"_target_": "outside.Thing"}, "x": 1}
    sweep = ("-m", "training_pipeline.steps.first.x=1,2", "hydra.sweep.dir=sweep")
    assert run(step, *sweep).stderr.startswith("error: outside.Thing: ")
    assert run(step, *sweep, "--allow", "outside").stdout.count("kept Thing") == 2


# -- what Hydra itself would build -----------------------------------------------------------------

NOTHING = {"version": 1, "root": {"handlers": ["h"]}}

#: Sections ``hydra``, and what is refused in them.
OF_HYDRA: list[tuple[dict[str, Any], str]] = [
    ({"callbacks": {"x": {"_target_": "os.system", "command": TOUCH[0]}}}, "os.system"),
    ({"callbacks": {"x": {"_target_": "mine.system", "command": TOUCH[0]}}}, "mine.system"),
    ({"callbacks": "${evil}"}, "os.system"),
    ({"callbacks": {"x": {"_target_": "mine.Keep", "value": r"\${evil.x}"}}}, "os.system"),
    ({"callbacks": {"x": {"_target_": r"\${evil.x._target_}"}}}, "os.system"),
    ({"sweeper": {"params": {"x": {"_target_": "os.system"}}}}, "os.system"),
    ({"launcher": {"_target_": "os.system"}}, "os.system"),
    *(
        ({kind: {**NOTHING, "handlers": {"h": handler}}}, name)
        for kind in ("job_logging", "hydra_logging")
        for handler, name in (
            ({"()": "subprocess.Popen", "args": WORDS[0]}, "subprocess.Popen"),
            ({"class": "subprocess.Popen", "args": WORDS[0]}, "subprocess.Popen"),
            ({"class": "logging.handlers.SocketHandler", "host": "x"}, "logging.handlers."),
            ({"class": "logging.StreamHandler", "stream": "ext://evil.x"}, "ext://evil.x"),
            ({"class": "${hydra:job.id}"}, "${hydra:job.id}"),
            ("${hydra:job.config}", "${hydra:job.config}"),
        )
    ),
    ({"job": {"env_set": {"PYTHONPATH": "hub"}}}, "hydra.job.env_set"),
    ({"job": {"env_set": {"ITWINAI_ALLOW": "os"}}}, "hydra.job.env_set"),
    ({"searchpath": ["pkg://evil"]}, "evil"),
    ({"searchpath": ["pkg://evil/conf"]}, "evil"),
]


@pytest.mark.parametrize(("section", "name"), OF_HYDRA)
def test_hydra_builds_nothing_else(section: dict[str, Any], name: str, folder: Path) -> None:
    (folder / "evil.py").rename(folder.parent / "elsewhere" / "evil.py")
    evil = {"x": {"_target_": "os.system", "command": TOUCH[0]}}
    result = run(KEEP, hydra=section, evil=evil)
    assert result.exit_code == 1
    assert name in result.stderr.splitlines()[0]
    assert "in hydra." in result.stderr.splitlines()[1]
    assert "kept" not in result.stdout
    assert not Path("PWNED").exists()
    assert "evil" not in sys.modules


def test_hydras_own_section_works(folder: Path) -> None:
    (folder / "calls.py").write_text(
        "from hydra.experimental.callback import Callback\n"
        "class Tell(Callback):\n"
        "    def on_run_start(self, config, **others): print('it starts')\n"
    )
    section = {"callbacks": {"tell": {"_target_": "calls.Tell"}}, "job": {"env_set": {}}}
    done = run(KEEP, "hydra/job_logging=default", "hydra.run.dir=out", hydra=section)
    assert done.exit_code == 0, done.stderr
    assert "it starts" in done.stdout
    variables = {"job": {"env_set": {"SHOWN": "1"}}}
    assert run(KEEP, "--allow", "hydra.job.env_set", hydra=variables).exit_code == 0
    sys.modules.pop("calls")


def test_a_real_process_refuses_before_anything_is_loaded(folder: Path) -> None:
    run({"_target_": "antigravity.fly", "value": 1})
    code = (
        "import sys; from itwinai.cli import app\n"
        "sys.argv[1:] = ['exec-pipeline']\n"
        "try: app()\n"
        "finally: print([m for m in ('antigravity', 'torch', 'mine') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert done.stderr == (
        "error: antigravity.fly: a configuration may not name this; if you trust it, add "
        "--allow antigravity.fly\n  in config.yaml: training_pipeline.steps.first\n"
    )
