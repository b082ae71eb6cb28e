"""A command as it may be kept: repeatable, without the secrets in it."""

from __future__ import annotations

import shlex

import pytest

from itwinai.confidential import hidden_command


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["itwinai", "hpo", "run", "+epochs=3"], ["itwinai", "hpo", "run", "+epochs=3"]),
        (["a b.py", "--lr", "0.1"], ["a b.py", "--lr", "0.1"]),
        (["train.py", "++logger.password=hunter2"], ["train.py", "++logger.password=***"]),
        (["train.py", "--api-key=abc"], ["train.py", "--api-key=***"]),
        (
            ["train.py", "--api-key", "abc", "--out", "x"],
            ["train.py", "--api-key", "***", "--out", "x"],
        ),
        (["train.py", "uri=https://me:pw@host/x"], ["train.py", "uri=https://***@host/x"]),
    ],
)
def test_what_a_name_or_an_address_tells_is_hidden(given: list[str], kept: list[str]) -> None:
    assert shlex.split(hidden_command(given)) == kept


def test_a_secret_of_the_environment_is_hidden_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "s3cr3t-value")
    kept = shlex.split(hidden_command(["train.py", "--to", "x-s3cr3t-value", "s3cr3t-value"]))
    assert kept == [
        "train.py",
        "--to",
        "x-${oc.env:MY_SERVICE_TOKEN}",
        "${oc.env:MY_SERVICE_TOKEN}",
    ]
