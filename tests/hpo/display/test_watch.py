"""Watching a study from elsewhere: its record is read again and again until it ends."""

from __future__ import annotations

import io
import math
import threading
from pathlib import Path

import pytest
from hand_driven import Clock, MakeStudy, ask, report, simulate
from rich.console import Console

from itwinai.hpo.display import standing, watch
from itwinai.hpo.display.sparks import Sparks
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import load_study
from itwinai.hpo.trial import TrialState


def screen(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, height=30)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_running_study_is_watched_until_it_ends(make_study: MakeStudy) -> None:
    study = make_study(num_samples=2)
    first = ask(study)
    report(study, first, [0.5, 0.4])
    console = screen(terminal=True)
    watcher = threading.Thread(target=watch, args=(study.directory, console, 0.01), daemon=True)
    watcher.start()
    while "0/2 trials done, 1 running" not in shown(console):  # a screen is written in parts
        assert watcher.is_alive()
        watcher.join(0.01)
    assert "study study: running" in shown(console)
    report(study, first, [0.3, 0.2])  # which began with no checkpoint: the epochs that it has
    study.tell(first.number, TrialState.FAILED, "ValueError: no")
    simulate(study, lambda params, epoch: {"validation_loss": params["x"] + 1 / epoch})
    study.close()
    watcher.join(30)
    assert not watcher.is_alive()
    end = shown(console).rpartition("study study: ")[2]
    assert end.startswith("finished")
    assert "trial 0 failed: ValueError: no" in end
    assert "2/2 trials done, 0 running, 1 failed" in end


def test_where_there_is_no_terminal_it_is_shown_once(make_study: MakeStudy) -> None:
    study = make_study()
    report(study, ask(study), [0.5])
    console = screen(terminal=False)
    watch(study.directory, console, 0.01)
    assert shown(console).count("study study: running") == 1
    assert "\x1b" not in shown(console)


def test_a_populations_copies_count_among_the_trials_that_there_are(make_study: MakeStudy) -> None:
    study = make_study(algorithm="auto", scheduler={"name": "pbt", "interval": 3}, epochs=12)
    result = simulate(
        study, lambda params, epoch: {"validation_loss": params["x"] + 1 / epoch}, 4, reports=30
    )
    assert (len(result.trials), result.total, result.copies) == (6, 4, 2)
    assert repr(result).startswith("<study 'study': 6 of 6 trials (")
    standing_now = standing(result)
    assert standing_now.startswith("2/6 trials done, 4 running, 2 stopped early, ")
    assert standing_now.endswith(" left")


def test_the_pace_is_that_of_all_epochs_on_record(make_study: MakeStudy, clock: Clock) -> None:
    study = make_study(num_samples=2, epochs=4)
    trial = ask(study)
    for tenths in range(1, 13):
        clock.now += 0.5
        study.report(trial.number, {"validation_loss": 0.5}, None, tenths / 10)
    # 2.8 epochs are left of this trial and 4 of the next one, at 5 s each.
    assert standing(study.result()).endswith(", 6 s, about 34 s left")


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such record"):
        watch(tmp_path, screen(terminal=True), 1)


def test_curves_are_drawn_at_one_scale_and_as_long_as_their_trials(make_study: MakeStudy) -> None:
    study = make_study(epochs=4)
    curves = [[0.8, 0.4, 0.2, 0.0], [0.8, 0.8], [0.8, math.nan]]
    for curve in curves:
        report(study, ask(study), curve)
    result = load_study(study.directory)
    sparks = Sparks(result, result.trials)
    assert [sparks.of(trial) for trial in result.trials] == ["█▄▂▁", "██", "█ "]
