"""What a user may say about a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from itwinai.config.model import StrictModel
from itwinai.config.values import on_a_file_system, plain
from itwinai.hpo.objectives import Mode, Objective

#: Trials of a study for which the user names no number.
USUAL_TRIALS = 20

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
#: Of a resource.
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StudyConfiguration(StrictModel):
    """Everything that describes a study apart from its search space.

    The ``algorithm`` and the ``scheduler`` are a name, a mapping ``{name, **its options}``, or an
    object (Optuna sampler or pruner, Ray Tune ``Searcher`` or ``TrialScheduler``).
    """

    #: Name of the study and of its folder: letters, digits, ``. _ -``.
    name: str = "study"
    #: Folder that holds studies; on several nodes it must be shared.
    storage_path: Annotated[Path, BeforeValidator(on_a_file_system)] = Path("studies")
    #: Metric to optimise, or several; ``loss`` means ``validation_loss``.
    metric: str | Annotated[list[str], Field(min_length=1)] = "loss"
    #: ``min`` or ``max``, of each metric; without default, because a wrong guess ruins the study.
    mode: Mode | list[Mode] | None = None
    #: Of several metrics the one by which schedulers judge; None: by how many trials are better in
    #: all of them.
    primary: str | None = None
    #: Trials in total, the default configuration's included; None: a grid's points, otherwise 20,
    #: or as many as there are ``points``.
    num_samples: int | None = Field(default=None, ge=1)
    #: Seconds after which no trial starts and running ones are interrupted; None: no limit.
    time_budget_s: float | None = Field(default=None, gt=0)
    #: A name of ``itwinai.hpo.search.algorithms.ALGORITHMS``, or an object.
    algorithm: Any = "auto"
    #: A name of ``itwinai.hpo.schedulers.SCHEDULERS``, or an object.
    scheduler: Any = "auto"
    #: What must hold between hyper-parameters, such as ``batch_size * width <= 4096``.
    constraints: list[str] = Field(default_factory=list)
    #: Points to try first; what one leaves out is proposed.
    points: Annotated[list[dict[str, Any]], BeforeValidator(plain)] = Field(default_factory=list)
    #: Study, by its folder, whose trials the search learns from before its first own one.
    warm_start: Annotated[Path | None, BeforeValidator(on_a_file_system)] = None
    #: Processes that train one trial together.
    workers_per_trial: int = Field(default=1, ge=1)
    #: Resources of each of them; None: the machine divided evenly.
    resources_per_worker: dict[str, Amount] | None = None
    #: Trials at the same time; None: as many as the resources hold.
    max_concurrent_trials: int | None = Field(default=None, ge=1)
    #: Whether each trial gets new processes; it costs the seconds in which they load PyTorch.
    fresh_processes: bool = False
    #: Whether the first trial runs the configuration as it stands, to compare with: to the last
    #: epoch, or with ``stop_early`` only as far as the scheduler lets it.
    default_first: bool | Literal["stop_early"] = True
    #: The first so many trials run to the last epoch whatever their scheduler says, so that
    #: ``itwinai hpo diagnose`` can tell whether early epochs predict the last one.
    audit: int = Field(default=0, ge=0)
    #: Seed of the search, and of each training that sets none itself; None: each draws its own.
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    #: Whether an existing study of this name is continued.
    resume: bool = False
    #: How often a trial whose worker was lost starts again from its checkpoint.
    max_failures: int = Field(default=3, ge=0)
    #: Failures of the same kind, before any other end, after which the study gives up.
    fail_fast: int = Field(default=3, ge=1)
    #: Seconds without a report, from its begin on (loading data counts), after which a trial counts
    #: as hung; None: no limit.
    report_timeout_s: float | None = Field(default=None, gt=0)
    #: Seconds for which the study waits when space, a file system or the like is lacking; then it
    #: ends, to be resumed.
    outage_timeout_s: float = Field(default=600, ge=0)
    #: Nodes that get no trials, by name or address; ``auto``: those that turn out to be much slower
    #: than others, or to fail trials that succeed elsewhere; ``never``: such ones are only named.
    exclude_nodes: Literal["auto", "never"] | list[str] = "auto"
    #: Which trials keep their last checkpoint once they have ended.
    keep_checkpoints: Literal["best", "completed", "all"] = "best"
    #: Whether only you may read the study's folder, or your group as well, once a run has ended.
    readable_by: Literal["owner", "group"] = "owner"

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "a study's name is 1 to 100 letters, digits, '.', '_' or '-', "
                "and does not start with '.' or '-'"
            )
        return name

    @field_validator("exclude_nodes", mode="before")
    @classmethod
    def _nodes_are_a_list(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in ("auto", "never"):
            raise ValueError(f"give 'auto', 'never', or a list of nodes, such as [{value}]")
        return value

    @model_validator(mode="after")
    def _objectives_fit(self) -> StudyConfiguration:
        metrics = _listed(self.metric)
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"metric names one metric twice: {', '.join(metrics)}")
        if self.mode is not None and len(_listed(self.mode)) != len(metrics):
            raise ValueError(
                f"there are {len(metrics)} metrics ({', '.join(metrics)}) and "
                f"{len(_listed(self.mode))} modes; give one mode for each metric"
            )
        if self.primary is not None and self.primary not in metrics:
            raise ValueError(
                f"primary={self.primary!r} is not among the metrics: {', '.join(metrics)}"
            )
        return self

    @model_validator(mode="after")
    def _processes_share_no_gpu(self) -> StudyConfiguration:
        gpus = (self.resources_per_worker or {}).get("GPU", 0)
        if gpus == int(gpus) or (gpus < 1 and self.workers_per_trial == 1):
            return self
        raise ValueError(
            f"resources_per_worker: GPU={gpus:g} with workers_per_trial={self.workers_per_trial}: "
            "only a trial of one worker can take less than a GPU, and nothing can take one and a "
            "half. Give each worker a whole number, or set workers_per_trial to 1"
        )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the study optimises, the primary metric first; a ``mode`` must have been given."""
        metrics = _listed(self.metric)
        modes = ["min"] * len(metrics) if self.mode is None else _listed(self.mode)
        objectives = [Objective(metric, mode) for metric, mode in zip(metrics, modes, strict=True)]
        return tuple(sorted(objectives, key=lambda objective: objective.metric != self.primary))

    @property
    def judged(self) -> tuple[Objective, ...]:
        """The objectives by which schedulers judge: the primary one, or all."""
        return self.objectives[:1] if self.primary is not None else self.objectives

    @property
    def excluded(self) -> list[str]:
        """The nodes, by name or address, that the user has left out."""
        return [] if isinstance(self.exclude_nodes, str) else self.exclude_nodes

    @property
    def directory(self) -> Path:
        """The study's folder."""
        return (self.storage_path / self.name).absolute()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
