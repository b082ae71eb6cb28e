"""What the small names of itwinai 0.4 do, as far as nothing else here uses them."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray import tune
from torch import nn
from torch.utils.data import TensorDataset

import itwinai
from itwinai.compatibility import monitoring
from itwinai.errors import ConfigurationError, MissingPackageError
from itwinai.loggers import Logger
from itwinai.pipeline import Pipeline
from itwinai.tests import (
    FakeGetter,
    FakeGetterExec,
    FakePreprocExec,
    FakeSaverExec,
    FakeSplitterExec,
    FakeTrainerExec,
)
from itwinai.torch.profiling.profiler import profile_torch_trainer
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.tuning import search_space
from itwinai.utils import (
    deprecated,
    generate_random_name,
    normalize_tracking_uri,
    retrieve_remote_omegaconf_file,
    time_and_log,
    to_uri,
)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    return caplog


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which this process serves it."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# -- utils -----------------------------------------------------------------------------------------


def test_paths_become_absolute_or_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert to_uri("a b") == str(tmp_path / "a b")
    assert to_uri("/a/../b") == "/b"
    assert to_uri("file:///a") == "file:///a"
    assert to_uri("http://host:1/x") == normalize_tracking_uri("http://host:1/x")
    assert normalize_tracking_uri("databricks") == "databricks"
    assert normalize_tracking_uri("mlruns") == f"{tmp_path.as_uri()}/mlruns"


def test_made_up_names_have_two_halves():
    names = {generate_random_name() for _ in range(50)}
    assert len(names) > 1
    assert all(name.count("-") == 1 and name.replace("-", "").isalpha() for name in names)


def test_a_deprecated_function_warns_and_works():
    @deprecated("use add() instead")
    def plus(a: int, b: int) -> int:
        return a + b

    with pytest.warns(DeprecationWarning, match=r"plus is deprecated: use add\(\) instead"):
        assert plus(1, b=2) == 3


class Recorder(Logger):
    def __init__(self) -> None:
        super().__init__()
        self.logged: list[Any] = []

    def log(self, item, identifier, kind="metric", step=None, batch_idx=None, **kwargs):
        self.logged.append((identifier, kind, step, item))


@pytest.mark.parametrize("ends", [True, False])
def test_the_time_of_a_function_is_logged(ends):
    logger = Recorder()
    logger.create_logger_context()
    timed = time_and_log(max, logger, "max_time_s", 7, destroy_current_logger_context=ends)
    assert timed(1, 2) == 2
    ((name, kind, step, seconds),) = logger.logged
    assert (name, kind, step) == ("max_time_s", "metric", 7)
    assert seconds >= 0
    assert logger.is_initialized is not ends
    assert time_and_log(max, None, "x")(1, 2) == 2


def test_a_configuration_from_the_web(site):
    folder, address = site
    (folder / "a.yaml").write_text("a: 1\nb: ${a}\n")
    (folder / "bad.yaml").write_text("a: [1\n")
    assert retrieve_remote_omegaconf_file(f"{address}/a.yaml").b == 1
    with pytest.raises(ConfigurationError, match="404"):
        retrieve_remote_omegaconf_file(f"{address}/missing.yaml")
    with pytest.raises(ConfigurationError, match=r"bad.yaml: "):
        retrieve_remote_omegaconf_file(f"{address}/bad.yaml")
    with pytest.raises(ConfigurationError, match="begins with http"):
        retrieve_remote_omegaconf_file((folder / "a.yaml").as_uri())


@pytest.mark.parametrize("option", [["--config-name"], ["-cn"], None])
def test_the_command_runs_a_pipeline_from_the_web(site, tmp_path, option):
    folder, address = site
    (folder / "remote.yaml").write_text(
        "training_pipeline:\n"
        "  _target_: itwinai.pipeline.Pipeline\n"
        "  steps:\n"
        "    - {_target_: itwinai.tests.FakeGetterExec, data_uri: x, name: '${word}'}\n"
        "word: far\n"
    )
    url = f"{address}/remote.yaml"
    name = [*option, url] if option else [f"--config-name={url}"]
    done = subprocess.run(
        [sys.executable, "-m", "itwinai", "exec-pipeline", *name, "word=near"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'near' executed in" in done.stdout


# -- components and parser -------------------------------------------------------------------------


def test_components_that_do_nothing():
    trainer = FakeTrainerExec(lr=0.1, batch_size=4)
    steps = [FakeGetterExec("uri"), FakeSplitterExec(0.5), FakePreprocExec(3), trainer]
    assert Pipeline(steps).execute() == (
        "train_dataset",
        "val_dataset",
        "test_dataset",
        "trained_model",
    )
    assert FakeSaverExec("path").execute("artifact") == "artifact"
    assert FakeGetter("uri", name="mine").to_dict() == {
        "_target_": "itwinai.tests.dummy_components.FakeGetter",
        "data_uri": "uri",
        "name": "mine",
    }


@pytest.mark.parametrize(
    ("package", "module", "told"),
    [
        ("jsonargparse", "itwinai.parser", "pip install jsonargparse"),
        ("lightning.pytorch.callbacks", "itwinai.torch.loggers", r"itwinai\[lightning\]"),
    ],
)
def test_a_module_says_which_package_it_needs(monkeypatch, package, module, told):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delitem(sys.modules, "itwinai.compatibility.parser", raising=False)
    with pytest.raises(MissingPackageError, match=told):
        importlib.import_module(module)


@pytest.fixture
def no_yprov4ml(monkeypatch):
    monkeypatch.delitem(sys.modules, "itwinai.compatibility.provenance", raising=False)
    yield
    for name in list(sys.modules):
        if name.startswith(("yprov4ml", "itwinai.compatibility.provenance")):
            del sys.modules[name]


@pytest.mark.usefixtures("no_yprov4ml")
def test_a_logger_of_provenance_says_which_package_it_needs():
    with pytest.raises(ImportError, match="pip install yprov4ml"):
        from itwinai.loggers import Prov4MLLogger  # noqa: F401
    exec("from itwinai.loggers import *", {})


@pytest.mark.usefixtures("no_yprov4ml")
def test_a_logger_of_provenance_is_the_packages_own(tmp_path, monkeypatch):
    home = tmp_path / "yprov4ml" / "loggers"
    home.mkdir(parents=True)
    (home / "prov4ml_itwinai_logger.py").write_text(
        "from itwinai.loggers import Logger\n"
        "class ProvMLItwinAILogger(Logger):\n"
        "    def __init__(self, prov_user_namespace='www.example.org'):\n"
        "        super().__init__(savedir=prov_user_namespace)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from itwinai.loggers import LoggersCollection, Prov4MLLogger

    with LoggersCollection([Prov4MLLogger("mine")]).start_logging():
        assert Prov4MLLogger.__name__ == "ProvMLItwinAILogger"


def test_the_parser_reads_a_file(tmp_path):
    from itwinai.parser import ArgumentParser

    (tmp_path / "config.yaml").write_text("lr: 0.5\n")
    parser = ArgumentParser(description="mine")
    parser.add_argument("--lr", type=float, default=0.1)
    assert parser.parse_args(["-c", str(tmp_path / "config.yaml")]).lr == 0.5


def test_two_loggers_of_python():
    assert itwinai.plain_logger is logging.getLogger("cli_logger")
    assert itwinai.logger.name == "itwinai"


# -- search spaces ---------------------------------------------------------------------------------


def test_a_search_space_in_yaml_becomes_rays_objects():
    own = tune.choice(["x"])
    space = search_space(
        {
            "lr": {"type": "loguniform", "lower": "1e-4", "upper": "1e-1"},
            "layers": {"type": "randint", "lower": 1, "upper": 4},
            "loss": {"type": "choice", "categories": ["a", "b"]},
            "seed": {"grid_search": [1, 2]},
            "own": own,
        }
    )
    assert (space["lr"].lower, space["lr"].upper) == (1e-4, 1e-1)
    assert isinstance(space["layers"], tune.search.sample.Integer)
    assert space["loss"].categories == ["a", "b"]
    assert space["seed"] == {"grid_search": [1, 2]}
    assert space["own"] is own
    assert search_space(None) == {}


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ([1], ValueError, "a mapping of names"),
        ({"lr": "value"}, ValueError, "lr: 'value' is no domain"),
        ({"lr": 0.1}, ValueError, "lr: 0.1 is no domain"),
        ({"lr": {"lower": 1}}, ValueError, "lr: add a type"),
        ({"lr": {"type": None}}, AttributeError, "no function None"),
        ({"lr": {"type": "uniform", "low": 1}}, ValueError, "lr: .*low"),
        ({"lr": {"type": "logunifrm"}}, AttributeError, "did you mean 'loguniform'"),
    ],
)
def test_a_wrong_search_space_is_refused(config, kind, words):
    with pytest.raises(kind, match=words):
        search_space(config)


# -- decorators of train() -------------------------------------------------------------------------


class Profiled(TorchTrainer):
    @profile_torch_trainer
    @monitoring.measure_gpu_utilization
    def train(self) -> None:
        for _ in range(self.epochs):
            self.train_epoch()
            if getattr(self, "profiler", None) is not None:
                self.profiler.step()


def trained(folder: Path, **flags: Any) -> None:
    config = {"batch_size": 8, "num_workers_dataloader": 0, "loss": "mse"}
    trainer = Profiled(
        config, 2, nn.Linear(1, 1), None, checkpoints_location=folder / "checkpoints"
    )
    for name, value in flags.items():
        setattr(trainer, name, value)
    trainer.execute(TensorDataset(torch.ones(8, 1), torch.ones(8, 1)))


def test_a_training_is_profiled_if_asked(tmp_path):
    trained(tmp_path)
    assert not (tmp_path / "profiler_traces").exists()
    trained(tmp_path, enable_torch_profiling=True, store_torch_profiling_traces=True)
    summary = (tmp_path / "profiler_traces" / "profiling_averages-0.txt").read_text()
    assert "aten::addmm" in summary
    assert '"traceEvents"' in (tmp_path / "profiler_traces" / "trace-0.json").read_text()


def test_epochs_are_left_out_of_a_profile(tmp_path, messages):
    flags = {"enable_torch_profiling": True, "profiling_warmup_epochs": 1}
    trained(tmp_path, **flags, profiling_wait_epochs=0)
    (summary,) = (tmp_path / "profiler_traces").iterdir()
    summary.unlink()
    trained(tmp_path, **flags, profiling_wait_epochs=5)
    assert "nothing was profiled" in messages.text
    assert not summary.exists()


def test_gpus_are_not_measured_which_is_said_once(messages):
    monitoring._tell_once.cache_clear()

    @monitoring.measure_gpu_utilization
    def train(self: Any) -> str:
        return "trained"

    assert train(SimpleNamespace()) == "trained"
    assert "measure_gpu_data" not in messages.text
    assert [train(SimpleNamespace(measure_gpu_data=True)) for _ in range(2)] == ["trained"] * 2
    assert messages.text.count("measure_gpu_data has no effect") == 1
