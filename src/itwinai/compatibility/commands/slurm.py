"""``itwinai generate-slurm`` and ``run``: jobs of configurations of itwinai 0.4."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from itwinai.errors import ConfigurationError

SECTION, PLUGINS = "slurm_config", "plugins"

Config = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="Keys as in itwinai 0.4.")
]
SubmitJob = Annotated[
    bool | None, typer.Option("--submit-job/--no-submit-job", "-j", help="Submit the script.")
]
SaveScript = Annotated[
    bool | None, typer.Option("--save-script/--no-save-script", "-s", help="Save it in save_dir.")
]


def generate_slurm(
    config: Config, submit_job: SubmitJob = None, save_script: SaveScript = None
) -> None:
    """Make the script of a job from a configuration of itwinai 0.4; see 'itwinai slurm'."""
    from itwinai.compatibility.slurm.script_builder import generate_default_slurm_script
    from itwinai.config.reading import read_mapping

    content = read_mapping(config)
    generate_default_slurm_script(_checked(content, config, submit_job, save_script))


def run(config: Config, submit_job: SubmitJob = None, save_script: SaveScript = None) -> None:
    """Install a configuration's 'plugins' with pip, then make the job of its 'slurm_config'."""
    from itwinai.compatibility.slurm.script_builder import generate_default_slurm_script
    from itwinai.config.reading import read_mapping

    content = read_mapping(config)
    job = _checked(_section(content, config), config, submit_job, save_script)
    _install(_plugins(content, config))
    generate_default_slurm_script(job)


def _checked(
    content: Mapping[str, Any], config: Path, submit_job: bool | None, save_script: bool | None
) -> Any:
    from itwinai.compatibility.slurm.configuration import MLSlurmBuilderConfig
    from itwinai.config.reading import validate_file

    flags = {"submit_job": submit_job, "save_script": save_script}
    given = {key: value for key, value in flags.items() if value is not None}
    return validate_file(MLSlurmBuilderConfig, {**content, **given}, config)


def _section(content: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """Return the job's section, whose values may name others of the file, as in ``${run_name}``."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from itwinai.config.compose import register_resolvers

    if not isinstance(content.get(SECTION), Mapping):
        raise ConfigurationError(
            f"{config}: {SECTION}: this section is required, with the keys of a job. "
            "'itwinai generate-slurm' reads a file that has them at its top."
        )
    register_resolvers()
    try:
        section = OmegaConf.create(dict(content))[SECTION]
        return cast(dict[str, Any], OmegaConf.to_container(section, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"{config}: {SECTION}: {error}") from error


def _plugins(content: Mapping[str, Any], config: Path) -> list[str]:
    plugins = content.get(PLUGINS) or []
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        raise ConfigurationError(
            f"{config}: {PLUGINS}={plugins!r}: must be a list of what pip installs, as in "
            f"'{PLUGINS}: [my-package==1.2]'."
        )
    return plugins


def _install(plugins: list[str]) -> None:
    if not plugins:
        return
    done = subprocess.run([sys.executable, "-m", "pip", "install", *plugins], check=False)
    if done.returncode != 0:
        raise ConfigurationError(
            f"{PLUGINS}: pip could not install {', '.join(plugins)}; its reason is above. No job "
            "was made."
        )
