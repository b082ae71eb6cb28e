"""What a YAML file may hold: no more than somebody meant, aliases unfolded, and nothing octal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml
from omegaconf import OmegaConf

from itwinai.config.values import DEEPEST

#: Values of a file; OmegaConf takes seconds for as many.
_MOST = 100_000

#: In YAML 1.1, which Hydra and OmegaConf read, 010 is 8.
_OCTAL = re.compile(r"[-+]?0[0-7_]+")

#: To them, though not to ``itwinai.config.reading``, 12:00:00 is 43200.
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def check_bounds(text: str, name: str, for_omegaconf: bool = False) -> None:
    """Refuse YAML that would take for ever to read, or be read as nobody means it, before it is.

    OmegaConf copies what an alias stands for: nine lines of nine aliases become 10^8 values.

    Args:
        text: The YAML.
        name: Its file, for the message.
        for_omegaconf: Whether OmegaConf will read it.

    Raises:
        yaml.YAMLError: If it is nested too deeply, unfolds to too much, refers to itself, holds a
            number that begins with 0, or one with colons for OmegaConf, or is no YAML.
    """
    loader = yaml.SafeLoader(text)
    loader.name = name
    #: How much each anchor stands for; None while it is open.
    known: dict[str | None, int | None] = {}
    containers: list[tuple[str | None, int]] = [(None, 0)]
    for event in iter(loader.get_event, None):
        problem = ""
        if isinstance(event, yaml.CollectionStartEvent):
            containers.append((event.anchor, 1))
            known[event.anchor] = None
            problem = f"nested more than {DEEPEST} levels deep" if len(containers) > DEEPEST else ""
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = containers.pop()
            known[anchor] = size
            _grow(containers, size)
        elif isinstance(event, yaml.AliasEvent):
            size_of_alias = known.get(event.anchor, 1)
            problem = f"*{event.anchor} contains itself" if size_of_alias is None else ""
            _grow(containers, size_of_alias or 1)
        elif isinstance(event, yaml.ScalarEvent):
            known[event.anchor] = 1
            _grow(containers, 1)
            problem = _problem_of(event, for_omegaconf)
        if containers[-1][1] > _MOST:
            problem = f"unfolds to more than {_MOST:,} values"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
    loader.dispose()


def _problem_of(scalar: yaml.ScalarEvent, for_omegaconf: bool) -> str:
    if scalar.tag is not None or not scalar.implicit[0]:  # in quotes, say
        return ""
    text = scalar.value
    quoted = f"write '{text}' in quotes if it is text"
    if _OCTAL.fullmatch(text):
        return f"{text} would be read to the base of 8; leave the 0 in front out, or {quoted}"
    if for_omegaconf and _SIXTIES.fullmatch(text):
        return f"{text} would be read to the base of 60; {quoted}"
    return ""


def _grow(containers: list[tuple[str | None, int]], size: int) -> None:
    anchor, before = containers[-1]
    containers[-1] = anchor, before + size


@contextmanager
def bounded_files() -> Iterator[None]:
    """Let OmegaConf load no file in this block that :func:`check_bounds` refuses.

    Hydra asks it for each file of a configuration, and has no place between the two.
    """
    load = OmegaConf.load

    def bounded(file: str | Path | TextIO) -> Any:
        if isinstance(file, str | Path):
            check_bounds(Path(file).read_text(encoding="utf-8"), str(file), for_omegaconf=True)
        else:
            begin = file.tell()
            check_bounds(file.read(), str(getattr(file, "name", "")), for_omegaconf=True)
            file.seek(begin)
        return load(file)

    OmegaConf.load = staticmethod(bounded)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        OmegaConf.load = staticmethod(load)  # type: ignore[method-assign]
