"""From a configuration to a result: check, plan, run, summarise."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console, RenderableType

from itwinai import job
from itwinai.config.values import plain
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.display import StudyProgress, shown, unheard
from itwinai.hpo.display.summary import summary
from itwinai.hpo.engine import (
    Program,
    TrialResources,
    check_cores,
    check_nodes,
    ended_like_ctrl_c,
    plan_resources,
    ray_cluster,
    starts_embedded,
)
from itwinai.hpo.errors import StudyInterrupted, TrialsFailedError
from itwinai.hpo.record import (
    Setup,
    StudyResult,
    keep_job,
    keep_pipeline,
    quiet_optuna,
    resume_command,
    this_start,
)
from itwinai.hpo.schedulers import Scheduler, Setting, build_scheduler
from itwinai.hpo.search import Algorithm, Task, build_algorithm
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study import (
    Listener,
    RunningTrial,
    Study,
    candidates_of,
    check_audit,
    check_combination,
    check_direction,
    check_existing,
    check_foreign,
    check_points,
    check_room,
    check_secrets,
    check_storage,
    check_total,
    choose,
    delete_superseded,
    load_source,
    total_trials,
)
from itwinai.hpo.trial import TrialState
from itwinai.io.ownership import open_to_group

#: Something that accompanies a study, from its opening until after its last trial.
Company = Callable[[Study], AbstractContextManager[Any]]


@dataclass(frozen=True)
class StudyPlan:
    """A study that has been checked and can start.

    Attributes:
        configuration: The study's settings.
        space: What is tuned.
        epochs: Epochs of a full training.
        default: The default configuration's values of the tuned hyper-parameters, or None.
        algorithm: Who proposes.
        scheduler: Who stops trials early.
        choice: What ``auto`` has become and why, and the size of a grid, in one line; maybe empty.
        source: A study whose trials it learns from.
        alike: Values that all trials have alike, by their dotted names, where those are known.
    """

    configuration: StudyConfiguration
    space: SearchSpace
    epochs: int
    default: Mapping[str, Any] | None
    algorithm: Algorithm
    scheduler: Scheduler
    choice: str = ""
    source: StudyResult | None = None
    alike: Mapping[str, Any] | None = None

    @property
    def total(self) -> int:
        """Trials that it runs in all."""
        return total_trials(self.configuration, self.algorithm, self.default is not None)

    @property
    def candidates(self) -> int:
        """Of the best trials, how many keep their checkpoint until the study ends."""
        return candidates_of(self.algorithm)

    @property
    def setup(self) -> Setup:
        """Who decides in it; what its trials get is known once resources are planned."""
        rungs = self.scheduler.judge.rungs
        at_epochs = rungs is not None and rungs.unit == "epochs"
        return Setup(
            self.algorithm.rule,
            self.scheduler.rule,
            rungs if at_epochs else None,
            audit=self.configuration.audit,
        )

    def open(self, **options: Any) -> Study:
        """Open the study; the options are those of :class:`Study`."""
        return Study(
            self.configuration,
            self.space,
            self.algorithm,
            self.scheduler,
            self.epochs,
            self.default,
            source=self.source,
            **options,
        )


@quiet_optuna()
def plan_study(
    configuration: StudyConfiguration,
    space: SearchSpace,
    epochs: int,
    default: Mapping[str, Any] | None,
) -> StudyPlan:
    """Check everything that can be known before anything starts.

    Raises:
        ConfigurationError: For whatever cannot work, naming the key and what to do.
    """
    check_direction(configuration)
    check_storage(configuration)
    check_existing(configuration)
    space = space.constrained(configuration.constraints)
    check_points(configuration, space)
    check_secrets(configuration, space)
    check_foreign(configuration)
    chosen = choose(configuration, space, epochs)
    seed, objectives = configuration.seed, configuration.objectives
    algorithm = build_algorithm(
        chosen.algorithm, Task(space, epochs, configuration.num_samples, seed)
    )
    scheduler = build_scheduler(chosen.scheduler, Setting(epochs, configuration.judged, seed))
    check_combination(
        algorithm.rule, scheduler.rule, len(objectives), configuration.primary is not None
    )
    check_audit(configuration, scheduler)
    default = _recordable(space, default) if configuration.default_first else None
    check_total(configuration, algorithm, default is not None)
    if starts_embedded():
        check_cores(configuration)
    source = load_source(configuration, space, epochs)
    return StudyPlan(
        configuration,
        space,
        epochs,
        default,
        algorithm,
        scheduler,
        _told(chosen.reason, algorithm, space, configuration.num_samples),
        source,
    )


def _recordable(space: SearchSpace, default: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The default configuration, as a record can keep it.

    Raises:
        ConfigurationError: If one of its values is none that a record can keep, or the text of a
            number.
    """
    if default is None:
        return None
    values: dict[str, Any] = plain(default)
    for name, value in values.items():
        try:
            space.keep({name: value})
        except TypeError:
            raise ConfigurationError(
                f"config.{name}={value!r}: the study's first trial trains with this value, and its "
                "record keeps numbers, strings, paths and lists, tuples and mappings of them. Give "
                "another one, a default in the search space, or set study.default_first: false"
            ) from None
        if _is_number_as_text(space, name, value):
            raise ConfigurationError(
                f"config.{name}={value!r} is text, and the search space has numbers: the study's "
                "first trial would train with that text. Write the number without quotes; where a "
                "YAML file was read, 1e-3 may have come as text, and 1.0e-3 does not"
            )
    return space.existing({**values, **space.defaults})


def _is_number_as_text(space: SearchSpace, name: str, value: Any) -> bool:
    if not isinstance(value, str) or name not in space or space[name].contains(value):
        return False
    try:
        return space[name].contains(space[name].nearest(float(value)))
    except ValueError:
        return False


def _told(reason: str, algorithm: Algorithm, space: SearchSpace, trials: int | None) -> str:
    """What the user is told before the start: what ``auto`` became, and the size of a grid."""
    grid = "" if algorithm.points is None else f"grid: {len(algorithm.points)} points"
    sizes = [parameter.size for parameter in space.values()]
    points = math.prod(size for size in sizes if size is not None)
    if algorithm.points is None and None not in sizes and points < (trials or 0):
        grid = f"the space has {points} points, all of which algorithm: grid would try"
    return "; ".join(filter(None, [reason, grid]))


def run_study(
    plan: StudyPlan,
    program: Program,
    console: Console | None = None,
    pipeline: str | None = None,
    company: Company = nullcontext,
    checkpoint_bytes: int = 0,
    listener: Listener = lambda trial, state: None,
    told: Callable[[StudyResult], RenderableType] = summary,
) -> StudyResult:
    """Run a study to its end, showing its progress and its outcome.

    Args:
        plan: The checked study.
        program: What every trial runs.
        console: Where to show it; None: standard output.
        pipeline: How the study was started, which its folder keeps; None: from Python.
        company: What accompanies the study; when it ends, the study is closed.
        checkpoint_bytes: Size that a checkpoint has at least, as far as that is known.
        listener: Hears each trial's begin, epochs and end, after they are on record.
        told: What is shown of it at its end.

    Raises:
        ConfigurationError: If the machines, or the disk, have no room for it.
        StudyError: If the study exists already, or met an error that every trial would meet.
        StudyInterrupted: If it was interrupted; it can be resumed.
        TrialsFailedError: If no trial produced a result.
        JobEnds: If the job asked it to stop.
    """
    console = console or unheard.console()
    if plan.choice:
        console.print(plan.choice, soft_wrap=True, highlight=False)
    can_grow = not starts_embedded()
    with quiet_optuna(), ended_like_ctrl_c(), ray_cluster() as nodes:
        from itwinai.hpo.engine import run_trials

        resources, setup = _placed(plan, nodes, can_grow, checkpoint_bytes)
        progress = StudyProgress(console)
        study = plan.open(listener=_both(progress.update, listener))
        _note(study, resources, setup, pipeline)
        if pipeline is None and plan.alike is not None:  # a pipeline that is kept tells it itself
            study.note_alike(plan.alike)
        with company(study), progress.follow(study, slots=setup.slots):
            try:
                run_trials(study, program, resources)
            finally:
                result = study.close()
    delete_superseded(result)
    if plan.configuration.readable_by == "group":
        open_to_group(study.directory)
    if study.fatal is not None:
        raise study.fatal
    console.print(told(result), soft_wrap=True)
    _check_outcome(result, study)
    return shown(result)


def _placed(
    plan: StudyPlan,
    nodes: Sequence[Mapping[str, float]],
    can_grow: bool,
    checkpoint_bytes: int,
) -> tuple[TrialResources, Setup]:
    """Plan what trials get, on machines that can run them and have room for what they write."""
    from itwinai.hpo.engine import nodes_without

    configuration, named = plan.configuration, plan.configuration.excluded
    nodes = nodes_without(named, can_grow) if named else nodes
    check_nodes(os.getcwd(), configuration.storage_path.absolute(), named)
    resources = plan_resources(configuration, nodes, plan.total)
    setup = setup_with(plan.setup, resources, nodes)
    check_room(configuration, setup.slots or 1, plan.total, checkpoint_bytes)
    return resources, setup


def _note(study: Study, resources: TrialResources, setup: Setup, pipeline: str | None) -> None:
    """Keep in a study's folder how it runs and what has started it."""
    study.note_threads(resources.threads)
    study.note_setup(setup)
    study.note_start(this_start())
    keep_job(study.directory)
    if pipeline is not None:
        keep_pipeline(study.directory, pipeline)


def setup_with(
    setup: Setup, resources: TrialResources, nodes: Sequence[Mapping[str, float]]
) -> Setup:
    """Complete a study's setup with what its trials get on machines with these resources."""
    slots, given = resources.concurrent(nodes), dict(resources.per_worker)
    return replace(setup, slots=slots, workers=resources.workers, per_worker=given)


def _both(one: Listener, other: Listener) -> Listener:
    def listen(trial: RunningTrial, state: TrialState) -> None:
        one(trial, state)
        other(trial, state)

    return listen


def _has_work_left(study: Study, result: StudyResult) -> bool:
    interrupted = any(trial.state is TrialState.INTERRUPTED for trial in result.trials)
    return interrupted or not study.all_started


def _check_outcome(result: StudyResult, study: Study) -> None:
    """Raise what a study has ended with, where that is no result of all its trials."""
    if (job.stop_requested() or study.leaves_to_next_job) and _has_work_left(study, result):
        raise job.JobEnds(f"study {result.name!r} goes on in the next job")
    if study.interrupted:
        ended = sum(trial.state is not TrialState.INTERRUPTED for trial in result.trials)
        cause = f" ({study.lack})" if study.lack else ""
        again = resume_command(result.record.parent) or "the same command with study.resume=true"
        raise StudyInterrupted(
            f"study {result.name!r} was interrupted after {ended} trials{cause}; {again} goes on "
            "to the same total"
        )
    if result.best is None:
        reasons = [trial.reason for trial in result.trials if trial.reason]
        raise TrialsFailedError(
            f"study {result.name!r}: no trial produced a result. The first one: "
            f"{reasons[0] if reasons else 'unknown'}. Logs: {result.record.parent / 'trials'}"
        )
