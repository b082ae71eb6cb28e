"""Starting Ray on a machine that is too busy."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import pytest
import ray

from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.errors import StudyError

#: What Ray's store of its own state is; its head process ends at once with one that is unknown.
STORAGE = "RAY_gcs_storage"


def test_ray_takes_no_signal_that_is_the_programs_own() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ray_cluster():
        assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.exhaustive  # Ray waits for thirty seconds
def test_a_start_that_timed_out_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mending(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "trying once more" in record.getMessage():
                os.environ.pop(STORAGE)

    monkeypatch.setenv(STORAGE, "none of its")
    logger, handler = logging.getLogger("itwinai"), Mending()
    logger.addHandler(handler)
    try:
        with ray_cluster() as nodes:
            assert len(nodes) == 1
    finally:
        logger.removeHandler(handler)


def test_a_start_that_timed_out_twice_is_explained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_slow(**options: Any) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen")

    monkeypatch.setattr(ray, "init", too_slow)
    with pytest.raises(StudyError, match="thirty seconds, twice: this machine"), ray_cluster():
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "warning: Ray has not started within its thirty seconds; trying once more"
    ]
