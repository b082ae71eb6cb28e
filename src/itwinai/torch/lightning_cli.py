"""Lightning's command line, given a configuration: what it reads, and what it builds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from itwinai.errors import ConfigurationError, MissingPackageError


def built(
    config: Mapping[str, Any],
    callbacks: list[Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Any:
    """Build what a configuration describes; return a ``LightningCLI``.

    Args:
        config: With ``trainer``, ``model`` and maybe ``data``, and ``seed_everything``.
        callbacks: Of the trainer, besides those of the configuration.
        defaults: Of the trainer's other arguments.

    Raises:
        MissingPackageError: If Lightning or its command line's parser is not installed.
    """
    command_line, given = _command_line(config)
    with _silence():
        return command_line(
            **given, trainer_defaults={**(defaults or {}), "callbacks": callbacks or []}
        )


def parsed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read a configuration as Lightning would, with the defaults of all constructors.

    Raises:
        ConfigurationError: For what Lightning's command line refuses.
        MissingPackageError: As of :func:`built`.
    """
    command_line, given = _command_line({**config, "seed_everything": False})

    class Reading(command_line):  # type: ignore[misc, valid-type]
        def instantiate_classes(self) -> None:
            """Build nothing."""

    try:
        with _silence():
            found = Reading(**given, parser_kwargs={"exit_on_error": False})
    except Exception as error:
        raise ConfigurationError(f"config: Lightning's command line refuses it: {error}") from error
    content: dict[str, Any] = found.config.as_dict()
    return content


def keeping_model(name: str) -> Any:
    """A callback that gives the trained module to the loggers, before they are closed.

    Args:
        name: Name of the module there.

    Raises:
        MissingPackageError: As of :func:`built`.
    """
    from itwinai.torch.loggers import ItwinaiLogger

    class KeepModel(_lightning().Callback):  # type: ignore[misc]
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            for logger in trainer.loggers:
                if isinstance(logger, ItwinaiLogger):
                    logger.experiment.log(pl_module, name, kind="model")

    return KeepModel()


def _command_line(config: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The class, and its arguments for a configuration."""
    lightning = _lightning()
    given = {
        "model_class": lightning.LightningModule,
        "datamodule_class": lightning.LightningDataModule if "data" in config else None,
        "subclass_mode_model": True,
        "subclass_mode_data": True,
        "save_config_callback": None,
        "args": dict(config),
        "run": False,
    }
    return lightning.cli.LightningCLI, given


def _lightning() -> Any:
    try:
        import lightning.pytorch.cli
    except ImportError as error:
        raise MissingPackageError(
            f"TorchLightningTrainer needs lightning ({error}): pip install 'itwinai[lightning]'"
        ) from error
    return lightning.pytorch


@contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings():
        # Our own words on the command line are nothing that it reads.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        yield
