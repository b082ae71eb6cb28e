"""A job's script: what it asks of Slurm, and that no value of a configuration runs as shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from itwinai.config.model import validate
from itwinai.errors import ConfigurationError
from itwinai.slurm.configuration import SlurmConfiguration
from itwinai.slurm.script import render, sbatch_options

SMALLEST: dict[str, Any] = {"kind": "plain", "command": "program", "time": "01:00:00"}

EVERYTHING: dict[str, Any] = {
    **SMALLEST,
    "command": ["program", "lr=1e-3", "a b", "steps=[1,2]", "x,y"],
    "job_name": "digits-1",
    "account": "project_1",
    "partition": "gpu,booster",
    "qos": "normal",
    "reservation": "course",
    "constraint": "a100&nvlink",
    "nodes": 2,
    "cpus_per_task": 16,
    "gpus_per_node": 4,
    "gpu_type": "a100",
    "memory": "16G",
    "exclusive": True,
    "err_out": "/logs/%x-%j.err",
    "sbatch_options": {"mail-user": "me@example.org", "hint": "nomultithread"},
    "modules": ["Stages/2025", "CUDA/12"],
    "pre_exec": ["ulimit -c 0"],
    "environment": {"OMP_NUM_THREADS": 1, "GREETING": "it's $HOME, all of it"},
    "interface": "ib0",
    "max_continuations": 3,
}

VARIANTS = {
    f"{kind}-{name}": SMALLEST | content | {"kind": kind}
    for kind in ("study", "training", "plain")
    for name, content in {
        "smallest": {},
        "everything": EVERYTHING,
        "venv": {"python_venv": "/venv", "gpus_per_node": 1, "gpu_option": "gpus-per-node"},
        "container": {"container": "/image.sif", "binds": ["/data"], "gpus_per_node": 1},
    }.items()
}

#: Each tries to run the program ``canary``, to end a line early, or to pass for something else.
HOSTILE = [
    "$(canary)",
    "`canary`",
    "x; canary",
    "x && canary",
    "x | canary",
    "x & canary",
    "x\ncanary",
    "x\ncanary #",
    "x\r\ncanary",
    "x' ; canary ; '",
    'x" ; canary ; "',
    "x\\\ncanary",
    "${IFS}$(canary)",
    "<(canary)",
    "> canary",
    "x #\ncanary",
    "x\n#SBATCH --uid=0",
    "--wrap=canary",
    "-x",
    "../../x $(canary)",
    "x\x00canary",
    "x\x1b]0;canary\x07",
    "x\u2028canary",
    "x\u202ecanary",
    "x\u200bcanary",
    "\uff04(canary)",
    "{canary,canary}",
    "~(canary)",
    "!canary",
    "EOF\ncanary\nEOF",
]

#: Where a value goes, given as a configuration with the value in it.
FIELDS = {
    **{
        name: (lambda value, name=name: {name: value})
        for name in [
            *("job_name", "account", "partition", "qos", "reservation", "constraint", "time"),
            *("gpu_type", "memory", "std_out", "err_out", "python_venv", "container", "interface"),
            *("storage_path", "working_dir", "command", "kind", "gpu_option", "nodes"),
            *("cpus_per_task", "gpus_per_node", "container_runtime", "max_continuations"),
            *("node_timeout_s", "signal_before_s", "processes_per_node"),
        ]
    },
    "modules": lambda value: {"modules": [value]},
    "binds": lambda value: {"container": "/a.sif", "binds": [value]},
    "environment": lambda value: {"environment": {"NAME": value}},
    "environment (name)": lambda value: {"environment": {value: "x"}},
    "sbatch_options": lambda value: {"sbatch_options": {"hint": value}},
    "sbatch_options (name)": lambda value: {"sbatch_options": {value: "x"}},
    "command (argument)": lambda value: {"command": ["program", value]},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_script_is_good_shell(name: str) -> None:
    script = render(SlurmConfiguration(**VARIANTS[name]))
    check("bash", "-n", script=script)
    if shutil.which("shellcheck") is None:
        pytest.skip("missing: apt-get install shellcheck")
    check("shellcheck", "-", script=script)


def test_the_options_are_those_of_sbatch() -> None:
    options = dict.fromkeys(sbatch_options(SlurmConfiguration(**EVERYTHING)))
    expected = [
        *("job-name=digits-1", "account=project_1", "partition=gpu,booster", "qos=normal"),
        *("reservation=course", "constraint=a100&nvlink", "time=01:00:00", "nodes=2"),
        *("ntasks-per-node=1", "cpus-per-task=16", "mem=16G", "mail-user=me@example.org"),
        *("hint=nomultithread", "error=/logs/%x-%j.err", "gres=gpu:a100:4", "exclusive"),
        *("open-mode=append", "requeue", "signal=B:USR1@120"),
    ]
    assert [option for option in expected if option not in options] == []
    script = render(SlurmConfiguration(**EVERYTHING))
    head, _, rest = script.partition("\nset -euo pipefail\n")
    assert [line for line in head.splitlines() if not line.startswith("#")] == []
    assert "#SBATCH" not in rest


def test_only_a_study_survives_the_loss_of_a_node() -> None:
    study = render(SlurmConfiguration(**SMALLEST | {"kind": "study"}))
    training = render(SlurmConfiguration(**SMALLEST | {"kind": "training"}))
    assert "#SBATCH --no-kill\n" in study
    assert "--no-kill" not in training


def test_a_training_has_a_process_per_gpu_or_as_many_as_it_says() -> None:
    training = SMALLEST | {"kind": "training"}
    for more, processes in (({}, 1), ({"gpus_per_node": 4}, 4), ({"processes_per_node": 3}, 3)):
        assert f"--nproc-per-node={processes} " in render(SlurmConfiguration(**training, **more))


@pytest.mark.parametrize("field", FIELDS)
def test_no_value_runs_as_shell(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, hostile in enumerate(HOSTILE):
        content = SMALLEST | FIELDS[field](hostile)
        content.setdefault("storage_path", tmp_path / f"{number}")
        refusal, script = outcome(content)
        if script is None:
            assert refusal.startswith(f"slurm.{field.partition(' ')[0]}"), hostile
            continue
        check("bash", "-n", script=script)
        ran = run_script(script, tmp_path / "bin")
        assert "canary" not in ran, hostile
        assert [line for line in script.splitlines() if line.strip().startswith("canary")] == []


def test_the_hostile_values_would_be_noticed(tmp_path: Path) -> None:
    script = render(SlurmConfiguration(**SMALLEST, storage_path=tmp_path / "studies"))
    assert "canary" in run_script(script.replace("wait_for $!", "canary"), tmp_path / "bin")


def test_words_and_variables_arrive_as_they_are(tmp_path: Path) -> None:
    words = ["a b", "$HOME", "it's", 'a "b"', "x,y", "k=v", "*", "", "\\", "-n", "ü"]
    content = SMALLEST | {"command": ["program", *words], "storage_path": tmp_path / "studies"}
    content["environment"] = {"SHOWN": "$HOME 'and' \"this\""}
    ran = run_script(render(SlurmConfiguration(**content)), tmp_path / "bin", code=0)
    assert ran["program"] == ["$HOME 'and' \"this\"", *words]


def test_the_lines_of_pre_exec_are_shell(tmp_path: Path) -> None:
    content = SMALLEST | {"pre_exec": ["canary"], "storage_path": tmp_path / "studies"}
    assert "canary" in run_script(render(SlurmConfiguration(**content)), tmp_path / "bin")


def test_what_a_job_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    storage = tmp_path / "studies"
    content = SMALLEST | {"storage_path": storage, "pre_exec": ["umask > $folder/umask"]}
    content["pre_exec"] += ["cat $folder/umask > $storage/seen", "ls -ld $folder >> $storage/seen"]
    run_script(render(SlurmConfiguration(**content)), tmp_path / "bin", code=0, umask=0)
    assert (storage / ".jobs").stat().st_mode & 0o777 == 0o700
    assert (storage / "seen").read_text().split()[:2] == ["0077", "drwx------"]
    assert not list((storage / ".jobs").glob("7-*"))


@pytest.mark.parametrize("code", [0, 3, 75])
def test_the_job_ends_with_the_code_of_its_command(tmp_path: Path, code: int) -> None:
    content = SMALLEST | {"command": ["bash", "-c", f"exit {code}"]}
    script = render(SlurmConfiguration(**content, storage_path=tmp_path / "studies"))
    run_script(script, tmp_path / "bin", code=code)


def test_a_full_disk_costs_no_code(tmp_path: Path) -> None:
    content = SMALLEST | {"command": ["bash", "-c", "exit 75"]}
    content["pre_exec"] = ["ln -s /dev/full $folder/code"]
    script = render(SlurmConfiguration(**content, storage_path=tmp_path / "studies"))
    run_script(script, tmp_path / "bin", code=75)


def test_a_warning_that_waits_until_it_is_due_ends_with_the_command(tmp_path: Path) -> None:
    storage = tmp_path / "studies"
    command = ["bash", "-c", "kill -USR1 $SCRIPT; exit 7"]
    content = SMALLEST | {"storage_path": storage, "command": command}
    content["pre_exec"] = ["export SCRIPT=$$", "ITWINAI_STOP_AT=$((EPOCHSECONDS + 4))"]
    content["pre_exec"] += ['say() { echo "$*" >> $storage/said; }']
    run_script(render(SlurmConfiguration(**content)), tmp_path / "bin", code=7)
    warned, ended = (storage / "said").read_text().splitlines()
    assert "until it is told" in warned
    assert ended == "the command ended with code 7"


def outcome(content: dict[str, Any]) -> tuple[str, str | None]:
    """Why a configuration is refused, or its script."""
    try:
        return "", render(validate(SlurmConfiguration, content, where="slurm"))
    except ConfigurationError as error:
        return str(error), None


def check(*command: str, script: str) -> None:
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def run_script(
    script: str, folder: Path, code: int | None = None, umask: int = -1
) -> dict[str, list[str]]:
    """Run a script as job 7; tell which of our programs ran, with ``SHOWN`` and their arguments."""
    ran = folder / "ran"
    shutil.rmtree(folder, ignore_errors=True)
    ran.mkdir(parents=True)
    for tool in ("bash", "cat", "chmod", "cp", "ln", "ls", "mkdir", "rm", "sleep", "touch"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    for name in ("canary", "program"):
        (folder / name).write_text(
            f"""#!/bin/bash\nprintf '%s\\0' "$SHOWN" "$@" > {ran}/{name}\n"""
        )
        (folder / name).chmod(0o755)
    (folder / "script").write_text(script)
    done = subprocess.run(
        [folder / "bash", folder / "script"],
        env={"PATH": str(folder), "SLURM_JOB_ID": "7"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        umask=umask,
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return {path.name: path.read_text().split("\0")[:-1] for path in ran.iterdir()}


@pytest.mark.parametrize("kind", ["study", "training", "plain"])
def test_what_pipelines_may_name_is_known_in_the_job_and_those_after_it(kind: str) -> None:
    configuration = SlurmConfiguration(**SMALLEST | {"kind": kind})
    script = render(configuration, ["torchvision", "timm.create_model"])
    line = "export ITWINAI_ALLOW='torchvision,timm.create_model'\n"
    # The job that goes on is submitted from the same script.
    assert script.replace(line, "") == render(configuration)
    assert script.index(line) < script.index("${command[@]}")
    check("bash", "-n", script=script)


def test_a_name_that_is_allowed_is_quoted() -> None:
    script = render(SlurmConfiguration(**SMALLEST), ["x; canary"])
    assert "export ITWINAI_ALLOW='x; canary'\n" in script
