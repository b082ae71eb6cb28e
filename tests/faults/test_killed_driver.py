"""A driver that is killed with -9, and the next one, which goes on: one study for all tests."""

from __future__ import annotations

import os
import pickle
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from drivers import GONE_WITHIN_S, Driver, trained_again, until
from measured import measured
from short_study import AT_ONCE, EPOCHS

from itwinai.hpo.record import StudyResult, load_study

TRIALS = 6
CANARY = "canary-0123456789"


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> object:
        return os.mkdir, (str(self._folder),)


class Story:
    """What was seen of a study: while it ran, after ``kill -9``, and of the driver after that.

    Args:
        folder: Where the study is.
        temporary: For its temporary folders, and no others.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder, self.temporary = folder, temporary
        (folder / "hold").touch()
        self.first = Driver(folder, TRIALS, temporary)
        self.first.wait_for_epochs(2 * AT_ONCE)
        self.second: Driver | None = None

    def look_at_its_token(self) -> None:
        """Where its token stands, and who is let in."""
        grpc = pytest.importorskip("grpc")
        token = self.first.token()
        secret = token.read_text()
        self.token = token
        self.modes = [stat.S_IMODE(path.stat().st_mode) for path in (token.parent, token)]
        self.said = self.first.places_of(secret, self.folder, self.temporary)
        self.canary_said = self.first.places_of(CANARY, self.folder, self.temporary)
        self.answers = {}
        with grpc.insecure_channel(self.first.address()) as channel:
            ask = channel.unary_unary("/ray.rpc.JobInfoGcsService/GetAllJobInfo")
            for kind, words in {"none": "", "a wrong one": "x" * 64, "its own": secret}.items():
                header = [("authorization", f"Bearer {words}")] if words else []
                try:
                    ask(b"", metadata=header, timeout=60)
                    self.answers[kind] = "OK"
                except grpc.RpcError as error:
                    self.answers[kind] = error.code().name

    def kill(self) -> None:
        """Kill the driver, and wait until all of its processes are gone."""
        with measured("5"):
            self.first.process.kill()
            self.code = self.first.end(GONE_WITHIN_S)
        self.left = load_study(self.folder / "study")
        self.files_left = list(self.temporary.iterdir())

    def plant(self) -> None:
        """Leave what Ray Tune would unpickle."""
        for place in (self.folder / "study", self.folder / "study/.tune/run"):
            place.mkdir(parents=True, exist_ok=True)
            for name in ("tuner.pkl", "trainable.pkl", "searcher-state.pkl"):
                (place / name).write_bytes(pickle.dumps(Harmful(self.folder / "harm")))

    def resume(self) -> None:
        """Go on: a worker is killed, one sleeps until the other has trained all that it can."""
        with measured("4"):
            self.second = Driver(self.folder, TRIALS, self.temporary)
            self.second.wait_for_workers()
        with measured("1"):
            os.kill(self.second.workers()[0], signal.SIGKILL)
            self.second.wait_for_workers()
        asleep, awake = self.second.workers()
        os.kill(asleep, signal.SIGSTOP)
        (self.folder / "hold").unlink()
        until(
            lambda: (awake, TRIALS - 1, EPOCHS) in self.second.epochs(), self.second.log.read_text
        )
        os.kill(asleep, signal.SIGCONT)
        self.second_code = self.second.end()
        self.processes = {pid for pid, _, _ in self.second.epochs()}
        self.result: StudyResult = load_study(self.folder / "study")

    def end(self) -> None:
        """Leave nothing behind."""
        for driver in (self.first, self.second):
            if driver is not None:
                driver.sweep()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[Story]:
    """The study, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_SERVICE_TOKEN", CANARY)
        told = Story(tmp_path_factory.mktemp("study"), temporary)
    try:
        told.look_at_its_token()
        told.kill()
        told.plant()
        told.resume()
        yield told
    finally:
        told.end()


def test_nobody_without_the_token_is_answered(story: Story) -> None:
    assert story.answers == {
        "none": "UNAUTHENTICATED",
        "a wrong one": "UNAUTHENTICATED",
        "its own": "OK",
    }


def test_the_token_stands_in_its_own_file_alone(story: Story) -> None:
    assert story.modes == [0o700, 0o600]
    assert story.said == [str(story.token)]


def test_a_secret_of_the_environment_stands_in_no_file(story: Story) -> None:
    assert {place.partition(" of ")[0] for place in story.canary_said} == {"environ"}


def test_no_process_of_a_killed_driver_stays(story: Story) -> None:
    assert story.code == -signal.SIGKILL
    assert [trial.state.value for trial in story.left.trials] == ["running"] * AT_ONCE


def test_the_token_of_a_killed_driver_goes_with_it(story: Story) -> None:
    assert story.token.parent.parent == story.temporary
    assert story.files_left == []


def test_a_killed_study_goes_on_without_losing_or_repeating_anything(story: Story) -> None:
    assert story.second_code == 0
    assert [trial.number for trial in story.result.trials] == list(range(TRIALS))
    assert {trial.state.value for trial in story.result.trials} == {"completed"}
    assert trained_again(story.folder) == 0
    for before, after in zip(story.left.trials, story.result.trials, strict=False):
        assert after.params == before.params
        assert after.history[: before.epochs] == before.history


def test_a_killed_worker_is_replaced(story: Story) -> None:
    log = (story.folder / "study/trials/00000/log.txt").read_text()
    logs = log + (story.folder / "study/trials/00001/log.txt").read_text()
    assert logs.count("from 2") == 3, "each trial in the second driver, and one of them once more"


def test_a_worker_that_sleeps_for_a_while_is_not_declared_dead(story: Story) -> None:
    assert len(story.processes) == AT_ONCE
    assert all(trial.epochs == EPOCHS for trial in story.result.trials)


def test_pickles_in_a_studys_folder_are_not_read(story: Story) -> None:
    assert not (story.folder / "harm").exists()
    assert pickle.loads((story.folder / "study/tuner.pkl").read_bytes()) is None
    assert (story.folder / "harm").exists(), "they would have been noticed"
