"""What every configuration may name as a ``_target_``: public classes, at their public addresses.

None of them runs a command, loads a pickle or imports what its arguments name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_RAY_CONFIGS = "CheckpointConfig FailureConfig RunConfig ScalingConfig SyncConfig"

#: By module. A search space's functions describe what is searched, and do nothing else.
_NAMED = {
    "itwinai.pipeline": "Pipeline",
    "itwinai.components": (
        "Adapter BaseComponent DataGetter DataProcessor DataSplitter Predictor Saver Trainer"
    ),
    "itwinai.loggers": (
        "ConsoleLogger EmptyLogger LoggersCollection MLFlowLogger Prov4MLLogger "
        "TensorBoardLogger WandBLogger"
    ),
    "itwinai.torch.trainer": "RayTorchTrainer TorchLightningTrainer TorchTrainer",
    "itwinai.torch.inference": (
        "MulticlassTorchPredictor MultilabelTorchPredictor PredictionSaver "
        "RegressionTorchPredictor TorchModelLoader TorchPredictor"
    ),
    "itwinai.torch.distributed": (
        "DeepSpeedStrategy FSDPStrategy HorovodStrategy NonDistributedStrategy RayDDPStrategy "
        "RayDeepSpeedStrategy TorchDDPStrategy"
    ),
    "itwinai.torch.config": "Configuration TrainingConfiguration",
    "itwinai.torch.loggers": "ItwinaiLogger",
    "itwinai.hpo": "FunctionTrainer SearchSpace StudyConfiguration",
    "itwinai.hpo.space": "Choice Float Integer SearchSpace",
    "itwinai.type": "MLArtifact MLDataset MLModel",
    "itwinai.tests": (
        "FakeGetter FakeGetterExec FakePreproc FakePreprocExec FakeSaver FakeSaverExec "
        "FakeSplitter FakeSplitterExec FakeTrainer FakeTrainerExec"
    ),
    # Where serialized components say that they live.
    "itwinai.torch.lightning": "TorchLightningTrainer",
    "itwinai.torch.ray.lightning.trainer": "TorchLightningTrainer",
    "itwinai.torch.model_loader": "TorchModelLoader",
    "itwinai.torch.ray.trainer": "RayTorchTrainer TorchTrainer",
    "ray.tune": (
        "CheckpointConfig FailureConfig ResumeConfig RunConfig SyncConfig TuneConfig "
        "choice grid_search lograndint loguniform qlograndint qloguniform qrandint qrandn "
        "quniform randint randn uniform"
    ),
    "ray.train": f"DataConfig {_RAY_CONFIGS}",
    "ray.train.torch": "TorchConfig",
    "ray.air": _RAY_CONFIGS,
    "ray.air.config": _RAY_CONFIGS,
    "lightning": "Trainer",
    "lightning.pytorch": "Trainer",
    "pytorch_lightning": "Trainer",
    # Without these Hydra runs no multirun.
    "hydra._internal.core_plugins.basic_launcher": "BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper": "BasicSweeper",
}
_NAMED["itwinai.tests.dummy_components"] = _NAMED["itwinai.tests"]
_NAMED["itwinai.compatibility.dummy_components"] = _NAMED["itwinai.tests"]

_METRICS = "torchmetrics.Metric torchmetrics.MetricCollection"
_SEARCHERS = "ray.tune.search.Searcher ray.tune.search.SearchAlgorithm"

#: Modules of which the public classes with these bases may be named.
_WITH_BASES = {
    "torch.nn": "torch.nn.Module",
    "torch.optim": "torch.optim.Optimizer",
    "torch.optim.lr_scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "torch.optim.swa_utils": "torch.nn.Module torch.optim.lr_scheduler.LRScheduler",
    "torch.utils.data": (
        "torch.utils.data.DataLoader torch.utils.data.Dataset torch.utils.data.Sampler"
    ),
    "torchmetrics": _METRICS,
    **{
        f"torchmetrics.{task}": _METRICS
        for task in (
            *("aggregation", "audio", "classification", "clustering", "detection", "image"),
            *("multimodal", "nominal", "regression", "retrieval", "segmentation", "shape"),
            *("text", "video", "wrappers"),
        )
    },
    "ray.tune.schedulers": "ray.tune.schedulers.TrialScheduler",
    "ray.tune.schedulers.pb2": "ray.tune.schedulers.TrialScheduler",
    "ray.tune.stopper": "ray.tune.Stopper",
    "ray.tune.search": _SEARCHERS,
    **{
        f"ray.tune.search.{package}": _SEARCHERS
        for package in (
            *("ax", "basic_variant", "bayesopt", "bohb", "hebo", "hyperopt", "nevergrad"),
            *("optuna", "zoopt"),
        )
    },
    "optuna.samplers": "optuna.samplers.BaseSampler",
    "optuna.pruners": "optuna.pruners.BasePruner",
    "lightning.pytorch.callbacks": "lightning.pytorch.Callback",
    "lightning.pytorch.loggers": "lightning.pytorch.loggers.Logger",
    "pytorch_lightning.callbacks": "pytorch_lightning.Callback",
    "pytorch_lightning.loggers": "pytorch_lightning.loggers.Logger",
}


def is_named(address: str) -> bool:
    """Whether an address is one of the table."""
    module, _, name = address.rpartition(".")
    return name in _NAMED.get(module, "").split()


def may_be_public(address: str) -> bool:
    """Whether an address is one of the table, if it turns out to be such a class."""
    module, _, name = address.rpartition(".")
    return module in _WITH_BASES and not name.startswith("_")


def is_public(found: Any, address: str) -> bool:
    """Whether what stands at an address is a class that the table means.

    Args:
        found: What stands there.
        address: One for which :func:`may_be_public` holds.
    """
    module = address.rpartition(".")[0]
    bases = tuple(map(_at, _WITH_BASES[module].split()))
    of_package = _module_of(found).partition(".")[0] == module.partition(".")[0]
    return isinstance(found, type) and issubclass(found, bases) and of_package


def is_public_elsewhere(found: Any) -> bool:
    """Whether something that was met under another name stands at an address of the table."""
    package, name = _module_of(found).partition(".")[0], getattr(found, "__name__", "")
    for module in (*_NAMED, *_WITH_BASES):
        address = f"{module}.{name}"
        if module.partition(".")[0] != package or not (is_named(address) or may_be_public(address)):
            continue
        try:
            same = _at(address) is found
        except (ImportError, AttributeError):  # of an optional package, or not there
            continue
        if same and (is_named(address) or is_public(found, address)):
            return True
    return False


def _module_of(found: Any) -> str:
    return str(getattr(found, "__module__", None) or "")


def _at(address: str) -> Any:
    module, _, name = address.rpartition(".")
    return getattr(import_module(module), name)
