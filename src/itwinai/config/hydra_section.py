"""The section ``hydra`` of a configuration, by which Hydra itself would run code.

Hydra builds its callbacks, logging and plugins before a pipeline is built, sets environment
variables, and imports packages that hold more configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from itwinai.config.allowing import Gate, Mention, check_targets, targets_in
from itwinai.config.steps import refusal

#: What logging may be made of.
_OF_LOGGING = frozenset(
    [
        *("logging.FileHandler", "logging.Formatter", "logging.NullHandler"),
        *("logging.StreamHandler", "colorlog.ColoredFormatter"),
        *("ext://sys.stderr", "ext://sys.stdout"),
    ]
)
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
        check_targets(list(_mentions(cfg.hydra)), gate)
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


def _mentions(section: DictConfig) -> Iterator[Mention]:
    """Give what Hydra would build, and what its logging would import."""
    callbacks = {f"callbacks.{name}": part for name, part in (section.callbacks or {}).items()}
    built = {**callbacks, "launcher": section.launcher, "sweeper": section.sweeper}
    for key, part in built.items():
        # What has no value now has none when Hydra builds it, which is said then.
        with suppress(OmegaConfBaseException):
            yield from targets_in(part, f"hydra.{key}") if OmegaConf.is_dict(part) else ()
    for key in ("hydra_logging", "job_logging"):
        yield from _named_in(section[key], f"hydra.{key}")


def _named_in(logging: Any, path: str) -> Iterator[Mention]:
    for key in list(logging) if OmegaConf.is_dict(logging) else range(len(logging or ())):
        where = f"{path}.{key}"
        if OmegaConf.is_missing(logging, key):
            continue
        try:
            value = logging[key]
        except OmegaConfBaseException:  # Hydra knows it later
            _check_open(where, str(key), str(logging._get_node(key)._value()))
            continue
        if OmegaConf.is_config(value):
            yield from _named_in(value, where)
        elif value not in _OF_LOGGING and (key in _CLASSES or str(value).startswith("ext://")):
            yield Mention(where, str(value))


def _check_open(where: str, key: str, value: str) -> None:
    """Refuse what may turn out to name code, once it has a value."""
    if key in _CLASSES or "${hydra:" in value:
        raise refusal(where, f"{value}: this has no value before the run; write it out")
