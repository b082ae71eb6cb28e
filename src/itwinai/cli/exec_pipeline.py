"""``itwinai exec-pipeline``: Hydra composes the configuration, the pipeline runs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from itwinai.cli.exits import clean_exit
from itwinai.errors import ConfigurationError
from itwinai.utils import (
    add_to_sys_path,
    make_config_paths_absolute,
    retrieve_remote_file,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

_SHORTHANDS = {"--strategy": "strategy", "--run-name": "run_name"}
#: Those whose value is a text, whatever it looks like.
_TEXTS = ("--run-name",)
_ALLOW = "--allow"
_CONFIG_NAME = ("--config-name", "-cn")
_OPTIONS_WITH_VALUE = {
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
}


@clean_exit()
def exec_pipeline(allow: Iterable[str] = ()) -> None:
    """Run a pipeline with the arguments in ``sys.argv``, as the command does.

    Args:
        allow: Packages and addresses that the configuration may name, as of ``--allow``.
    """
    args = sys.argv[1:]
    run_pipeline(args[1:] if args[:1] == ["exec-pipeline"] else args, allow)


def exec_pipeline_with_compose(cfg: DictConfig, allow: Iterable[str] = ()) -> None:
    """Run the pipeline of a configuration that is already composed.

    Args:
        cfg: The configuration.
        allow: Packages and addresses that it may name, as of ``--allow``.

    Raises:
        ItwinaiError: If the configuration cannot work.
    """
    from itwinai.cli.kept import execute
    from itwinai.config.allowing import allowed_names

    execute(cfg, allowed_names(allow))


def run_pipeline(args: Sequence[str], allow: Iterable[str] = ()) -> list[Any]:
    """Run a pipeline with these command line arguments; all of them are Hydra's, but three.

    Args:
        args: The arguments.
        allow: What the configuration may name, besides what ``--allow`` says.

    Returns:
        The pipelines that ran: one, or those of a multirun; none if Hydra was asked to show.

    Raises:
        ConfigurationError: If no configuration can be composed.
    """

    def run(cfg: DictConfig, allowed: tuple[str, ...]) -> Any:
        from itwinai.cli.kept import execute
        from itwinai.cli.retrain import retrain_hints

        pipeline = execute(cfg, allowed)
        for hint in retrain_hints(cfg, _arguments_of_this_job(args), pipeline):
            typer.echo(hint)
        return pipeline

    return with_configurations(args, run, allow)


def with_configurations(
    args: Sequence[str],
    work: Callable[[DictConfig, tuple[str, ...]], Any],
    allow: Iterable[str] = (),
) -> list[Any]:
    """Compose the configurations that these arguments of Hydra describe, and work with each.

    Args:
        args: The arguments.
        work: Takes a composed configuration, and what it may name.
        allow: What the configuration may name, besides what ``--allow`` says.

    Returns:
        What the work has returned: once, or once for each job of a multirun.

    Raises:
        ConfigurationError: If no configuration can be composed.
    """
    import hydra
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from itwinai.config.allowing import allowed_names
    from itwinai.config.bounds import bounded_files
    from itwinai.config.compose import register_resolvers
    from itwinai.config.explaining import not_composed
    from itwinai.config.hydra_section import checked_section

    given, hydras = split_allowed(args)
    # Before Hydra, whose configuration can set environment variables.
    allowed = allowed_names([*allow, *given])
    composed = []
    done: list[Any] = []

    @clean_exit()
    def task(cfg: DictConfig) -> None:
        composed.append(cfg)
        done.append(work(cfg, allowed))

    options, overrides = split_arguments(hydras)
    here = add_to_sys_path(os.getcwd())
    register_resolvers()
    _quieten_hydra()
    try:
        with (
            _web_page_as_file(make_config_paths_absolute(options)) as local,
            _hydra_reads([*local, *overrides]),
            checked_section(allowed),
            bounded_files(),
        ):
            hydra.main(version_base="1.3", config_path=here, config_name="config")(task)()
    except (hydra.errors.HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        # What a running pipeline raises is not about its composition.
        if composed:
            raise
        raise not_composed(error) from error
    return done


def split_arguments(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part options from overrides: Hydra's parser wants all overrides in one piece.

    Returns:
        Hydra's options, and the overrides, to which our own options have been turned.
    """
    options: list[str] = []
    overrides: list[str] = []
    remaining = iter(args)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag in _SHORTHANDS:
            value = value if equals else next(remaining, "")
            if not value:
                raise ConfigurationError(f"{flag}: give a value, as in {flag}=VALUE.")
            value = _as_text(value) if flag in _TEXTS else value
            overrides.append(f"++{_SHORTHANDS[flag]}={value}")
        elif argument.startswith("-"):
            options += [argument, *islice(remaining, int(argument in _OPTIONS_WITH_VALUE))]
        else:
            overrides.append(argument)
    return options, overrides


def _as_text(value: str) -> str:
    """Quote a text for Hydra, which would take 2026_11_30 for a number and a,b for two values."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(value, Quote.single).with_quotes()


def split_allowed(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names after ``--allow``, and the other arguments."""
    names: list[str] = []
    others: list[str] = []
    remaining = iter(args)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag == _ALLOW:
            names.append(value if equals else next(remaining, ""))
        else:
            others.append(argument)
    return names, others


@contextmanager
def _web_page_as_file(options: Sequence[str]) -> Iterator[list[str]]:
    """Give the options with a configuration that is on the web as a file of this machine."""
    for position, option in enumerate(options):
        flag, equals, value = option.partition("=")
        value = value if equals else next(iter(options[position + 1 :]), "")
        if flag in _CONFIG_NAME and value.startswith(("http://", "https://")):
            rest = [*options[:position], *options[position + (1 if equals else 2) :]]
            with tempfile.TemporaryDirectory(prefix="itwinai-") as folder:
                text = retrieve_remote_file(value)
                Path(folder, "config.yaml").write_text(text, encoding="utf-8")
                yield [*rest, f"--config-path={folder}", "--config-name=config"]
            return
    yield list(options)


def _arguments_of_this_job(args: Sequence[str]) -> list[str]:
    """Return the arguments that run this job alone, also when it is one of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return list(args)
    names, others = split_allowed(args)
    options = [o for o in split_arguments(others)[0] if o not in ("-m", "--multirun")]
    return [*(f"{_ALLOW}={name}" for name in names), *options, *HydraConfig.get().overrides.task]


def _quieten_hydra() -> None:
    """By default Hydra shall write no files and leave logging alone; the user may ask for both."""
    from hydra.conf import HydraConf, RunDir
    from hydra.core.config_store import ConfigStore

    conf = HydraConf(output_subdir=None, run=RunDir(dir="."))
    quiet = {"hydra_logging": "none", "job_logging": "none"}
    conf.defaults = [
        {key: quiet.get(key, value) for key, value in entry.items()} for entry in conf.defaults
    ]
    ConfigStore.instance().store(group="hydra", name="config", node=conf, provider="itwinai")


@contextmanager
def _hydra_reads(args: Sequence[str]) -> Iterator[None]:
    ours = sys.argv
    sys.argv = ["itwinai exec-pipeline", *args]
    # Hydra then hands its errors to us, instead of printing them and ending the process.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = ours
