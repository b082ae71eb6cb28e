"""Where an error came out of a user's own code."""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from traceback import walk_tb

from itwinai.errors import text_of

#: The end of a message about an error that the user may want to see whole.
SEE_ALL = "ITWINAI_DEBUG=1 shows the whole traceback."

#: Lines of an error's message that are shown.
_LINES = 3

#: Of the user's frames, how many are shown: the innermost, and who called it.
_SHOWN = 2


def headline(error: BaseException) -> str:
    """Name an error and the first lines of its message."""
    lines = f"{type(error).__name__}: {text_of(error)}".splitlines()
    return "\n".join(lines[:_LINES] + ["..."] * (len(lines) > _LINES))


def own_frames(error: BaseException) -> list[str]:
    """Name file, line and function of the user's innermost frames, each with its source line.

    Frames of Python, of installed packages and of itwinai are left out.
    """
    return [
        f"in {_short(file)}, line {line}{function}:\n    {linecache.getline(file, line).strip()}"
        for file, line, function in list(_own_places(error))[-_SHOWN:]
    ]


def _own_places(error: BaseException) -> Iterator[tuple[str, int, str]]:
    for frame, line in walk_tb(error.__traceback__):
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        if is_own(file):
            yield file, line, "" if function.startswith("<") else f", {function}()"
    if isinstance(error, SyntaxError) and error.filename and is_own(error.filename):
        yield error.filename, error.lineno or 1, ""


def is_own(file: str) -> bool:
    """Whether a file is neither Python's, nor an installed package's, nor one of itwinai."""
    path = os.path.abspath(file)
    parts = Path(path).parts
    installed = "site-packages" in parts or "dist-packages" in parts
    return not (file.startswith("<") or installed or path.startswith(_others()))


@cache
def _others() -> tuple[str, ...]:
    """Folders of itwinai, of Python's library and of the commands that packages install."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "scripts")]
    return tuple(os.path.join(folder, "") for folder in (str(Path(__file__).parent), *folders))


def _short(file: str) -> str:
    """Relative to the working directory, if the file lies below it."""
    path = Path(os.path.abspath(file))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
