"""The record: Optuna's own journal, one writer, and what a crash may leave behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from hand_driven import MakeStudy, ask, report, run_trial, simulate
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import StudyRecord, export_study, load_optuna_study, load_study
from itwinai.hpo.record.journal import ReadRecord
from itwinai.hpo.record.sealing import sealed
from itwinai.hpo.study import Study
from itwinai.hpo.trial import TrialResult, TrialState

WRITER = """
import sys
from pathlib import Path
from typing import Any
from itwinai.hpo.record import StudyRecord
record = StudyRecord(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def study_of_every_end(make_study: MakeStudy) -> Study:
    """A completed trial, a stopped one, one that diverged, and one that is running."""
    study = make_study(name="plain", scheduler="asha", epochs=3)
    run_trial(study, [0.3, 0.2, 0.1])
    run_trial(study, [0.9, 0.9, 0.9])
    run_trial(study, [0.5, float("nan")])
    report(study, ask(study), [0.2])
    return study


def test_plain_optuna_reads_the_record(make_study: MakeStudy) -> None:
    study = study_of_every_end(make_study)
    path = study.close().record
    plain = optuna.load_study(
        study_name="plain", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    states = [OptunaState.COMPLETE, OptunaState.PRUNED, OptunaState.COMPLETE, OptunaState.FAIL]
    assert [trial.state for trial in plain.trials] == states
    assert plain.trials[2].value == float("inf")  # so that its samplers learn from what diverged
    assert plain.best_value == 0.1
    assert plain.trials[0].intermediate_values == {1: 0.3, 2: 0.2, 3: 0.1}
    assert plain.best_params == study.result().trials[0].params
    assert plain.direction == optuna.study.StudyDirection.MINIMIZE


def test_a_record_says_the_same_to_optuna_and_to_us(make_study: MakeStudy) -> None:
    study = study_of_every_end(make_study)
    path = study.directory / "record.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    plain = optuna.load_study(study_name="plain", storage=storage)
    ours = load_optuna_study(path)
    assert [repr(trial) for trial in ours.trials] == [repr(trial) for trial in plain.trials]
    assert ours.user_attrs == plain.user_attrs
    # Epochs are folded into their trials: one entry to make it, its parameters and its end.
    params = len(plain.trials[0].params)
    record = ReadRecord(path)
    of_trials = [e for e in record.read_logs(0) if {"trial_id", "datetime_start"} & e.keys()]
    assert len(of_trials) == 4 * (1 + params) + 3


def test_the_record_of_a_running_study_can_be_read(make_study: MakeStudy) -> None:
    study = make_study()
    report(study, ask(study), [0.5])
    (trial,) = load_study(study.directory).trials
    assert trial.state is TrialState.RUNNING
    assert trial.metrics == {"validation_loss": 0.5}


def test_a_line_torn_at_any_byte_costs_no_ended_trial(make_study: MakeStudy) -> None:
    study = make_study(num_samples=3, epochs=2)
    path = study.directory / "record.log"
    ended: list[tuple[int, TrialResult]] = []
    for losses in ([0.3, 0.2], [0.4, 0.1], [0.2, 0.2]):
        number = run_trial(study, losses).number
        ended.append((path.stat().st_size, study.result().trials[number]))
    study.close()
    content = path.read_bytes()
    first_cut = len(b"".join(content.splitlines(keepends=True)[:-4]))
    for cut in range(first_cut, len(content) + 1):
        path.write_bytes(content[:cut])
        resumed = make_study(num_samples=3, epochs=2, resume=True)
        trials = resumed.result().trials
        resumed.close()
        assert path.read_bytes().startswith(content[: content.rfind(b"\n", 0, cut) + 1])
        assert [trials[t.number] for size, t in ended if size <= cut] == [
            t for size, t in ended if size <= cut
        ], f"cut after byte {cut}"
        assert all(trial.state is not TrialState.RUNNING for trial in trials)


def test_an_end_that_was_decided_but_not_written_in_full_is_completed(
    make_study: MakeStudy,
) -> None:
    study = make_study(epochs=2)
    run_trial(study, [0.3, 0.2])
    path = study.close().record
    # The last line closes the trial for Optuna.
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    make_study(epochs=2, resume=True).close()
    plain = optuna.load_study(
        study_name="study", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert [(trial.state, trial.value) for trial in plain.trials] == [(OptunaState.COMPLETE, 0.2)]


@pytest.mark.parametrize(
    "damage",
    [b"garbage", b'{"op_code": 1', b"\xff\xfe\xfa", b"\0\0\0\0", b"12", b"[]"],
    ids=repr,
)
def test_a_damaged_line_costs_what_it_held_and_the_damaged_record_is_kept(
    make_study: MakeStudy, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    study = make_study()
    run_trial(study, [0.3, 0.2, 0.1, 0.1])
    whole = study.close()
    lines = whole.record.read_bytes().splitlines(keepends=True)
    (place,) = (place for place, line in enumerate(lines) if b'"epoch 2"' in line)
    lines[place] = damage + b"\n"
    whole.record.write_bytes(b"".join(lines))

    (trial,) = load_study(whole.record).trials
    history = whole.trials[0].history
    assert (trial.at, trial.history) == ((1, 3, 4), (history[0], *history[2:]))
    assert f"line {place + 1} (" in caplog.text
    assert "hpo repair" in caplog.text
    (again,) = make_study(resume=True).result().trials
    assert again == trial
    assert whole.record.with_name("record.log.damaged-1").read_bytes() == b"".join(lines)
    plain = JournalStorage(JournalFileBackend(str(whole.record)))
    assert len(optuna.load_study(study_name=None, storage=plain).trials) == 1


def test_a_second_writer_is_refused_while_the_first_lives_and_not_after_kill_9(
    tmp_path: Path,
) -> None:
    path = tmp_path / "record.log"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(StudyError, match="another process is running this study"):
            StudyRecord(path)
        first.kill()
        first.wait()
        StudyRecord(path).close()


def test_a_second_study_in_the_same_process_is_refused_until_the_first_is_closed(
    make_study: MakeStudy,
) -> None:
    first = make_study()
    first.ask()
    with pytest.raises(StudyError, match="another process is running this study"):
        make_study(resume=True)
    first.close()
    make_study(resume=True)


def test_a_study_of_another_program_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    path = StudyConfiguration(storage_path=tmp_path).directory / "record.log"
    path.parent.mkdir()
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(study_name="study", storage=storage).ask()
    with pytest.raises(StudyError, match="was not written by itwinai"):
        make_study(resume=True)
    with pytest.raises(StudyError, match="was not written by itwinai"):
        load_study(path)
    plain = optuna.load_study(study_name="study", storage=storage)
    assert [trial.state for trial in plain.trials] == [OptunaState.RUNNING]


@pytest.mark.parametrize("content", [None, b""], ids=["absent", "empty"])
def test_reading_a_record_that_holds_nothing_is_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "record.log").write_bytes(content)
    with pytest.raises(StudyError, match=r"no such record|holds no study yet"):
        load_study(tmp_path)


def test_a_record_of_a_newer_format_is_refused_by_name(make_study: MakeStudy) -> None:
    path = make_study().close().record
    first, second, *rest = path.read_bytes().splitlines()
    entry = json.loads(second)
    entry["user_attr"]["itwinai"]["format"] = 3
    del entry["sum"], entry["line"]
    path.write_bytes(b"\n".join([first, sealed(entry, 2).encode(), *rest, b""]))
    with pytest.raises(StudyError, match="written in format 3, but this version of itwinai reads"):
        load_study(path)


def test_an_older_record_that_makes_no_sense_is_refused_by_whoever_opens_it(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    run_trial(study, [0.3, 0.2, 0.1, 0.1])
    path = study.close().record
    content = re.sub(rb',"line":\d+,"sum":"\w+"\}', b"}", path.read_bytes())
    path.write_bytes(content.replace(b'"step":2', b'"stop":2'))
    for open_it in (load_study, lambda path: make_study(resume=True)):
        with pytest.raises(StudyError, match="damaged; what stands there makes no sense"):
            open_it(path)


def test_an_export_for_optuna_holds_the_values_that_were_trained(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    """Rounded ones, and those of a default outside the space, which Optuna cannot hold."""
    space = {"lr": {"type": "qloguniform", "lower": 0.01, "upper": 1.0, "q": 0.01}}
    space |= {"n": {"type": "qlograndint", "lower": 16, "upper": 512, "q": 16}}
    study = make_study(space=space, default={"lr": 0.5, "n": 7}, num_samples=6)
    result = simulate(study, lambda params, epoch: {"validation_loss": params["lr"]})
    file = export_study(result, "optuna", tmp_path / "study.db")
    (default, *others) = optuna.load_study(study_name=None, storage=f"sqlite:///{file}").trials
    assert [trial.params for trial in others] == [trial.params for trial in result.trials[1:]]
    assert default.params == {"lr": 0.5}
    assert default.user_attrs["params.n"] == 7


def test_an_export_for_optuna_has_one_range_where_it_has_become_wider(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    def space(upper: float) -> dict[str, Any]:
        return {"x": {"type": "uniform", "lower": 0, "upper": upper}}

    for total, upper in ((3, 1), (6, 2)):
        study = make_study(space=space(upper), num_samples=total, resume=True)
        result = simulate(study, lambda params, epoch: {"validation_loss": params["x"]})
    file = export_study(result, "optuna", tmp_path / "study.db")
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{file}").trials
    assert [trial.params for trial in trials] == [trial.params for trial in result.trials]
    # Where trials differ, Optuna's importances and samplers pass the hyper-parameter over.
    assert list(optuna.search_space.intersection_search_space(trials)) == ["x"]
