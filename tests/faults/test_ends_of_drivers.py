"""Drivers that are told to end, each in another way, all at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from drivers import Driver, Terminal, trained_again, until
from measured import measured
from short_study import AT_ONCE

from itwinai.hpo.record import StudyResult, load_study

GOES_ON = (
    "error: study 'study' was interrupted after 0 trials; the same command with study.resume=true "
    "goes on to the same total"
)
SUMMARY = "read back   from itwinai.hpo import load_study"
#: Below a temporary folder, what a Ray that starts makes first of all.
RAY = "itwinai_*/ray/session_*"
WAYS = ("kill", "closed terminal", "ctrl-c twice", "closed pipe")


class Ended:
    """A driver that has ended, and what it left."""

    def __init__(self, driver: Driver, address: str, token: Path) -> None:
        self.code = driver.end()
        self.said = driver.log.read_text()
        self.result: StudyResult = load_study(driver.folder / "study")
        self.trained_again = trained_again(driver.folder)
        self.address, self.token = address, token


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[dict[str, Ended]]:
    """A driver for each way to end, each with a Ray of its own."""
    terminal, (pipe, into_pipe) = Terminal(), os.pipe()
    given = {"ctrl-c twice": {"terminal": terminal}, "closed pipe": {"output": into_pipe}}
    drivers = {}
    try:
        for way in WAYS:
            folder = tmp_path_factory.mktemp("study")
            (folder / "hold").touch()
            drivers[way] = Driver(folder, 6, temporary, **given.get(way, {}))
        os.close(into_pipe)
        places = {}
        for way, driver in drivers.items():
            driver.wait_for_epochs(2 * AT_ONCE)
            places[way] = (driver.address(), driver.token())
        _press_until_it_ends(terminal, drivers["ctrl-c twice"])
        drivers["closed terminal"].process.send_signal(signal.SIGHUP)
        os.close(pipe)
        with measured("30"):
            drivers["kill"].process.send_signal(signal.SIGTERM)
            for way in ("kill", "closed terminal", "closed pipe"):
                (drivers[way].folder / "hold").unlink()
            drivers["kill"].end()
        yield {way: Ended(driver, *places[way]) for way, driver in drivers.items()}
    finally:
        for driver in drivers.values():
            driver.sweep()
        terminal.close()


def _press_until_it_ends(terminal: Terminal, driver: Driver) -> None:
    """As somebody does who has no patience: its trials are held for ever."""
    for _ in range(2):
        terminal.press_ctrl_c()
        with suppress(subprocess.TimeoutExpired):
            driver.process.wait(1)


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_signal_ends_a_study_with_its_record_in_order(ended: dict[str, Ended], way: str) -> None:
    assert ended[way].code == 130, ended[way].said
    assert [trial.state.value for trial in ended[way].result.trials] == ["interrupted"] * AT_ONCE
    assert [trial.reason for trial in ended[way].result.trials] == (
        ["the study was interrupted"] * AT_ONCE
    )
    assert all(trial.epochs >= 2 for trial in ended[way].result.trials)
    assert not ended[way].token.parent.exists()


@pytest.mark.parametrize("way", WAYS[:2])
def test_the_first_signal_is_heard_with_patience(ended: dict[str, Ended], way: str) -> None:
    assert SUMMARY in ended[way].said
    assert ended[way].said.endswith(f"{GOES_ON}\n")


def test_a_study_that_is_told_to_end_as_its_ray_starts_ends_alike(
    tmp_path: Path, temporary: Path
) -> None:
    rays = set(temporary.glob(RAY))
    driver = Driver(tmp_path, 6, temporary)
    try:
        until(lambda: set(temporary.glob(RAY)) > rays, driver.log.read_text)
        driver.process.send_signal(signal.SIGTERM)
        code = driver.end()
    finally:
        driver.sweep()
    assert code == 130, driver.log.read_text()
    assert set(temporary.glob(RAY)) == rays


def test_the_second_ctrl_c_waits_for_nothing(ended: dict[str, Ended]) -> None:
    assert SUMMARY not in ended["ctrl-c twice"].said
    assert "Traceback" not in ended["ctrl-c twice"].said


def test_a_pipe_whose_reader_has_gone_costs_what_it_would_have_read(
    ended: dict[str, Ended],
) -> None:
    study = ended["closed pipe"]
    assert (study.code, study.said) == (0, "")
    assert [trial.state.value for trial in study.result.trials] == ["completed"] * 6
    assert not study.token.parent.exists()


def test_studies_at_the_same_time_have_rays_of_their_own(ended: dict[str, Ended]) -> None:
    assert len({study.address for study in ended.values()}) == len(WAYS)
    assert len({study.token for study in ended.values()}) == len(WAYS)
    assert {study.trained_again for study in ended.values()} == {0}
