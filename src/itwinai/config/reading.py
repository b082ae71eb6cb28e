"""From a YAML file and ``key=value`` overrides to plain data."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from itwinai.config.bounds import check_bounds
from itwinai.config.model import Model, validate
from itwinai.errors import ConfigurationError
from itwinai.utils import yaml_problem

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path has lost the second slash


class _Loader(yaml.SafeLoader):
    """Safe YAML: no key stands twice, ``12:00:00`` is not 43200, and ``1e-3`` is a number.

    A date is text, as it is to OmegaConf.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # a tag may promise one
        for key, _ in pairs:
            if str(key.value) in seen:
                problem = f"the key '{key.value}' stands here twice; keep one of them"
                raise ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        """Read a whole number, which in YAML 1.1 may have a base of 60."""
        return node.value if ":" in node.value else super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        """Read a number, which may have that base, too."""
        return node.value if ":" in node.value else super().construct_yaml_float(node)

    def construct_date(self, node: yaml.ScalarNode) -> str:
        """Read a date as it is written."""
        return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_date)
# In YAML 1.1 a number with an exponent needs a point and a sign, too; nobody writes it so.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


class _Written:
    """A number that shows itself as it was written."""

    text: str

    def __repr__(self) -> str:
        return self.text


class _WrittenInt(_Written, int):
    """A whole one."""


class _WrittenFloat(_Written, float):
    """Any other."""


class _TextLoader(_Loader):
    """The same, whose numbers show themselves as they were written."""

    def construct_written(self, node: yaml.ScalarNode) -> Any:
        """Read a number."""
        number = _Loader.yaml_constructors[node.tag](self, node)
        if not isinstance(number, int | float):
            return number
        kept = _WrittenInt(number) if isinstance(number, int) else _WrittenFloat(number)
        kept.text = node.value
        return kept


for _tag in ("int", "float"):
    _TextLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _TextLoader.construct_written)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read keys and values from a YAML file.

    Args:
        path: A file on this machine.

    Raises:
        ConfigurationError: If the file cannot be read or holds no keys.
    """
    return _read(path, _Loader)


def read_as_written(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read keys and values as :func:`read_mapping` does, for a model that takes numbers as text.

    ``str()`` of a number is what was written: of 3.10 it is not ``3.1``.

    Args:
        path: A file on this machine.
        overrides: As in ``["nodes=4", "environment.OMP_NUM_THREADS=8"]``; values are YAML.

    Raises:
        ConfigurationError: If the file cannot be read or holds no keys, or an override is none.
    """
    content = _read(path, _TextLoader)
    for override in overrides:
        _override(content, override)
    return content


def _read(path: str | Path, loader: type[_Loader]) -> dict[str, Any]:
    if _URL.match(str(path)):
        raise ConfigurationError(
            f"{path}: only files on this machine are read, because whoever serves or redirects a "
            "URL could run programs as you. Download it, read it, and name the copy."
        )
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path}: cannot be read: {reason}") from error
    content = _parse(text, str(path), loader)
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected keys and values, as in 'nodes: 2'.")
    return content


def validate_file(model: type[Model], content: Mapping[str, Any], path: str | Path) -> Model:
    """Build ``model`` from what a file holds.

    Raises:
        ConfigurationError: If a key is unknown, missing or holds a wrong value; each line of the
            message names the file and the key.
    """
    try:
        return validate(model, content, where="_")
    except ConfigurationError as error:
        lines = [
            re.sub(r"^_(\.|: )", lambda _: f"{path}: ", line) for line in str(error).splitlines()
        ]
        raise ConfigurationError("\n".join(lines)) from None


def _parse(text: str, name: str, loader: type[_Loader]) -> Any:
    try:
        check_bounds(text, name)
        reader = loader(text)
        reader.name = name  # what messages call it
        return reader.get_single_data()
    except yaml.YAMLError as error:
        problem = " ".join(yaml_problem(error).split())
        raise ConfigurationError(problem if name in problem else f"{name}: {problem}") from error


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigurationError(f"{override}: write what to change as key=value, e.g. nodes=4")
    *parents, last = key.split(".")
    for parent in parents:
        inner = content.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigurationError(f"{override}: '{parent}' is a single value and has no keys")
        content = inner
    content[last] = _parse(text, override, _TextLoader)
