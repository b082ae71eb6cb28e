"""A live view of any study, from its record alone: from another terminal, or another node."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from itwinai.hpo.display.view import live_table, recorded
from itwinai.hpo.record import StudyResult, load_study, state_of

#: To read a long record takes a second: so much of the time at most is spent on it.
_SHARE = 0.2


def watch(folder: Path, console: Console, every: float) -> None:
    """Show a study until it ends; where there is no terminal, once.

    Args:
        folder: The study's folder.
        console: Where to.
        every: Seconds between two looks; more where the record takes long to read.

    Raises:
        StudyError: If there is no record, or it is not one of ours.
    """
    if not console.is_terminal:
        console.print(_view(load_study(folder), height=10**6), soft_wrap=True)
        return
    pause = threading.Event()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            begin = time.monotonic()
            result = load_study(folder)
            live.update(_view(result, console.height - 1), refresh=True)
            if state_of(result) != "running":
                return
            pause.wait(max(every, (time.monotonic() - begin) / _SHARE))


def _view(result: StudyResult, height: int) -> RenderableType:
    state = state_of(result)
    name = Text(f" study {result.name}: {state}", "bold", no_wrap=True, overflow="ellipsis")
    return Group(name, live_table(recorded(result, runs=state == "running"), height))
