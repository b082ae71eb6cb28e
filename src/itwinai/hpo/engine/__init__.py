"""Ray alone: where a study's trials run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.engine.cluster import check_nodes, ray_cluster, starts_embedded
    from itwinai.hpo.engine.group import Shipped
    from itwinai.hpo.engine.nodes import nodes_without
    from itwinai.hpo.engine.resources import (
        TrialResources,
        check_cores,
        plan_resources,
        this_machine,
        visible_gpus,
    )
    from itwinai.hpo.engine.run import run_trials
    from itwinai.hpo.engine.signals import ended_like_ctrl_c
    from itwinai.hpo.engine.worker import Place, Program

__all__ = [
    "Place",
    "Program",
    "Shipped",
    "TrialResources",
    "check_cores",
    "check_nodes",
    "ended_like_ctrl_c",
    "nodes_without",
    "plan_resources",
    "ray_cluster",
    "run_trials",
    "starts_embedded",
    "this_machine",
    "visible_gpus",
]

__getattr__ = lazily(
    __name__,
    {
        "cluster": "check_nodes ray_cluster starts_embedded",
        "resources": "TrialResources check_cores plan_resources this_machine visible_gpus",
        "run": "run_trials",
        "signals": "ended_like_ctrl_c",
        "worker": "Place Program",
        "group": "Shipped",
        "nodes": "nodes_without",
    },
)
