"""Configurations and builders of itwinai 0.4."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from itwinai.cli import generate_slurm
from itwinai.errors import ConfigurationError
from itwinai.slurm.configuration import MLSlurmBuilderConfig, SlurmScriptConfiguration
from itwinai.slurm.script_builder import MLSlurmBuilder, process_builder

CONTENT: dict[str, Any] = {"account": "project", "partition": "gpu"}
TRAINING = CONTENT | {"distributed_strategy": "ddp"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_script_asks_for_what_it_asked_for() -> None:
    config = SlurmScriptConfiguration(
        **CONTENT, job_name="a", exclusive=True, num_nodes=2, num_tasks=8, exec_command="srun x"
    )
    script = config.generate_script()
    for option in [
        *("job-name=a", "account=project", "partition=gpu", "time=00:30:00", "nodes=2"),
        *("ntasks-per-node=4", "cpus-per-task=16", "gres=gpu:4", "mem=16G", "exclusive"),
    ]:
        assert f"#SBATCH --{option}\n" in script
    assert f"#SBATCH --output={Path.cwd()}/slurm-job-logs/a.out\n" in script


def test_its_shell_runs_as_it_stood_there(here: Path) -> None:
    config = SlurmScriptConfiguration(
        **CONTENT,
        job_name="a",
        pre_exec_command="\n    word=two\n    export WORD=one\n",
        exec_command="""
            if [ -z "$unset" ]; then
                echo $WORD $word > words
            fi

            exit 3
        """,
    )
    script = subprocess.run(
        ["bash", "-s"],
        input=config.generate_script().replace('cp -- "$0"', "cp -- /dev/null"),
        env={"SLURM_JOB_ID": "1", "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert script.returncode == 3, script.stderr
    assert (here / "words").read_text() == "one two\n"


@pytest.mark.parametrize("missing", ["job_name", "exec_command"])
def test_a_script_without_its_parts_is_a_value_error(missing: str) -> None:
    content = {"job_name": "a", "exec_command": "true"}
    del content[missing]
    with pytest.raises(ValueError, match=missing):
        SlurmScriptConfiguration(**CONTENT, **content).generate_script()


def test_a_training_is_run_by_torchrun_and_a_study_on_ray() -> None:
    training = MLSlurmBuilderConfig(**TRAINING, config_name="train").generate_script()
    assert "#SBATCH --job-name=ddp-1x4\n" in training
    assert "torch.distributed.run" in training
    assert "command=(itwinai exec-pipeline" in training
    study = MLSlurmBuilderConfig(**TRAINING, use_ray=True).generate_script()
    assert "itwinai.slurm.node" in study


def test_a_template_may_name_the_keys() -> None:
    config = MLSlurmBuilderConfig(**TRAINING, training_cmd="train.py {pipe_key} {run_name}")
    assert config.build_training_command() == "train.py training_pipeline main-run"
    with pytest.raises(ConfigurationError, match="training_cmd"):
        MLSlurmBuilderConfig(**TRAINING, training_cmd="{other}").build_training_command()


def test_values_do_not_reach_the_script_as_shell() -> None:
    with pytest.raises(ConfigurationError, match="job_name"):
        MLSlurmBuilderConfig(**TRAINING, job_name="a\ntouch x").generate_script()


def test_a_scaling_test_is_a_script_for_each_strategy_and_number_of_nodes(here: Path) -> None:
    config = MLSlurmBuilderConfig(
        **TRAINING, mode="scaling-test", scalability_nodes="1,2", save_script=True
    )
    process_builder(MLSlurmBuilder(config))
    names = sorted(path.name for path in (here / "slurm-scripts").iterdir())
    strategies = ("ddp", "deepspeed")
    assert names == sorted(f"{name}-{nodes}x4.slurm" for name in strategies for nodes in (1, 2))
    with pytest.raises(ConfigurationError, match="exists already"):
        process_builder(MLSlurmBuilder(config))


def test_generate_slurm_shows_the_script(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(inspect.signature(generate_slurm).parameters) == [
        *("config", "submit_job", "save_script")
    ]
    (here / "slurm.yaml").write_text(yaml.safe_dump(TRAINING))
    command = [sys.executable, "-m", "itwinai", "generate-slurm", "-c", "slurm.yaml"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == MLSlurmBuilderConfig(**TRAINING).generate_script()
    generate_slurm("slurm.yaml")
    assert capsys.readouterr().out == shown.stdout
    subprocess.run([*command, "--save-script"], check=True)
    assert (here / "slurm-scripts" / "ddp-1x4.slurm").read_text() == shown.stdout


def wheel(folder: Path) -> Path:
    """Make a package that holds nothing but a module."""
    path = folder / "my_plugin-1.0-py3-none-any.whl"
    info = "my_plugin-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("my_plugin.py", "")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def run_of(content: dict[str, object]) -> subprocess.CompletedProcess[str]:
    Path("config.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "itwinai", "run", "-c", "config.yaml"]
    environment = {**os.environ, "PIP_TARGET": "installed", "PIP_NO_INDEX": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_run_installs_plugins_and_makes_the_job_of_a_section(here: Path) -> None:
    done = run_of(
        {
            "queue": TRAINING["partition"],
            "slurm_config": {**TRAINING, "partition": "${queue}"},
            "plugins": [str(wheel(here))],
        }
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(MLSlurmBuilderConfig(**TRAINING).generate_script())
    assert (here / "installed" / "my_plugin.py").is_file()


def test_run_makes_no_job_of_what_is_wrong(here: Path) -> None:
    plugins = [str(wheel(here))]
    wrong = run_of({"slurm_config": {**TRAINING, "partitoin": "gpu"}, "plugins": plugins})
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "partitoin: unknown key; did you mean 'partition'?" in wrong.stderr
    # Nothing was installed for a job that cannot be.
    assert not (here / "installed").exists()
    assert "slurm_config: this section is required" in run_of({**TRAINING}).stderr
    assert "slurm_config: Interpolation key 'queue' not found" in (
        run_of({"slurm_config": {**TRAINING, "partition": "${queue}"}}).stderr
    )
    assert "plugins='my-plugin': must be a list" in (
        run_of({"slurm_config": TRAINING, "plugins": "my-plugin"}).stderr
    )
    missing = run_of({"slurm_config": TRAINING, "plugins": ["there-is-no-such-plugin"]})
    assert missing.returncode == 1
    assert "plugins: pip could not install there-is-no-such-plugin" in missing.stderr
    assert "#SBATCH" not in missing.stdout
