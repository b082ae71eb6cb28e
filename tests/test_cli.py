"""The command line, as a user runs it: in a process of its own, in the user's folder."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from itwinai.cli import exec_pipeline, exec_pipeline_with_compose
from itwinai.cli.exec_pipeline import split_arguments
from itwinai.cli.retrain import retrain_command
from itwinai.errors import ConfigurationError

STEPS = """
import json, os, signal, time
from pathlib import Path
from types import SimpleNamespace

from itwinai.components import BaseComponent
from itwinai.errors import CheckpointError

BEST = {"lr": 1e-05, "optimizer": "ada m\\"w'", "layers": [1, "2"], "no": None,
        "deep": {"on": True}}


class Say(BaseComponent):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def execute(self, *args):
        print("said", self.text, *args)
        return self.text


class Fail(BaseComponent):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def execute(self, *args):
        if self.how == "interrupt":
            print("ready", flush=True)
            time.sleep(60)
        raise CheckpointError("it is gone") if self.how == "itwinai" else KeyError("own bug")


class Trainer(BaseComponent):
    def __init__(self, config, search_space=None, study=None, ray_search_space=None,
                 ray_tune_config=None, empty=False, places=None):
        super().__init__()
        self.config = config
        self.searches = bool(search_space or study or ray_search_space or ray_tune_config)
        self.empty = empty
        self.study_places = places or {}
        self.study_result = None

    def execute(self, *args):
        config = dict(self.config)
        if self.searches:
            best = None if self.empty else SimpleNamespace(params=BEST)
            self.study_result = SimpleNamespace(best=best, setup=None)
            config.update(BEST)
        Path("trained.json").write_text(json.dumps([self.searches, config]))
"""

CONFIG = """
word: hello
strategy: ddp
training_pipeline:
  _target_: itwinai.pipeline.Pipeline
  steps:
    first: {_target_: steps.Say, text: "${word}"}
    second: {_target_: steps.Say, text: "${strategy}"}
failing:
  _target_: itwinai.pipeline.Pipeline
  steps:
    - {_target_: steps.Fail, how: "${word}"}
"""

TRAINER = {
    "_target_": "steps.Trainer",
    "config": {"lr": 1.0, "batch_size": 8, "deep": {"on": False}},
    "search_space": {"lr": {"type": "uniform", "lower": 0, "upper": 1}},
    "study": {"mode": "min"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def run(
    *command: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def itwinai(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "itwinai", *args, cwd=cwd, **env)


def pipeline_with(trainer: dict[str, Any], steps_are: type) -> str:
    say = {"_target_": "steps.Say", "text": "x"}
    steps: Any = {"first": say, "trainer": trainer} if steps_are is dict else [say, trainer]
    pipeline = {"_target_": "itwinai.pipeline.Pipeline", "steps": steps}
    return OmegaConf.to_yaml({"training_pipeline": pipeline, "mine": {"first": pipeline}})


@pytest.mark.parametrize(
    "code",
    [
        "import itwinai, itwinai.cli, itwinai.pipeline, itwinai.components",
        "import itwinai.cli; itwinai.cli.app(['--help'], standalone_mode=False)",
        "import itwinai.cli; itwinai.cli.app(['exec-pipeline', '--help'], standalone_mode=False)",
    ],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    check = f"{code}\nimport sys\nprint([m for m in ('torch', 'ray', 'hydra') if m in sys.modules])"
    result = run(sys.executable, "-c", check)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stderr


def test_a_study_starts_without_what_only_its_report_needs() -> None:
    code = "import itwinai.torch.ray.trainer, itwinai.hpo.launch, sys"
    check = f"{code}\nprint([m for m in ('scipy.stats', 'altair') if m in sys.modules])"
    result = run(sys.executable, "-c", check)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stderr


def test_version_and_help() -> None:
    from itwinai import __version__

    assert itwinai("--version").stdout.strip() == itwinai("-v").stdout.strip() == __version__
    assert "exec-pipeline" in itwinai("--help").stdout
    assert "--multirun" in itwinai("exec-pipeline", "--help").stdout


def test_runs_the_pipeline_of_the_current_folder_and_leaves_nothing_behind(folder: Path) -> None:
    before = sorted(folder.iterdir())
    result = itwinai("exec-pipeline", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line.startswith("said")] == [
        "said hello",
        "said ddp hello",
    ]
    assert "retrain" not in result.stdout
    assert sorted(folder.iterdir()) == before


def test_hydra_writes_and_logs_if_the_user_asks(folder: Path) -> None:
    asked = ("hydra.run.dir=out", "hydra.output_subdir=kept", "hydra/job_logging=default")
    result = itwinai("exec-pipeline", *asked, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "out" / "kept" / "config.yaml").exists()
    assert list((folder / "out").glob("*.log"))


def test_config_path_and_name_and_overrides_in_any_order(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "config.yaml").rename(folder / "other.yaml")
    result = itwinai(
        *("exec-pipeline", "word=x", "-cp", "..", "--strategy", "none"),
        *("+pipe_steps=[second,first]", "--config-name=other", "--run-name=r"),
        cwd=elsewhere,
    )
    assert result.returncode == 0, result.stderr
    assert "said none\n" in result.stdout
    assert "said x none\n" in result.stdout


def test_hydra_options_work(folder: Path) -> None:
    shown = itwinai("exec-pipeline", "--cfg", "job", "--resolve", "-p", "failing", cwd=folder)
    assert "how: hello" in shown.stdout
    assert "Hydra" in itwinai("exec-pipeline", "--hydra-help", cwd=folder).stdout
    assert str(folder) in itwinai("exec-pipeline", "--info", "searchpath", cwd=folder).stdout
    many = itwinai("exec-pipeline", "word=a,b", "-m", "hydra.sweep.dir=sweep", cwd=folder)
    assert "said a\n" in many.stdout
    assert "said b\n" in many.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["+pipe_key=fialing"], "did you mean 'failing'?"),
        (["+pipe_steps=[frist]"], "there is no step 'frist'; did you mean 'first'?"),
        (["+pipe_key=failing", "word=itwinai"], "error: it is gone\n"),
        (["nothing=1"], "Could not override 'nothing'"),
        (["a=[1"], "a=[1"),
        (["study.yaml"], "study.yaml: expected KEY=VALUE; a file is named by --config-name study"),
        (["-cn", "missing"], "Cannot find primary config 'missing'"),
        (["-cp", "nowhere"], "Primary config directory not found"),
        (["-cn", "double"], "double.yaml, line 3: found duplicate key a"),
        (["--strategy"], "--strategy: give a value"),
        (["--resolve"], "The --resolve flag can only be used"),
    ],
)
def test_expected_errors_are_one_message_and_code_1(
    folder: Path, args: list[str], message: str
) -> None:
    (folder / "double.yaml").write_text("a: 1\nb: 2\na: 3\n")
    result = itwinai("exec-pipeline", *args, cwd=folder)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_debug_and_unexpected_errors_show_the_traceback(folder: Path) -> None:
    args = ("exec-pipeline", "+pipe_key=failing")
    debugged = itwinai(*args, "word=itwinai", cwd=folder, ITWINAI_DEBUG="1")
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr
    assert "CheckpointError: it is gone" in debugged.stderr
    bug = itwinai(*args, cwd=folder)
    assert bug.returncode == 1
    assert "KeyError: 'own bug'" in bug.stderr
    assert "steps.py" in bug.stderr


def test_ctrl_c_ends_quietly_with_130(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "itwinai", "exec-pipeline", "+pipe_key=failing", "word=interrupt"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "ready\n":
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == ""


@pytest.mark.parametrize("prefix", [["itwinai", "exec-pipeline"], ["script.py"]])
def test_from_python_with_sys_argv(
    prefix: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "steps", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    argv = [*prefix, "word=py"]
    monkeypatch.setattr(sys, "argv", argv)
    exec_pipeline()
    assert "said py\n" in capsys.readouterr().out
    assert sys.argv is argv
    monkeypatch.setattr(sys, "argv", [*prefix, "training_pipeline.steps.first._target_=os.getpid"])
    with pytest.raises(SystemExit):
        exec_pipeline()
    assert "--allow os.getpid" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # now it takes no text
        exec_pipeline(allow=["os.getpid"])
    assert "--allow" not in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*prefix, "+pipe_key=nope"])
    with pytest.raises(SystemExit) as caught:
        exec_pipeline()
    assert caught.value.code == 1


def test_from_python_with_a_composed_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "steps", raising=False)
    cfg = OmegaConf.create(CONFIG)
    with pytest.raises(ConfigurationError, match=r"--allow steps\.Say"):  # not in a folder of ours
        exec_pipeline_with_compose(cfg)
    assert "steps" not in sys.modules
    exec_pipeline_with_compose(cfg, allow=["steps"])
    assert "said hello\n" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="pipe_key=nope"):
        exec_pipeline_with_compose(OmegaConf.merge(cfg, {"pipe_key": "nope"}))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a=1", "-cn", "x", "b=2", "-m"], (["-cn", "x", "-m"], ["a=1", "b=2"])),
        (["--strategy", "ddp", "--run-name=r=1"], ([], ["++strategy=ddp", "++run_name='r=1'"])),
        (["--config-dir=d", "~a", "-cp", "p=q"], (["--config-dir=d", "-cp", "p=q"], ["~a"])),
    ],
)
def test_options_and_overrides(given: list[str], expected: tuple[list[str], list[str]]) -> None:
    assert split_arguments(given) == expected


@pytest.mark.parametrize("name", ["2026_11_30", "1.10", "null", "[a]", "a,b", "it's", "a\\", "\\'"])
def test_the_name_of_a_run_is_a_text(name: str) -> None:
    _, (override,) = split_arguments(["--run-name", name])
    value = OverridesParser.create().parse_override(override).value()
    assert value == name


def printed_command(output: str) -> list[str]:
    lines = [line for line in output.splitlines() if line.startswith("itwinai exec-pipeline")]
    assert len(lines) == 1, output
    return shlex.split(lines[0])[1:]


@pytest.mark.parametrize("steps_are", [dict, list])
@pytest.mark.parametrize(
    "args",
    [[], ["+pipe_key=mine.first", "--config-name", "config", "+note=a b"]],
)
def test_the_printed_command_trains_the_best_configuration(
    folder: Path, steps_are: type, args: Sequence[str]
) -> None:
    (folder / "config.yaml").write_text(pipeline_with(TRAINER, steps_are))
    first = itwinai("exec-pipeline", *args, cwd=folder)
    searched, expected = json.loads((folder / "trained.json").read_text())
    assert searched, first.stderr
    assert expected["batch_size"] == 8
    (folder / "trained.json").unlink()
    second = itwinai(*printed_command(first.stdout), cwd=folder)
    assert second.returncode == 0, second.stderr
    assert json.loads((folder / "trained.json").read_text()) == [False, expected]
    assert "itwinai exec-pipeline" not in second.stdout


def test_the_printed_command_with_chosen_steps_and_tune_keys(folder: Path) -> None:
    trainer = {
        **{key: TRAINER[key] for key in ("_target_", "config")},
        "ray_search_space": {"lr": 1},
        "ray_tune_config": {"num_samples": 2},
    }
    (folder / "config.yaml").write_text(pipeline_with(trainer, dict))
    first = itwinai("exec-pipeline", "+pipe_steps=[trainer]", cwd=folder)
    command = printed_command(first.stdout)
    nulled = {argument for argument in command if argument.endswith("=null")}
    path = "training_pipeline.steps.trainer"
    assert nulled == {
        f"{path}.ray_search_space=null",
        f"{path}.ray_tune_config=null",
        f"++{path}.config.no=null",
    }
    _, expected = json.loads((folder / "trained.json").read_text())
    itwinai(*command, cwd=folder)
    assert json.loads((folder / "trained.json").read_text()) == [False, expected]


def test_each_job_of_a_multirun_prints_its_own_command(folder: Path) -> None:
    (folder / "config.yaml").write_text(pipeline_with(TRAINER, dict))
    sweep = "training_pipeline.steps.trainer.config.batch_size=1,2"
    result = itwinai("exec-pipeline", "-m", sweep, "hydra.sweep.dir=sweep", cwd=folder)
    lines = result.stdout.splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("itwinai exec-pipeline")]
    assert [command[2][-2:] for command in commands] == ["=1", "=2"]
    itwinai(*commands[0][1:], cwd=folder)
    searched, config = json.loads((folder / "trained.json").read_text())
    assert (searched, config["batch_size"], config["lr"]) == (False, 1, 1e-05)


def test_without_a_best_trial_nothing_is_printed(folder: Path) -> None:
    (folder / "config.yaml").write_text(pipeline_with({**TRAINER, "empty": True}, dict))
    result = itwinai("exec-pipeline", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "itwinai exec-pipeline" not in result.stdout


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"config": "${shared}"}, "lr"),
        ({"config": {"model": "own.Net"}, "places": {"lr": "model.init_args.lr"}}, None),
        ({"places": {"lr": "learning rate"}}, None),
    ],
)
def test_what_no_override_can_set_is_to_be_edited_by_hand(
    folder: Path, changes: dict[str, Any], place: str | None
) -> None:
    text = pipeline_with({**TRAINER, **changes}, dict)
    (folder / "config.yaml").write_text(text + "shared: {batch_size: 8}\n")
    result = itwinai("exec-pipeline", cwd=folder)
    assert "itwinai exec-pipeline" not in result.stdout
    hint = result.stdout.splitlines()[-1]
    assert "training_pipeline.steps.trainer" in hint
    assert f"config.{place or changes['places']['lr']}: 1e-05" in hint


def test_retrain_command_is_quoted_for_the_shell() -> None:
    values = {"config.lr": 0.1, "config.o": "x"}
    command = retrain_command(["a=b c"], "p.steps.t", {"study", "config"}, values)
    assert command == (
        "itwinai exec-pipeline 'a=b c' p.steps.t.study=null "
        "++p.steps.t.config.lr=0.1 '++p.steps.t.config.o=\"x\"'"
    )
    together = retrain_command([], "p.steps.t", {}, {"config.lr": 0.1}, workers=2)
    assert together == (
        "torchrun --nproc_per_node 2 -m itwinai exec-pipeline ++p.steps.t.config.lr=0.1"
    )
