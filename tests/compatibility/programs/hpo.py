"""How the users' Python programs read their command line, and describe a study."""

import argparse
from pathlib import Path

import ray.train
import ray.tune


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", default=None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--study", action="store_true")
    return parser.parse_args()


def ray_arguments(args: argparse.Namespace, metric: str) -> dict:
    if not args.study:
        return {}
    return {
        "ray_scaling_config": ray.train.ScalingConfig(
            num_workers=args.workers, use_gpu=False, resources_per_worker={"CPU": 1}
        ),
        "ray_tune_config": ray.tune.TuneConfig(num_samples=2, metric=metric, mode="min"),
        "ray_run_config": ray.tune.RunConfig(
            storage_path=str(Path("ray_checkpoints").resolve()), name="user-hpo"
        ),
        "ray_search_space": {
            "optim_lr": {"type": "loguniform", "lower": "1e-3", "upper": "1e-1"},
            "batch_size": {"type": "choice", "categories": [8, 16]},
        },
    }
