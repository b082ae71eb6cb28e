"""What a study's record holds never steers the terminal that it is shown on."""

from __future__ import annotations

import pytest
from hand_driven import MakeStudy, ask
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.errors import visible
from itwinai.hpo.display.summary import summary
from itwinai.hpo.trial import TrialState

#: Clears the screen, names the window, goes back, overwrites, turns the writing around.
STEERING = "\x1b[2J\x1b]0;name\x07\b\r\x9b1m\u202e"


def test_text_without_what_steers() -> None:
    assert visible("a\tb\nc\u00e9 \x1b[1m\r") == "a\tb\nc\u00e9 \\x1b[1m\\r"


@pytest.mark.parametrize("command", ["show", "best", "list", "show --json", "best --json"])
def test_no_command_writes_what_steers(make_study: MakeStudy, command: str) -> None:
    space = {"kind": {"type": "choice", "categories": [f"{STEERING}x"]}}
    study = make_study(space=space, metric=f"loss {STEERING}", epochs=1)
    for end in (TrialState.COMPLETED, TrialState.FAILED):
        trial = ask(study)
        study.report(trial.number, {f"loss {STEERING}": 0.5}, None, 1)
        study.tell(trial.number, end, f"because {STEERING}")
    result = study.close()
    name, *options = command.split()
    place = result.record.parents[1 if name == "list" else 0]
    done = CliRunner().invoke(app, ["hpo", name, str(place), *options])
    assert done.exit_code == 0, done.output
    for text in (done.output, str(summary(result))):
        assert not {"\x1b", "\x07", "\b", "\r", "\x9b", "\u202e"} & set(text)
    assert "because" in done.output or name != "show" or options
