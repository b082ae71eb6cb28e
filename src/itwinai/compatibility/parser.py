"""A command line parser that also reads a configuration file; needs ``jsonargparse``."""

from __future__ import annotations

import importlib
from typing import Any

from itwinai.errors import MissingPackageError


def _jsonargparse() -> Any:
    # By name: the package is optional, and nothing else here needs it.
    try:
        return importlib.import_module("jsonargparse")
    except ImportError as error:
        raise MissingPackageError(
            f"itwinai.parser needs jsonargparse ({error}): pip install jsonargparse"
        ) from error


class ArgumentParser(_jsonargparse().ArgumentParser):  # type: ignore[misc]
    """``jsonargparse.ArgumentParser`` with an option ``-c``, ``--config`` for a YAML file.

    Args:
        args: As of ``jsonargparse.ArgumentParser``.
        kwargs: As of ``jsonargparse.ArgumentParser``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument(
            "-c",
            "--config",
            action=_jsonargparse().ActionConfigFile,
            help="A file with values for the other options.",
        )
