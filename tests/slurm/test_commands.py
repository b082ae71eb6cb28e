"""``itwinai slurm`` where there is no Slurm, or one that does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from itwinai.errors import ConfigurationError
from itwinai.slurm import tools
from itwinai.slurm.configuration import SlurmConfiguration, load
from itwinai.slurm.script import render
from itwinai.slurm.submission import Submitted, cancel, links_of, log_of, submit
from itwinai.slurm.tools import RefusedError, SlurmError, run_tool

CONTENT = {"kind": "study", "command": "itwinai hpo run", "time": "01:00:00", "job_name": "digits"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "slurm.yaml"
    file.write_text(yaml.safe_dump(CONTENT))
    return file


@pytest.fixture
def configuration(config: Path) -> SlurmConfiguration:
    return load(config)


def slurm(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command on a machine without Slurm."""
    return subprocess.run(
        [sys.executable, "-m", "itwinai", "slurm", *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_script_writes_the_script_and_nothing_else(config: Path) -> None:
    done = slurm("script", "nodes=3", cwd=config.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == render(load(config, ["nodes=3"]))
    assert list(config.parent.iterdir()) == [config]


def test_what_pipelines_may_name_is_written_into_the_script(config: Path) -> None:
    done = slurm("script", "--allow", "timm", "--allow=torchvision", cwd=config.parent)
    assert done.stdout == render(load(config), ["timm", "torchvision"])
    refused = slurm("script", "--allow", "x y", cwd=config.parent)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: --allow x y: expected a package")


def test_a_mistyped_key_is_refused_with_the_nearest_one(config: Path) -> None:
    done = slurm("script", "--config", config, "node=3", cwd=Path("/"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {config}: node: unknown key; did you mean 'nodes'?\n"


def test_a_missing_configuration_is_said_to_be_missing(tmp_path: Path) -> None:
    done = slurm("status", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: slurm.yaml: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("command", ["submit", "status", "cancel"])
def test_a_machine_without_slurm_is_said_to_have_none(command: str, config: Path) -> None:
    jobs = config.parent / "studies" / ".jobs"
    jobs.mkdir(parents=True)
    if command != "submit":
        (jobs / "digits.json").write_text('{"run": "7"}')
        (jobs / "7.links").write_text("7 0\\n")
    done = slurm(command, cwd=config.parent)
    assert done.returncode == 1
    tool = "sbatch" if command == "submit" else "squeue"
    assert done.stderr.startswith(f"error: {tool}: this command of Slurm is not here.")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_what_was_never_submitted_cannot_be_found(command: str, config: Path) -> None:
    done = slurm(command, "--json", cwd=config.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no job named 'digits' was submitted" in done.stderr


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"run": 7}', '{"run": "7\\n"}', '{"run": "7; ls"}', '{"run": "7", "more": 1}'],
)
def test_what_submit_wrote_is_checked_when_it_is_read(
    configuration: SlurmConfiguration, content: str
) -> None:
    configuration.jobs_folder.mkdir(parents=True)
    (configuration.jobs_folder / "digits.json").write_text(content)
    with pytest.raises(SlurmError, match=r"not what 'itwinai slurm submit' wrote"):
        cancel(configuration)


def test_only_lines_that_are_jobs_are_read(configuration: SlurmConfiguration) -> None:
    configuration.jobs_folder.mkdir(parents=True)
    (configuration.jobs_folder / "digits.json").write_text(Submitted(run="7").model_dump_json())
    links = "7 0\n7 0\n8 1\n--all 0\n../9 1\n12 2\n12; ls 3\n13\n"
    (configuration.jobs_folder / "7.links").write_text(links)
    assert links_of(configuration) == {"7": 0, "8": 1, "12": 2}


def test_the_log_is_where_slurm_writes_it(configuration: SlurmConfiguration) -> None:
    assert log_of(configuration, "7") == configuration.working_dir / "digits-7.out"


def test_a_refusal_is_told_in_slurms_words_and_says_what_to_do(
    configuration: SlurmConfiguration, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "sbatch: error: invalid account\nsbatch: fatal: no job for you\n")
    with pytest.raises(SlurmError) as error:
        submit(configuration)
    told = str(error.value)
    assert told.startswith("sbatch refused the job: invalid account; no job for you\n")
    assert f"{configuration.jobs_folder / 'digits.sh'}" in told
    assert not (configuration.jobs_folder / "digits.json").exists()


def test_the_folder_of_jobs_is_for_its_user_alone(
    configuration: SlurmConfiguration, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "no")
    before = os.umask(0)
    try:
        with pytest.raises(SlurmError):
            submit(configuration)
    finally:
        os.umask(before)
    jobs = configuration.jobs_folder
    assert jobs.stat().st_mode & 0o777 == 0o700
    assert (jobs / "digits.sh").stat().st_mode & 0o777 == 0o600


def test_a_folder_of_jobs_that_leads_elsewhere_is_refused(
    configuration: SlurmConfiguration, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    configuration.storage_path.mkdir()
    configuration.jobs_folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlurmError, match="this is a link"):
        submit(configuration)


def test_slurm_may_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_PATIENCE_S", 0.1)
    with pytest.raises(SlurmError, match=r"sleep: no answer within 0\.1 s"):
        run_tool("sleep", "60")


def test_an_argument_is_never_read_by_a_shell() -> None:
    words = ["$(touch x)", "; touch x", "a b", "*"]
    assert run_tool("printf", "%s\n", *words).splitlines() == words
    with pytest.raises(RefusedError):
        run_tool("false")


def test_errors_are_those_of_itwinai() -> None:
    with pytest.raises(ConfigurationError):
        load("https://example.org/slurm.yaml")


def test_help_names_the_commands_and_their_codes() -> None:
    done = slurm("--help", cwd=Path("/"))
    assert done.returncode == 0
    for word in ("script", "submit", "status", "cancel", "Exit codes"):
        assert word in done.stdout


def refuse(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let every command of Slurm end with an error."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", text)

    monkeypatch.setattr(tools.subprocess, "run", run)
