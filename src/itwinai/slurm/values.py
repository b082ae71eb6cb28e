"""What may stand in a job's configuration: one type per kind of value, each with its pattern.

Values end up in ``#SBATCH`` lines and in a shell script. The patterns leave no character that
either of them gives a meaning to; free text (the command, the environment) is quoted.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from itwinai.config.values import on_a_file_system

_TIME = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<fields>\d{1,6}(?::\d{1,2}){0,2})", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._@+=,/-]*")
#: A path in which Slurm replaces the name or number of the job, of the node, ...
_LOG_PATH = re.compile(r"/(?:[A-Za-z0-9._@+=,/-]|%\d{0,2}[AaJjNnsuxt])*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_SECRET = re.compile(
    r"(?:^|_)(?:TOKENS?|PASSWORD|PASSWD|PASSPHRASE|SECRETS?|(?:API|ACCESS|PRIVATE)?KEYS?|CREDENTIALS?)"
    r"(?:_(?!FILE$|PATH$|DIR$)|$)",
    re.I,
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s]*:[^/\s]*@")
#: What the job sets itself, and what makes a shell run something.
_RESERVED = re.compile(
    r"(?:SLURM|SBATCH)_.*|ITWINAI_(?:RUN|LINK|STOP_FILE)|BASH_.*|ENV|IFS|SHELLOPTS|BASHOPTS"
)


def _like(pattern: str, expected: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(check)


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def printable(value: str) -> str:
    """Refuse line breaks, control characters, and those that make a text look like another."""
    odd = next((character for character in value if not character.isprintable()), None)
    if odd is not None:
        raise ValueError(
            f"holds the character {odd!a}; write one line without control characters and without "
            "characters that cannot be seen"
        )
    return value


def time_in_seconds(value: str) -> int:
    """Return the length of one of Slurm's times, as in ``30``, ``1:30:00`` or ``2-12``.

    Raises:
        ValueError: If it is none.
    """
    match = _TIME.fullmatch(value)
    if match is None:
        raise ValueError(
            "expected a time as Slurm writes it: minutes, minutes:seconds, "
            "hours:minutes:seconds, days-hours, days-hours:minutes or days-hours:minutes:seconds"
        )
    numbers = [int(number) for number in match["fields"].split(":")]
    if match["days"] is not None:  # they begin with hours
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return int(match["days"] or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def _time(value: str) -> str:
    if time_in_seconds(value) == 0:
        raise ValueError("a job needs some time")
    return value


def _path(pattern: re.Pattern[str], allowed: str) -> Callable[[Path], Path]:
    def check(value: Path) -> Path:
        absolute = os.path.abspath(os.path.expanduser(value))
        if pattern.fullmatch(absolute) is None:
            raise ValueError(f"expected a path of {allowed}, because the job's script holds it")
        return Path(absolute)

    return check


def _words(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip():
        raise ValueError("name a program, as in 'itwinai hpo run --config-name study'")
    if words[0].startswith("-"):
        raise ValueError("begins with an option; name the program first")
    return words


def _variable(name: str) -> str:
    if _VARIABLE.fullmatch(name) is None:
        raise ValueError("expected the name of a variable: letters, digits and '_'")
    if _RESERVED.fullmatch(name):
        raise ValueError("this variable belongs to Slurm, to itwinai or to the shell")
    if _SECRET.search(name):
        raise ValueError(
            "looks like a secret, and everybody who may read the script would know it. Set it in "
            "the shell that submits the job, which passes its variables on, or keep it in a file "
            "that only you can read and name that file."
        )
    return name


def _without_password(value: str) -> str:
    if _PASSWORD_IN_URL.search(value):
        raise ValueError("holds a password; set this variable in the shell that submits the job")
    return value


Name = Annotated[
    str,
    _like(
        r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}",
        "up to 100 letters, digits, '.', '_' and '-', not '.' or '-' first",
    ),
]
Word = Annotated[
    str,
    BeforeValidator(_text_of_number),
    _like(
        r"[A-Za-z0-9_][A-Za-z0-9._@+=:,-]{0,199}",
        "letters, digits and any of ._@+=:,- with a letter or digit first",
    ),
]
Constraint = Annotated[
    str,
    _like(
        r"[A-Za-z0-9_(\[][A-Za-z0-9._()\[\]&|*,-]{0,199}",
        "features of nodes, joined by '&' or '|', as in 'a100&nvlink'",
    ),
]
Module = Annotated[
    str,
    _like(
        r"[A-Za-z0-9_][A-Za-z0-9._+/-]{0,199}", "a module's name, as in 'Python/3.11.3-GCCcore-12'"
    ),
]
Interface = Annotated[
    str, _like(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}", "a network interface, as in 'ib0'")
]
Option = Annotated[
    str, _like(r"[a-z][a-z-]{1,30}", "a long option of sbatch without '--', as in 'licenses'")
]
Memory = Annotated[
    str,
    BeforeValidator(_text_of_number),
    _like(r"\d{1,9}[KMGT]?", "memory per node as Slurm writes it: '16G', or megabytes"),
]
Time = Annotated[str, BeforeValidator(_text_of_number), AfterValidator(_time)]
Directory = Annotated[
    Path,
    BeforeValidator(on_a_file_system),
    AfterValidator(_path(_PATH, "letters, digits and any of ._@+=,-/")),
]
LogPath = Annotated[
    Path,
    AfterValidator(
        _path(_LOG_PATH, "letters, digits, any of ._@+=,-/ and Slurm's patterns such as %j")
    ),
]
Text = Annotated[str, AfterValidator(printable)]
Command = Annotated[
    tuple[Annotated[Text, BeforeValidator(_text_of_number)], ...],
    BeforeValidator(_words),
    AfterValidator(_command),
]
Variable = Annotated[str, AfterValidator(_variable)]
Value = Annotated[
    str,
    BeforeValidator(_text_of_number),
    AfterValidator(printable),
    AfterValidator(_without_password),
]
Count = Annotated[int, Field(ge=1, le=100_000)]
