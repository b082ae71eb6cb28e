"""Drivers that are killed with -9 before their first trial, and after the last one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from drivers import GONE_WITHIN_S, Driver, until
from short_study import AT_ONCE, EPOCHS

MOMENTS: dict[str, Callable[[Driver], bool]] = {
    "Ray starts": lambda driver: driver.runs("gcs_server"),
    "Ray starts workers": lambda driver: driver.runs("ray::"),
    "the last trial ends": lambda driver: len(driver.epochs()) == AT_ONCE * EPOCHS,
}


@pytest.mark.parametrize(
    "moment",
    [
        "Ray starts",
        "Ray starts workers",
        pytest.param("the last trial ends", marks=pytest.mark.exhaustive),
    ],
)
def test_nothing_stays_of_a_driver_that_is_killed_when(
    moment: str, tmp_path: Path, temporary: Path
) -> None:
    driver = Driver(tmp_path, AT_ONCE, temporary)
    try:
        until(lambda: MOMENTS[moment](driver) or not driver.is_running, driver.log.read_text)
        driver.process.kill()
        assert driver.end(GONE_WITHIN_S) == -signal.SIGKILL, driver.log.read_text()
        assert list(temporary.iterdir()) == []
    finally:
        driver.sweep()
