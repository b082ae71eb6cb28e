"""What is secret, and how it is kept out of files, messages and tracking services."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

#: Ends of names under which secrets stand. Not ``token`` alone: it is also a word of a text.
_SECRET = re.compile(
    r"(^|[_.-])(password|passwd|passphrase|secret|credentials?|(api|access|private|secret)_?key"
    r"|(access|api|auth|bearer|hub|hf|refresh|secret|session)_?token)$|^token$",
    re.IGNORECASE,
)
#: Of variables of the environment, where no word of a text stands.
_SECRET_VARIABLE = re.compile(
    r"TOKEN(?!IZER)|SECRET|PASS(W|PHRASE)|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY"
)
_ADDRESS = re.compile(r"(?<=://)[^\s/]*:[^\s/]*(?=@)")
_VARIABLE = re.compile(r"\$\{oc\.env:(\w+)\}")
#: Shorter ones would be found in words that have nothing to do with them.
_SHORTEST = 6
HIDDEN = "***"


def masked(text: str) -> str:
    """A text without the user and password of the addresses in it."""
    return _ADDRESS.sub(HIDDEN, text)


def without_user(address: str) -> str:
    """An address in which ``***`` stands for the user and password, however they are written."""
    parts = urlsplit(address)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{HIDDEN}@{host}").geturl() if at else address


def is_secret(name: str, value: Any) -> bool:
    """Whether a value's name, or the environment, tells that it is a secret, or holds one."""
    parts = value.items() if isinstance(value, Mapping) else ()
    within = any(is_secret(str(key), part) for key, part in parts)
    return within or _is_named_so(name, value) or unresolved(value) != value


def unresolved(value: Any) -> Any:
    """What may be stored: secrets of the environment stand there as ``${oc.env:NAME}``.

    :func:`resolved` and OmegaConf resolve them anew, from the environment of whoever reads them.
    """
    secrets = {
        text: f"${{oc.env:{name}}}"
        for name, text in os.environ.items()
        if _SECRET_VARIABLE.search(name.upper()) and len(text) >= _SHORTEST
    }
    return _with_strings(value, lambda text: _replaced(text, secrets)) if secrets else value


def resolved(value: Any) -> Any:
    """What :func:`unresolved` was given; a variable that is not set here stays as it stands."""
    return _with_strings(
        value, lambda text: _VARIABLE.sub(lambda found: os.environ.get(found[1], found[0]), text)
    )


def hidden(values: Mapping[str, Any]) -> dict[str, Any]:
    """What may be shown: without secrets, whether their name or the environment tells them."""
    return {
        name: HIDDEN if _is_named_so(name, value) else _hidden_value(value)
        for name, value in unresolved(dict(values)).items()
    }


def hidden_command(arguments: Sequence[str]) -> str:
    """A command as a shell takes it, without the secrets in it.

    Those of ``NAME=VALUE``, ``--name=VALUE`` and ``--name VALUE`` are known by their name, others
    by the environment.
    """
    shown, option = [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            name, value = option, argument
        kept = hidden({_named(name): value})[_named(name)]
        shown.append(f"{name}={kept}" if equals else str(kept))
        option = argument if argument.startswith("-") else ""
    return shlex.join(shown)


def _named(option: str) -> str:
    return option.lstrip("-+~").replace("-", "_")


def _is_named_so(name: str, value: Any) -> bool:
    return isinstance(value, str) and bool(_SECRET.search(name))


def _hidden_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return hidden({str(name): part for name, part in value.items()})
    return _with_strings(value, masked)


def _replaced(text: str, secrets: Mapping[str, str]) -> str:
    for secret, name in secrets.items():
        text = text.replace(secret, name)
    return text


def _with_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A value in which every string is changed; what is no plain container stays as it is."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _with_strings(part, change) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_with_strings(part, change) for part in value)
    return value
