"""The section ``hydra`` of a configuration, by which Hydra itself would run code.

Hydra builds its callbacks, logging and plugins before a pipeline is built, sets environment
variables, and imports packages that hold more configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from itwinai.config.allowing import Gate, Mention, check_targets
from itwinai.config.steps import refusal

#: What logging may be made of.
_OF_LOGGING = frozenset(
    [
        *("logging.FileHandler", "logging.Formatter", "logging.NullHandler"),
        *("logging.StreamHandler", "colorlog.ColoredFormatter"),
        *("ext://sys.stderr", "ext://sys.stdout"),
    ]
)
_LOGGING = ("hydra.hydra_logging", "hydra.job_logging")
#: Keys of it that name what is imported.
_CLASSES = ("class", "()")

_PACKAGE = "pkg://"
_VARIABLES = "hydra.job.env_set"


@contextmanager
def checked_section(names: tuple[str, ...]) -> Iterator[None]:
    """Let Hydra compose nothing in this block whose section ``hydra`` names what it may not name.

    Args:
        names: What the user allows.
    """
    compose: Callable[..., DictConfig] = ConfigLoaderImpl.load_configuration

    def checked(self: Any, config_name: str | None, *args: Any, **options: Any) -> DictConfig:
        folders = [Path(s.path) for s in self.get_sources() if s.provider == "main"]
        gate = Gate(names, (Path.cwd(), *folders))
        loaded = self.repository.load_config(config_path=config_name) if config_name else None
        if loaded is not None and OmegaConf.is_dict(loaded.config):
            _check_packages(OmegaConf.select(loaded.config, "hydra.searchpath"), gate)
        cfg = compose(self, config_name, *args, **options)
        _check_variables(cfg.hydra, gate)
        check_targets(_named_in(cfg.hydra, "hydra"), gate)
        return cfg

    # Hydra has no other place between its composition and its use of it.
    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]


def _check_packages(searched: Any, gate: Gate) -> None:
    for path in searched if OmegaConf.is_list(searched) else ():
        package = str(path).removeprefix(_PACKAGE).replace("/", ".")
        if str(path).startswith(_PACKAGE) and not gate.may_name(package):
            raise refusal(
                "hydra.searchpath",
                f"{path}: a configuration may not have a package imported; if you trust it, add "
                f"--allow {package}",
            )


def _check_variables(section: DictConfig, gate: Gate) -> None:
    """Refuse variables: by some of them, programs that are started later load code."""
    if section.job.env_set and not gate.may_name(_VARIABLES):
        raise refusal(
            _VARIABLES,
            "a configuration may not set environment variables; if you trust it, add --allow "
            f"{_VARIABLES}, or set them in your shell",
        )


def _named_in(node: Any, path: str) -> list[Mention]:
    """Key and value of whatever names code in Hydra's section."""
    found = []
    for key in list(node) if OmegaConf.is_dict(node) else range(len(node)):
        where = f"{path}.{key}"
        if OmegaConf.is_missing(node, key):
            continue
        try:
            value = node[key]
        except OmegaConfBaseException:  # Hydra knows it later
            _check_open(where, str(key), str(node._get_node(key)._value()))
            continue
        if OmegaConf.is_config(value):
            found += _named_in(value, where)
        elif isinstance(value, str) and _names_code(where, str(key), value):
            found.append(Mention(where, value))
    return found


def _check_open(where: str, key: str, value: str) -> None:
    """Refuse what may turn out to name code, once it has a value."""
    is_read = where.startswith((*_LOGGING, "hydra.callbacks"))
    if key == "_target_" or (is_read and (key in _CLASSES or "${hydra:" in value)):
        raise refusal(where, f"{value}: this has no value before the run; write it out")


def _names_code(where: str, key: str, value: str) -> bool:
    is_class = key in _CLASSES or value.startswith("ext://")
    of_logging = where.startswith(_LOGGING) and is_class and value not in _OF_LOGGING
    return key == "_target_" or of_logging
