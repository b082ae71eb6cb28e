"""What a user may say about a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from itwinai.config.model import StrictModel

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class StudyConfiguration(StrictModel):
    """Everything that describes a study apart from its search space.

    The ``algorithm`` and the ``scheduler`` are a name, a mapping ``{name, **its options}``, or an
    object (Optuna sampler or pruner, Ray Tune ``Searcher`` or ``TrialScheduler``).
    """

    #: Name of the study and of its folder: letters, digits, ``. _ -``.
    name: str = "study"
    #: Folder that holds studies; on several nodes it must be shared.
    storage_path: Path = Path("studies")
    #: Metric to optimise; ``loss`` means ``validation_loss``.
    metric: str = "loss"
    #: ``min`` or ``max``; there is no default, because a wrong guess ruins the study.
    mode: Literal["min", "max"] | None = None
    #: Trials in total, the default configuration's included; None: a grid's points, otherwise 20.
    num_samples: int | None = Field(default=None, ge=1)
    #: Seconds after which no trial starts and running ones are interrupted; None: no limit.
    time_budget_s: float | None = Field(default=None, gt=0)
    #: ``tpe``, ``random``, ``grid``, or an object.
    algorithm: Any = "tpe"
    #: ``asha``, ``median``, ``none``, or an object.
    scheduler: Any = "asha"
    #: Processes that train one trial together.
    workers_per_trial: int = Field(default=1, ge=1)
    #: Resources of each of them; None: the machine divided evenly.
    resources_per_worker: dict[str, float] | None = None
    #: Trials at the same time; None: as many as the resources hold.
    max_concurrent_trials: int | None = Field(default=None, ge=1)
    #: Whether the first trial runs the configuration as it stands, to compare with.
    default_first: bool = True
    #: Seed of the search, and of each training that sets none itself.
    seed: int | None = None
    #: Whether an existing study of this name is continued.
    resume: bool = False
    #: How often a trial whose worker was lost starts again from its checkpoint.
    max_failures: int = Field(default=3, ge=0)
    #: Which trials keep their last checkpoint once they have ended.
    keep_checkpoints: Literal["best", "completed", "all"] = "best"

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "a study's name is 1 to 100 letters, digits, '.', '_' or '-', "
                "and does not start with '.'"
            )
        return name

    @property
    def directory(self) -> Path:
        """The study's folder."""
        return (self.storage_path / self.name).absolute()
