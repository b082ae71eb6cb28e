"""``itwinai check`` and ``itwinai sanity-check``, on this machine as it is and as it might be."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from itwinai.cli import app, check
from itwinai.cli.probes import family_of, listening_on


def itwinai(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "itwinai", *args],
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict[str, Any]]:
    report = json.loads(done.stdout)
    assert report["ok"] is (done.returncode == 0)
    return {(one["section"], one["name"]): one for one in report["findings"]}


def test_this_machine_passes() -> None:
    done = itwinai("check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = findings(done)
    assert {"versions", "devices", "back ends", "all-reduce", "ray"} == {s for s, _ in found}
    assert "two processes over gloo" in found["all-reduce", "cpu"]["value"]
    assert "127.0.0.1" in found["ray", "listens on"]["value"]
    assert found["ray", "listens on"]["value"].endswith("this machine only")
    assert found["ray", "authentication"]["value"] == "RAY_AUTH_MODE=token"
    assert "mode 0700" in found["ray", "folder"]["value"]
    assert "mode 0600" in found["ray", "token"]["value"]
    assert not Path(found["ray", "token"]["value"].partition(",")[0]).exists()


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        pytest.param(
            ["check-distributed-cluster", "--launcher", "torchrun"], marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_ray_that_cannot_start_fails_the_check(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('a broken installation')\n")
    done = itwinai(*command, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "FAILED start            ImportError: a broken installation" in done.stdout
    assert done.stdout.endswith("failed: ray: start\n")
    assert "  ok     cpu " in done.stdout  # the rest was tried all the same


def test_a_cluster_is_named_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    values = [finding.value for finding in check._ray()]
    assert values == [
        "RAY_ADDRESS=10.0.0.1:6379 would be joined",
        "RAY_AUTH_MODE=token, as that cluster demands",
    ]


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"listens_on": ["127.0.0.1", "0.0.0.0"]}, "listens on", "OTHER MACHINES CAN CONNECT"),
        ({"listens_on": ["::"]}, "listens on", "OTHER MACHINES CAN CONNECT"),
        ({"auth_mode": None}, "authentication", "RAY_AUTH_MODE=None"),
        ({"folder_mode": "0755"}, "folder", "OTHERS CAN READ IT"),
        ({"token_mode": "0640"}, "token", "OTHERS CAN READ IT"),
    ],
)
def test_an_open_door_fails_the_check(change: dict[str, Any], name: str, words: str) -> None:
    private = {
        "resources": {"CPU": 2.0},
        "auth_mode": "token",
        "listens_on": ["127.0.0.1", "::1", "::ffff:127.0.0.1"],
        "folder": "/tmp/x",
        "folder_mode": "0700",
        "token": "/tmp/x/token",
        "token_mode": "0600",
    }
    assert all(finding.ok for finding in check._seen_of_ray(private))
    failed = [finding for finding in check._seen_of_ray(private | change) if not finding.ok]
    assert [finding.name for finding in failed] == [name]
    assert words in failed[0].value


def test_a_trial_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "DEADLINE_S", 0.3)
    before = family_of(os.getpid())
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert check._together([sleeping, sleeping]) == ([], "no answer within 0.3 s")
    assert family_of(os.getpid()) <= before


def test_the_last_word_of_a_failed_trial_is_its_reason() -> None:
    failing = [sys.executable, "-c", "raise ValueError('no such device')"]
    fine = [sys.executable, "-c", "print('done')"]
    assert check._together([fine, fine]) == (["done\n", "done\n"], None)
    assert check._together([fine, failing]) == ([], "ValueError: no such device")


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::"),
    ],
)
def test_listening_sockets_are_found(kind: socket.AddressFamily, address: str) -> None:
    before = listening_on({os.getpid()})
    try:
        server = socket.create_server((address, 0), family=kind)
    except OSError:
        pytest.skip("this machine has no such address")
    with server:
        assert listening_on({os.getpid()}) == before | {address}


def test_sanity_check_imports_what_it_is_asked_for() -> None:
    runner = CliRunner()
    plain = runner.invoke(app, ["sanity-check"])
    assert plain.exit_code == 0
    assert "itwinai.torch" not in plain.output
    torch = runner.invoke(app, ["sanity-check", "--torch"])
    assert torch.exit_code == 0
    assert "itwinai.torch.inference" in torch.output
    everything = runner.invoke(app, ["sanity-check", "--all", "--optional-deps"])
    assert everything.exit_code == 0
    assert "tensorflow       itwinai has nothing for it: left out" in everything.output
    assert "mlflow" in everything.output


def test_sanity_check_fails_where_an_import_fails(tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError('a broken installation')\n")
    assert itwinai("sanity-check", PYTHONPATH=str(tmp_path)).returncode == 0
    done = itwinai("sanity-check", "--torch", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "FAILED itwinai.hpo.launch a broken installation" in done.stdout
