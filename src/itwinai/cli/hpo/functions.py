"""``itwinai hpo run FILE.py:FUNCTION``: the study of a function as a pipeline of one step."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from itwinai.cli.kept import KeptPipeline
from itwinai.config.allowing import allowed_names
from itwinai.config.compose import DEFAULT_PIPE_KEY
from itwinai.config.reading import read_mapping
from itwinai.errors import ConfigurationError, did_you_mean, one_line

_ADDRESS = re.compile(r"(?P<file>.+\.py):(?P<name>[^\W\d]\w*)")

#: Sections of a file that holds more than a search space.
_SECTIONS = ("search_space", "config", "epochs", "study")

#: The step of the pipeline.
STEP = "trainer"


def is_function(arguments: Sequence[str]) -> bool:
    """Whether a command's arguments name a function, and not a pipeline."""
    return bool(arguments) and _ADDRESS.fullmatch(arguments[0]) is not None


def pipeline_of(
    arguments: Sequence[str], space: Path | None, settings: dict[str, Any], allow: Sequence[str]
) -> KeptPipeline:
    """Describe the study of a function, as a study's folder keeps it.

    Args:
        arguments: ``FILE.py:FUNCTION``, and values to use instead of the file's, such as
            ``study.num_samples=50``.
        space: A YAML file: a search space, or ``search_space`` with ``config``, ``epochs`` and
            ``study``.
        settings: Fields of the study that stand for themselves on the command line; None: not
            given. ``epochs`` is among them.
        allow: What the study may name, besides its own folder.

    Raises:
        ConfigurationError: If the file or the function is not there, or a key is unknown.
    """
    address, *overrides = arguments
    match = _ADDRESS.fullmatch(address)
    assert match is not None
    folder, target = _located(Path(match["file"]), match["name"])
    if space is None:
        raise ConfigurationError(f"{address}: say what is tuned, with --space FILE.yaml")
    step = _sections(space, overrides)
    given = {name: value for name, value in settings.items() if value is not None}
    if "epochs" in given:
        step["epochs"] = given.pop("epochs")
    step["study"] = {**(step.get("study") or {}), **given}
    step = {
        "_target_": "itwinai.hpo.FunctionTrainer",
        "function": {"_target_": target, "_partial_": True},
        **step,
    }
    pipeline = {"_target_": "itwinai.pipeline.Pipeline", "steps": {STEP: step}}
    config = OmegaConf.create({DEFAULT_PIPE_KEY: pipeline})
    assert isinstance(config, DictConfig)
    modules = (Path(os.path.relpath(folder)),)
    path = f"{DEFAULT_PIPE_KEY}.steps.{STEP}"
    return KeptPipeline(path, Path.cwd(), modules, config, allowed_names(allow))


def _sections(file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The sections of a file; all of it is the search space where it has none of that name."""
    content = read_mapping(file)
    whole = content if "search_space" in content else {"search_space": content}
    unknown = [key for key in whole if key not in _SECTIONS]
    if unknown:
        raise ConfigurationError(
            f"{file}: unknown key '{unknown[0]}'{did_you_mean(unknown[0], _SECTIONS) or '.'} "
            f"Beside search_space there may be {', '.join(_SECTIONS[1:])}."
        )
    try:
        config = OmegaConf.merge(OmegaConf.create(whole), OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        reason = one_line(str(error.msg).partition("\n")[0], 200)
        raise ConfigurationError(f"{file}: {error.full_key}: {reason}") from None
    result: Any = OmegaConf.to_container(config)
    unknown = [key for key in result if key not in _SECTIONS]
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]}: a value is set as study.KEY=VALUE, config.KEY=VALUE, epochs=VALUE or "
            "search_space.NAME.KEY=VALUE"
        )
    return dict(result)


def _located(file: Path, name: str) -> tuple[Path, str]:
    """The folder of a function's file, and its address once that folder is imported from."""
    folder, module = file.absolute().parent, file.stem
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such file")
    if not module.isidentifier():
        raise ConfigurationError(f"{file}: Python cannot import a file of this name; rename it")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        if "relative import" not in str(error) or not (folder / "__init__.py").exists():
            raise
        sys.path.remove(str(folder))
        folder, module = _in_package(folder, module)
        sys.path.insert(0, str(folder))
        found = importlib.import_module(module)
    if Path(str(found.__file__)).resolve() != file.resolve():
        raise ConfigurationError(
            f"{file}: Python has another module of this name, {found.__file__}; rename the file"
        )
    if not hasattr(found, name):
        known = [key for key, value in vars(found).items() if callable(value)]
        raise ConfigurationError(
            f"{file}: it has no function '{name}'{did_you_mean(name, known) or '.'}"
        )
    return folder, f"{module}.{name}"


def _in_package(folder: Path, module: str) -> tuple[Path, str]:
    """The folder that a module's package is imported from, and the module's whole name."""
    while (folder / "__init__.py").exists():
        folder, module = folder.parent, f"{folder.name}.{module}"
    return folder, module
