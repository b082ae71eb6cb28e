"""Names that several modules, and programs written for itwinai 0.4, agree on."""

from __future__ import annotations

from pathlib import Path

#: Experiment or project that runs belong to when none is named.
BASE_EXP_NAME = "default_experiment"

#: Where MLflow's runs are kept when no server is named.
RELATIVE_MLFLOW_PATH = Path("mllogs/mlflow")

#: Begin of the names of folders on a machine's own disk that last as long as their process.
TEMPORARY = "itwinai_"

#: Folder of a profiler's traces, within a logger's folder.
PROFILER_TRACES_DIR_NAME = "profiler_traces"

#: Name of a profile's summary.
PROFILING_AVG_NAME = "profiling_averages"

#: First halves of made-up names.
adjectives = [
    *("agile", "bold", "brave", "bright", "calm", "clever", "eager", "early", "fair", "gentle"),
    *("happy", "keen", "kind", "lively", "lucky", "mellow", "modest", "nimble", "patient", "proud"),
    *("quick", "quiet", "rapid", "sharp", "steady", "sunny", "swift", "tidy", "warm", "wise"),
]

#: Second halves of made-up names.
names = [
    *("badger", "beaver", "bison", "crane", "dolphin", "eagle", "falcon", "finch", "fox", "gecko"),
    *("heron", "ibex", "jay", "koala", "lark", "lynx", "marten", "moose", "newt", "otter"),
    *("owl", "panda", "puffin", "raven", "robin", "seal", "sparrow", "stork", "swan", "wren"),
]
