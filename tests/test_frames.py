"""What is shown of an error: the user's own frames, and the beginning of its message."""

from __future__ import annotations

import json

import pytest

from itwinai.cli.exits import clean_exit
from itwinai.errors import ConfigurationError, add_note
from itwinai.frames import headline, own_frames


def helper(text: str) -> object:
    return json.loads(text)


def caller(text: str) -> object:
    return helper(text)


def raised() -> Exception:
    with pytest.raises(json.JSONDecodeError) as caught:
        caller("{")
    return caught.value


def test_the_innermost_frames_of_the_user_are_shown() -> None:
    frames = own_frames(raised())
    assert [frame.splitlines()[1] for frame in frames] == [
        "    return helper(text)",
        "    return json.loads(text)",
    ]
    assert ["caller()" in frames[0], "helper()" in frames[1]] == [True, True]


def test_a_long_message_is_cut() -> None:
    assert headline(ValueError("a\nb\nc")) == "ValueError: a\nb\nc"
    assert headline(ValueError("a\nb\nc\nd")) == "ValueError: a\nb\nc\n..."


def test_an_error_out_of_own_code_ends_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, clean_exit():
        caller("{")
    assert caught.value.code == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("error: JSONDecodeError: Expecting property name")
    assert last == "  ITWINAI_DEBUG=1 shows the whole traceback."


def test_with_debug_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITWINAI_DEBUG", "1")
    with pytest.raises(json.JSONDecodeError), clean_exit():
        caller("{")


def test_in_a_batch_job_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(json.JSONDecodeError), clean_exit():
        caller("{")


def test_an_error_that_is_nobodys_goes_on() -> None:
    with pytest.raises(json.JSONDecodeError):
        clean_exit()(json.loads)("{")


def test_notes_follow_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigurationError("epochs='x'")
    add_note(error, "in config.yaml: a")
    add_note(error, "and there")
    with pytest.raises(SystemExit), clean_exit():
        raise error
    assert capsys.readouterr().err == "error: epochs='x'\n  in config.yaml: a\n  and there\n"
