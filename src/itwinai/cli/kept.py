"""The pipeline that a study keeps in its folder, so that later commands need only the folder."""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, UnsupportedValueType
from yaml import YAMLError

import itwinai
from itwinai.config.allowing import folder_of_program
from itwinai.config.bounds import bounded_files
from itwinai.config.compose import build_pipeline, pipe_key, step_keys, step_paths
from itwinai.config.reading import read_mapping
from itwinai.config.steps import place, refusal
from itwinai.config.values import shown
from itwinai.errors import ConfigurationError, add_note, did_you_mean
from itwinai.hpo.errors import StudyError, StudyInterrupted
from itwinai.hpo.record import PIPELINE_FILE, pipeline_of

#: What makes a trainer run a study; without these keys it trains once.
STUDY_KEYS = (
    *("search_space", "study"),
    *("ray_search_space", "ray_tune_config", "ray_scaling_config", "ray_run_config"),
)

#: Keys of a step that change no trial.
_NOT_OF_A_TRIAL = (*STUDY_KEYS, "name", "logger", "run_name", "checkpoints_location")

_HEADER = """\
# How this study was started. 'itwinai hpo' resumes, extends, repeats and exports it with this.
"""

#: Interpolations that have another value, or none, in another run.
_OF_ONE_RUN = ("${hydra:", "${now:")


@dataclass(frozen=True)
class KeptPipeline:
    """A pipeline with a step that runs a study.

    Attributes:
        step: Dotted path of that step in the configuration.
        directory: Working directory of the run.
        modules: Folders that Python imported from, besides its own.
        config: The composed configuration, with its interpolations.
        allow: What the configuration may name, as the user said.
        arguments: Hyper-parameters that are arguments of the step's class.
        places: Where in the step's ``config`` tuned names lie that are no keys of it; and where
            its seed does, as ``random_seed``, if it is no argument.
    """

    step: str
    directory: Path
    modules: tuple[Path, ...]
    config: DictConfig
    allow: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Path) -> KeptPipeline:
        """Read what a study's folder keeps.

        Raises:
            StudyError: If there is nothing, or it is damaged.
        """
        path = pipeline_of(study)
        try:
            with bounded_files():
                kept = OmegaConf.to_container(OmegaConf.load(path))
            assert isinstance(kept, dict)
            return cls(
                kept["step"],
                Path(kept["directory"]),
                tuple(map(Path, kept["modules"])),
                DictConfig(kept["config"]),
                tuple(kept.get("allow", ())),
                tuple(kept.get("arguments", ())),
                dict(kept.get("places", {})),
            )
        except (
            *(YAMLError, OmegaConfBaseException, AssertionError),
            *(LookupError, TypeError, ValueError, AttributeError),
        ) as error:
            raise StudyError(
                f"{path}: not a pipeline that itwinai kept ({shown(error)}). Restore it from a "
                "copy, or go on from the program that started the study."
            ) from error

    def text(self) -> str:
        """Write it as :meth:`read` reads it."""
        facts = {
            "step": self.step,
            "directory": str(self.directory),
            "modules": [str(path) for path in self.modules],
            **({"allow": list(self.allow)} if self.allow else {}),
            **({"arguments": list(self.arguments)} if self.arguments else {}),
            **({"places": dict(self.places)} if self.places else {}),
            "config": OmegaConf.to_container(_for_other_runs(self.config)),
        }
        return _HEADER + OmegaConf.to_yaml(OmegaConf.create(facts))

    @property
    def study(self) -> Mapping[str, Any]:
        """The step's ``study`` section."""
        return self._section("study")

    def resuming(self, directory: Path) -> KeptPipeline:
        """Return it so that it goes on with its studies, the step's own one in a given folder.

        Raises:
            StudyError: If the study is described by ``ray_*`` arguments.
        """
        if OmegaConf.select(self.config, f"{self.step}.ray_search_space") is not None:
            raise StudyError(
                f"{self.step}: this study is described by ray_* arguments, which do not say how "
                "to go on with it. Describe it with search_space and study (the same metric, mode "
                "and space), and run that with study.resume=true."
            )
        place = {"name": directory.name, "storage_path": str(directory.parent)}
        return self.going_on().with_study({"resume": True, **place})

    def going_on(self) -> KeptPipeline:
        """Return it so that all its studies go on, those of other steps included."""
        changed = self
        for path in studies_in(self.config):
            changed = replace(changed, step=path).with_study({"resume": True})
        return replace(changed, step=self.step)

    def of_step(self, path: str, step: Any) -> KeptPipeline:
        """Return it for another one of its steps, which has been built."""
        return replace(self, step=path, arguments=_searched_arguments(step), places=places_of(step))

    def place_of(self, name: str) -> str:
        """Where a hyper-parameter lies below its step."""
        own = self.arguments, OmegaConf.select(self.config, self.step)
        if name not in self.places and any(name in keys for keys in own):
            return name
        return f"config.{self.places.get(name, name)}"

    def with_study(self, changes: Mapping[str, Any]) -> KeptPipeline:
        """Return it with some keys of the ``study`` section changed."""
        return self._with("study", {**self._section("study"), **changes})

    def with_overrides(self, overrides: list[str]) -> KeptPipeline:
        """Return it with values like ``search_space.optim_lr.upper=1`` set.

        Raises:
            StudyError: If one of them is about anything but the study and its space.
        """
        changed = self
        for override in overrides:
            key, equals, text = override.partition("=")
            section, _, rest = key.partition(".")
            if not equals or section not in ("search_space", "study") or not rest:
                raise StudyError(
                    f"{override}: a study can be extended by search_space.NAME.KEY=VALUE and "
                    "study.KEY=VALUE; anything else would make it another study."
                )
            # OmegaConf reads the value, as it does in the YAML file: 1e-3 is a number.
            value = _plain(OmegaConf.from_dotlist([f"value={text}"]))["value"]
            content = changed._section(section)
            _set(content, rest, value, where=section)
            changed = changed._with(section, content)
        return changed

    def without_study(self, params: Mapping[str, Any], seed: int | None) -> DictConfig:
        """Return the configuration of a plain training with a trial's hyper-parameters."""
        config = copy.deepcopy(self.config)
        step = OmegaConf.select(config, self.step)
        shared = OmegaConf.is_interpolation(step, "config")
        given = step.get("config")
        content = read_mapping(given) if isinstance(given, str) else _plain(given, resolve=shared)
        for name, value in params.items():
            place = self.place_of(name)
            if place == name:
                step[name] = value
            else:
                _set(content, place.removeprefix("config."), value)
        if seed is not None and "random_seed" in self.places:
            content.setdefault(self.places["random_seed"], seed)
        elif seed is not None and step.get("random_seed") is None:
            step.random_seed = seed
        step.config = content
        for key in STUDY_KEYS:
            step.pop(key, None)
        return config

    def build_steps(self) -> list[Any]:
        """Build the steps of the pipeline up to the one that runs the study."""
        config = copy.deepcopy(self.config)
        OmegaConf.set_struct(config, False)
        names = step_keys(config)
        last = step_paths(config).index(self.step)
        config.pipe_steps = names[: last + 1]
        return list(self._built(config).steps)

    def allowing(self, names: Iterable[str]) -> KeptPipeline:
        """Return it with more that its configuration may name."""
        return replace(self, allow=tuple(dict.fromkeys([*self.allow, *names])))

    @contextmanager
    def in_place(self) -> Iterator[KeptPipeline]:
        """Work where the study was started, or here if that is gone, and import from there."""
        here, path = Path.cwd(), list(sys.path)
        kept = self
        if not self.directory.is_dir():
            itwinai.logger.warning(
                "warning: %s, where the study was started, is gone; this runs in %s instead.",
                *(self.directory, here),
            )
            kept = replace(self, directory=here)
        os.chdir(kept.directory)
        sys.path += [str(kept.directory / module) for module in kept.modules]
        try:
            yield kept
        finally:
            os.chdir(here)
            sys.path[:] = path

    def run(self) -> Any:
        """Build the whole pipeline and run it; each of its studies keeps it.

        Returns:
            The pipeline.
        """
        pipeline = self._built(self.config)
        steps = steps_by_path(self.config, pipeline)
        _check_apart(steps)
        try:
            for path, step in steps.items():
                if hasattr(step, "study_pipeline"):
                    kept = self.of_step(path, step)
                    kept._tell_changes(step)
                    step.study_pipeline = kept._text_or_none()
            pipeline.execute()
        except StudyInterrupted:
            raise
        except Exception as error:
            running = getattr(pipeline, "running", None)
            paths = [path for path, step in steps.items() if step is running]
            add_note(error, place(*paths or [pipe_key(self.config)]))
            raise
        return pipeline

    def _built(self, config: DictConfig) -> Any:
        folders = [self.directory / module for module in self.modules]
        return build_pipeline(config, self.allow, [*folders, *folder_of_program()])

    def _text_or_none(self) -> str | None:
        try:
            return self.text()
        except UnsupportedValueType:
            itwinai.logger.warning(
                "warning: the configuration holds objects that YAML cannot write, so no %s is "
                "kept with the study, and 'itwinai hpo resume' will not work.",
                PIPELINE_FILE,
            )
            return None

    def _tell_changes(self, step: Any) -> None:
        """Say what trains a study's trials otherwise than those that it has already."""
        if getattr(step, "search_space", None) is None:
            return
        with suppress(StudyError, OmegaConfBaseException, ValueError):  # told where it matters
            before = KeptPipeline.read(step.study.directory)._training()
            now = self._training()
            tuned = {f"{self.step}.{self.place_of(name)}" for name in step.search_space}
            keys = [key for key in {**before, **now} if key not in tuned]
            changed = [key for key in keys if before.get(key) != now.get(key)]
            if changed:
                itwinai.logger.warning(
                    "warning: study %r has trials that were trained otherwise: since then %s has "
                    "changed. They do not compare with new ones. Restore what was there, or give "
                    "the study another name.",
                    *(step.study.name, ", ".join(changed)),
                )

    def _training(self) -> dict[str, Any]:
        """What all trials have alike: the values of the steps up to the study's, by their keys."""
        paths = step_paths(self.config)
        found: dict[str, Any] = {}
        for path in paths[: paths.index(self.step) + 1]:
            content = _plain(OmegaConf.select(self.config, path), resolve=True)
            rest = {key: value for key, value in content.items() if key not in _NOT_OF_A_TRIAL}
            found |= _flat(rest, path)
        return found

    def _section(self, name: str) -> dict[str, Any]:
        return _plain(OmegaConf.select(self.config, f"{self.step}.{name}"), resolve=True)

    def _with(self, section: str, content: Mapping[str, Any]) -> KeptPipeline:
        config = copy.deepcopy(self.config)
        OmegaConf.select(config, self.step)[section] = dict(content)
        return replace(self, config=config)


def execute(cfg: DictConfig, allow: tuple[str, ...] = ()) -> Any:
    """Run the pipeline of a composed configuration in this folder; return the pipeline."""
    return KeptPipeline("", Path.cwd(), _modules(), cfg, allow).run()


def up_to_study(cfg: DictConfig, allow: tuple[str, ...] = ()) -> list[Any]:
    """Build the steps of a composed configuration up to the first one that runs a study.

    Raises:
        ConfigurationError: If none does.
    """
    paths = studies_in(cfg)
    if not paths:
        raise ConfigurationError(
            f"{pipe_key(cfg)}: no step has a search_space, so there is no study to plan. Give its "
            "trainer one; a study that is described by ray_* arguments cannot be planned."
        )
    return KeptPipeline(paths[0], Path.cwd(), _modules(), cfg, allow).build_steps()


def studies_in(cfg: DictConfig) -> list[str]:
    """The paths of the selected steps that run a study with a ``search_space``."""
    return [p for p in step_paths(cfg) if OmegaConf.select(cfg, f"{p}.search_space") is not None]


def steps_by_path(cfg: DictConfig, pipeline: Any) -> dict[str, Any]:
    """Return the steps of a pipeline that was built, by their paths in its configuration."""
    steps = pipeline.steps.values() if isinstance(pipeline.steps, Mapping) else pipeline.steps
    return dict(zip(step_paths(cfg), steps, strict=True))


def _check_apart(steps: Mapping[str, Any]) -> None:
    """Refuse two studies of a pipeline that have one folder.

    Raises:
        ConfigurationError: For the second of them.
    """
    known: dict[Path, str] = {}
    for path, step in steps.items():
        if getattr(step, "search_space", None) is None or not hasattr(step, "study_pipeline"):
            continue
        folder = step.study.directory.absolute()
        if folder in known:
            raise refusal(
                f"{path}.study.name",
                f"study {step.study.name!r}: {known[folder]} has a study of this name in the same "
                "folder; give this one another study.name",
            )
        known[folder] = path


def places_of(step: Any) -> Mapping[str, str]:
    """Where in a step's ``config`` tuned names lie, and its seed, if they are no keys of it."""
    places: Mapping[str, str] = getattr(step, "study_places", {})
    return places


def _searched_arguments(trainer: Any) -> tuple[str, ...]:
    """The hyper-parameters of a trainer that are arguments of its class, not of its ``config``."""
    spaces = (getattr(trainer, key, None) for key in ("search_space", "ray_search_space"))
    searched = {name for space in spaces for name in space or ()}
    return tuple(name for name in inspect.signature(type(trainer)).parameters if name in searched)


def _modules() -> tuple[Path, ...]:
    """Folders below or beside the working directory that the run imports from."""
    from hydra.core.hydra_config import HydraConfig

    folders = [Path.cwd()]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        folders += [Path(s.path) for s in sources if s.provider == "main" and s.schema == "file"]
    relative = [os.path.relpath(folder) for folder in folders]
    return tuple(Path(folder) for folder in dict.fromkeys(relative))


def _for_other_runs(config: DictConfig) -> DictConfig:
    """Replace the interpolations that mean something in this run alone by their values."""
    portable = copy.deepcopy(config)
    OmegaConf.set_readonly(portable, False)
    _resolve_of_one_run(portable)
    return portable


def _resolve_of_one_run(node: Any) -> None:
    for key in list(node) if OmegaConf.is_dict(node) else range(len(node)):
        child = node._get_node(key)
        if OmegaConf.is_interpolation(node, key):
            if any(name in str(child._value()) for name in _OF_ONE_RUN):
                node[key] = node[key]
        elif OmegaConf.is_config(child) and not child._is_none() and not child._is_missing():
            _resolve_of_one_run(child)


def _plain(node: Any, resolve: bool = False) -> dict[str, Any]:
    """Return a mapping of a configuration as plain data; an absent one is empty."""
    content: Any = OmegaConf.to_container(node, resolve=resolve) if node is not None else {}
    return content if isinstance(content, dict) else {}


def _flat(content: Any, path: str) -> dict[str, Any]:
    """The values in a mapping, however deep they lie, by their dotted paths."""
    if not isinstance(content, dict):
        return {path: content}
    parts = [_flat(value, f"{path}.{key}") for key, value in content.items()]
    return {key: value for part in parts for key, value in part.items()}


def _set(content: dict[str, Any], path: str, value: Any, where: str | None = None) -> None:
    """Set a value at a dotted path, any part of which may itself be a name with dots.

    With ``where`` the path must lead through what is there already.
    """
    if path in content or "." not in path:
        content[path] = value
        return
    parts = path.split(".")
    heads = [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
    head = next((head for head in heads if isinstance(content.get(head), dict)), None)
    if head is None and where is not None:
        known = list(map(str, content))
        hint = did_you_mean(parts[0], known) or f"; known keys: {', '.join(known)}"
        raise StudyError(f"{where}.{path}: there is no '{parts[0]}' in {where}{hint}")
    head, inner = head or parts[0], content.get(head or parts[0])
    rest = path.removeprefix(f"{head}.")
    if isinstance(inner, str) and rest.startswith("init_args."):
        inner = {"class_path": inner}  # as Lightning takes it, where its constructor gets arguments
    content[head] = inner if isinstance(inner, dict) else {}
    _set(content[head], rest, value, where and f"{where}.{head}")
