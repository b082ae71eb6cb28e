"""What a ``_target_`` names: which part of it is not there, and which arguments it takes."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Collection
from importlib import import_module
from typing import Any

from itwinai.config.steps import SPECIAL_KEYS
from itwinai.errors import did_you_mean
from itwinai.frames import own_frames
from itwinai.utils import accepted_arguments

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"missing \d+ required .*arguments?: (.+)")


def is_missing(target: str, cause: BaseException) -> bool:
    """Tell whether a target is not there; otherwise what it needs failed while it was loaded."""
    if isinstance(cause, ModuleNotFoundError):
        return f"{target}.".startswith(f"{cause.name}.")
    return isinstance(cause, AttributeError | ImportError) and not own_frames(cause)


def located(target: str) -> Any:
    """Import what a target names, as Hydra does.

    Raises:
        Exception: Whatever the import raises.
    """
    found: Any = None
    parts = target.split(".")
    for end, part in enumerate(parts, start=1):
        found = _inner(found, part, ".".join(parts[:end]))
    return found


def what_is_missing(target: str) -> str:
    """Say which part of a target's dotted name does not exist; nothing if all of it does."""
    if "." not in target:
        return "write the module, too, as in 'module.Class'"
    found: Any = None
    parts = target.split(".")
    for end, part in enumerate(parts, start=1):
        try:
            found = _inner(found, part, ".".join(parts[:end]))
        except ImportError:
            if found is None:
                return f"there is no module '{part}'{did_you_mean(part, _own_modules())}"
            near = did_you_mean(part, _names_in(found))
            return f"'{'.'.join(parts[: end - 1])}' has no '{part}'{near}"
    return ""


def wrong_argument(target: str, given: Collection[str], message: str) -> tuple[str, str]:
    """Find the argument that made a call fail.

    Args:
        target: What was called.
        given: Keys of its configuration.
        message: Of the TypeError that the call ended with.

    Returns:
        The argument and what to say of it; both empty if the error is about something else.
    """
    unexpected, missing = _UNEXPECTED.search(message), _MISSING.search(message)
    if unexpected and unexpected[1] in given:
        return unexpected[1], _no_argument(target, unexpected[1])
    lacking = re.findall(r"'(\w+)'", missing[1]) if missing else []
    known = accepted_arguments(located(target)) if lacking else []
    if not lacking or not set(lacking) <= set(known) - set(given):
        return "", ""
    strangers = [name for name in given if name not in (*known, *SPECIAL_KEYS)]
    meant = [name for name in strangers if did_you_mean(name, lacking)]
    if meant:
        return meant[0], _no_argument(target, meant[0])
    return lacking[0], (
        f"{target} requires {_listed(lacking)}; give it here, or _partial_: true where it is "
        "built later"
    )


def _no_argument(target: str, name: str) -> str:
    known = accepted_arguments(located(target))
    hint = did_you_mean(name, [*known, *SPECIAL_KEYS]) or f"; it has: {_listed(known)}"
    return f"{target} has no argument '{name}'{hint}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _inner(outer: Any, name: str, path: str) -> Any:
    return getattr(outer, name) if hasattr(outer, name) else import_module(path)


def _names_in(found: Any) -> set[str]:
    modules = [module.name for module in pkgutil.iter_modules(getattr(found, "__path__", []))]
    return {*dir(found), *getattr(found, "__all__", []), *modules}


def _own_modules() -> list[str]:
    """Modules beside the user's program, and those that configurations name most."""
    folders = [path for path in sys.path if not path.startswith((sys.prefix, sys.base_prefix))]
    return ["itwinai", "torch", *(module.name for module in pkgutil.iter_modules(folders))]
