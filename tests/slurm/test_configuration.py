"""A job's configuration: what it accepts, what it refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from itwinai.errors import ConfigurationError
from itwinai.slurm.configuration import SlurmConfiguration, load
from itwinai.slurm.values import time_in_seconds

SMALLEST: dict[str, Any] = {"kind": "study", "command": "itwinai hpo run", "time": "01:00:00"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "slurm.yaml", SMALLEST)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_the_smallest_configuration_is_enough(file: Path) -> None:
    configuration = load(file)
    assert configuration.command == ("itwinai", "hpo", "run")
    assert (configuration.nodes, configuration.max_continuations) == (1, 0)
    assert configuration.time_s == 3600


def test_paths_are_relative_to_the_file_that_holds_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/me")
    paths = {"container": "images/a.sif", "binds": ["data", "~/more"], "std_out": "logs/%x-%j.out"}
    configuration = load(write(file, SMALLEST | paths))
    here = file.parent
    assert configuration.working_dir == here
    assert configuration.storage_path == here / "studies"
    assert configuration.container == here / "images" / "a.sif"
    assert configuration.binds == (here / "data", Path("/home/me/more"))
    assert configuration.log == here / "logs" / "%x-%j.out"


def test_overrides_replace_and_add_values(file: Path) -> None:
    overrides = ["nodes=4", "time=12:00:00", "environment.OMP_NUM_THREADS=8", "exclusive=true"]
    configuration = load(file, overrides)
    assert (configuration.nodes, configuration.exclusive) == (4, True)
    assert configuration.time == "12:00:00"
    assert configuration.environment == {"OMP_NUM_THREADS": "8"}


def test_a_number_that_is_taken_for_text_stays_as_it_was_written(file: Path) -> None:
    resources = "kind: plain\nnodes: 2\ntime: 90\naccount: 12_34\n"
    lines = "command: [train, --lr, 1e-3, --python, 3.10]\nenvironment: {LIMIT: 1.50, TAG: 2e3}\n"
    configuration = load(write(file, resources + lines), ["environment.VERSION=3.10"])
    assert configuration.command == ("train", "--lr", "1e-3", "--python", "3.10")
    assert configuration.environment == {"LIMIT": "1.50", "TAG": "2e3", "VERSION": "3.10"}
    assert (configuration.account, configuration.time) == ("12_34", "90")
    assert type(configuration.nodes) is int


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("2:30", 150),
        ("01:02:03", 3723),
        ("2-12", 2 * 86400 + 12 * 3600),
        ("1-02:30", 86400 + 9000),
        ("1-00:00:01", 86401),
    ],
)
def test_times_are_those_of_slurm(text: str, seconds: int) -> None:
    assert time_in_seconds(text) == seconds


@pytest.mark.parametrize("line", ["time: 12:00:00", "time: '12:00:00'", "time: 720"])
def test_a_time_needs_no_quotes(file: Path, line: str) -> None:
    """In YAML 1.1 an unquoted 12:00:00 is the number 43200, which to Slurm is a month."""
    assert load(write(file, f"kind: plain\ncommand: [a]\n{line}\n")).time_s == 12 * 3600


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("tim=1:00:00", "tim: unknown key; did you mean 'time'?"),
        ("kind=studi", "kind='studi': Input should be 'study', 'training' or 'plain'"),
        ("time=1h", "time='1h': expected a time as Slurm writes it"),
        ("time=0", "time=0: a job needs some time"),
        ("storage_path=s3://bucket/a", "storage_path='s3://bucket/a': 's3://bucket/a' is an addr"),
        ("memory=16GB", "memory='16GB': expected memory per node"),
        ("max_continuations=yes", "max_continuations=True: expected a number, not true or false"),
        ("account=0123", "account=0123, line 1: 0123 would be read to the base of 8"),
        ("nodes=0", "nodes=0: Input should be greater than or equal to 1"),
        ("command=", "command=None"),
        ("command=[]", "command=[]: name a program"),
        ("command='--config x'", "begins with an option; name the program first"),
        ('command="a \'b"', "No closing quotation"),
        ("signal_before_s=3600", "signal_before_s=3600 is not less than time='01:00:00' (3600 s)"),
        ("processes_per_node=2", "processes_per_node is for kind=training"),
        ("binds=[/data]", "there is no container"),
        ("environment.WANDB_API_KEY=1", "environment.WANDB_API_KEY='WANDB_API_KEY': looks like a"),
        ("environment.ITWINAI_RUN=1", "this variable belongs to Slurm, to itwinai or to the"),
        ("environment.BASH_ENV=x", "this variable belongs to Slurm, to itwinai or to the shell"),
        ("environment.URL=http://me:pw@host", "holds a password"),
        ("environment.FLAG=true", "environment.FLAG=True: Input should be a valid string"),
        ("sbatch_options.time=3", "sbatch_options.time: the script sets this option itself"),
        ("std_out='%q.out'", "Slurm's patterns such as %j"),
        ("nodes", "nodes: write what to change as key=value"),
        ("nodes.x=1", "'nodes' is a single value"),
    ],
)
def test_an_error_names_the_key_and_says_what_is_expected(
    file: Path, override: str, told: str
) -> None:
    write(file, SMALLEST | {"nodes": 2})
    with pytest.raises(ConfigurationError) as error:
        load(file, [override])
    assert told in str(error.value)


def test_an_error_names_the_file_in_every_line(file: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(file, ["nodes=0", "job_name=a b", "python_env=x"])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{file}: ") for line in lines)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nodes: 1\nnodes: 2\n", "line 2: the key 'nodes' stands here twice; keep one of them"),
        ("nodes: [1\n", "line 2: expected ',' or ']'"),
        ("- nodes\n", "expected keys and values"),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("job_name: a\x07\n", "special characters are not allowed"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(file: Path, content: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(write(file, content))
    assert str(file) in str(error.value)
    assert told in str(error.value)


@pytest.mark.parametrize("url", ["https://example.org/slurm.yaml", Path("http://host/slurm.yaml")])
def test_a_url_is_refused_with_the_reason(url: str | Path) -> None:
    with pytest.raises(ConfigurationError, match="only files on this machine are read"):
        load(url)


def test_names_that_only_look_like_secrets_are_accepted() -> None:
    names = ["TOKENIZERS_PARALLELISM", "MY_TOKEN_FILE", "AWS_CREDENTIALS_PATH", "KEYBOARD"]
    configuration = SlurmConfiguration(**SMALLEST, environment=dict.fromkeys(names, "x"))
    assert list(configuration.environment) == names


def test_a_configuration_in_python_has_absolute_paths_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    configuration = SlurmConfiguration(**SMALLEST)
    assert configuration.storage_path == tmp_path / "studies"
    assert configuration.working_dir == tmp_path
