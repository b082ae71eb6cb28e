"""Optuna's dashboard on a study's record: it follows the study, and writes nothing."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import pytest
from hand_driven import MakeStudy, ask, report
from optuna.storages import JournalStorage

from itwinai.hpo.display.dashboard import dashboard
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import LiveRecord
from itwinai.hpo.trial import TrialState

pytest.importorskip("optuna_dashboard")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = dashboard(folder)
    assert server.server_address[0] == "127.0.0.1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/studies"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def speechless(address: str) -> Iterator[None]:
    """Hold a connection without a word, as browsers do beforehand."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port)):
        yield


def asked(address: str, **options: Any) -> Any:
    with urllib.request.urlopen(urllib.request.Request(address, **options)) as answer:
        return json.load(answer)


def test_it_shows_a_running_study_and_changes_nothing(make_study: MakeStudy) -> None:
    study = make_study()
    report(study, ask(study), [0.5, 0.4])
    record = (study.directory / "record.log").read_bytes()
    with served(study.directory) as address, speechless(address):
        (shown,) = asked(address)["study_summaries"]
        assert shown["study_name"] == "study"
        trials = asked(f"{address}/{shown['study_id']}?after=0")["trials"]
        assert [trial["state"] for trial in trials] == ["Running"]
        for method, path in (("POST", ""), ("DELETE", f"/{shown['study_id']}")):
            with pytest.raises(urllib.error.HTTPError, match="405"):
                asked(f"{address}{path}", method=method, data=b'{"study_name": "other"}')
    assert (study.directory / "record.log").read_bytes() == record


def test_what_it_reads_follows_the_study(make_study: MakeStudy) -> None:
    study = make_study()
    first = ask(study)
    storage = JournalStorage(LiveRecord(study.directory / "record.log"))
    (name,) = optuna.get_all_study_names(storage)
    read = optuna.load_study(study_name=name, storage=storage)
    for seen in ([0.5], [0.4, 0.3], []):
        report(study, replace(first, epochs=len(read.trials[0].intermediate_values)), seen)
    assert read.trials[0].intermediate_values == {1: 0.5, 2: 0.4, 3: 0.3}
    study.tell(first.number, TrialState.COMPLETED)
    ask(study)
    assert [trial.state.name for trial in read.trials] == ["COMPLETE", "RUNNING"]
    with pytest.raises(StudyError, match="read only"):
        read.set_user_attr("mine", 1)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such record"):
        dashboard(tmp_path)
