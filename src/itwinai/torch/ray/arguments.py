"""The ``ray_*`` arguments of existing user code, read into the same typed study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from itwinai.config.model import validate
from itwinai.config.values import shown
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.space import SearchSpace


@dataclass(frozen=True)
class RayArguments:
    """The ``ray_*`` arguments of a trainer; each may be None.

    Attributes:
        search_space: A search space; with it there is a study.
        tune: A ``ray.tune.TuneConfig``.
        run: A ``ray.tune.RunConfig``.
        scaling: A ``ray.train.ScalingConfig``.
        torch: A ``ray.train.torch.TorchConfig``.
        data: A ``ray.train.DataConfig``.
    """

    search_space: Mapping[str, Any] | None = None
    tune: Any = None
    run: Any = None
    scaling: Any = None
    torch: Any = None
    data: Any = None

    def study(self) -> tuple[SearchSpace, StudyConfiguration]:
        """The study that they describe.

        Raises:
            ConfigurationError: For what the study's own configuration refuses, and a ``stop``.
        """
        if getattr(self.run, "stop", None):
            raise ConfigurationError(
                f"ray_run_config.stop={shown(self.run.stop)}: trials train for the trainer's "
                "epochs. Leave it out; set epochs, or the scheduler 'patience' or 'threshold'."
            )
        space = SearchSpace.parse(self.search_space or {})
        exhaustive = any(getattr(parameter, "exhaustive", False) for parameter in space.values())
        fields = {
            **_from_tune(self.tune, exhaustive),
            **_from_run(self.run),
            **_from_scaling(self.scaling),
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return space, validate(StudyConfiguration, given, "ray_tune_config, ray_run_config")


def _from_tune(tune: Any, exhaustive: bool) -> dict[str, Any]:
    metric = getattr(tune, "metric", None)
    searcher = getattr(tune, "search_alg", None)
    return {
        "metric": metric,
        # Upstream's metric is the validation loss unless another is named.
        "mode": getattr(tune, "mode", None) or ("min" if metric in (None, "loss") else None),
        # Ray repeats a grid num_samples times; a study runs each of its points once.
        "num_samples": None if exhaustive else getattr(tune, "num_samples", None),
        "scheduler": getattr(tune, "scheduler", None) or "none",
        "algorithm": searcher or ("grid" if exhaustive else "random"),
        "max_concurrent_trials": getattr(tune, "max_concurrent_trials", None) or None,
        "time_budget_s": _seconds(getattr(tune, "time_budget_s", None)),
    }


def _seconds(budget: Any) -> Any:
    return budget.total_seconds() if isinstance(budget, timedelta) else budget


def _from_run(run: Any) -> dict[str, Any]:
    failures = getattr(getattr(run, "failure_config", None), "max_failures", 0)
    return {
        "name": getattr(run, "name", None),
        "storage_path": getattr(run, "storage_path", None),
        # Ray's 0 is its default, and -1 stands for any number.
        "max_failures": {0: None, -1: 10**6}.get(failures, failures),
    }


def _from_scaling(scaling: Any) -> dict[str, Any]:
    if scaling is None:
        return {}
    resources = getattr(scaling, "resources_per_worker", None)
    if resources is None and getattr(scaling, "use_gpu", False):
        resources = {"CPU": 1, "GPU": 1}
    return {
        "workers_per_trial": getattr(scaling, "num_workers", None),
        "resources_per_worker": resources,
    }
