"""A study on Kubernetes: the manifest of a RayJob, for the KubeRay operator.

Nothing here talks to a cluster; ``kubectl apply -f`` does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from itwinai.config.model import StrictModel
from itwinai.config.reading import read_as_written, validate_file
from itwinai.environ import ALLOW
from itwinai.job import RUN
from itwinai.slurm.values import Command, Count, Directory, Value, Variable

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,254}")
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}(?:[KMGT]i?)?")
_RESOURCE = re.compile(r"[a-z0-9.-]{1,200}/[a-z0-9.-]{1,60}")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def _like(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(check)


def _plain(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if _PLAIN_WORD.fullmatch(word) is None:
            raise ValueError(
                f"the word {word!r} holds a character that a shell could read, and KubeRay gives "
                "the command to one. Write it into the pipeline's YAML, or into a program."
            )
    return words


Name = Annotated[str, _like(_NAME, "up to 47 small letters, digits and '-', not '-' first or last")]
Image = Annotated[str, _like(_IMAGE, "an image, as in 'registry.example.org/me/itwinai:1'")]
Quantity = Annotated[str, _like(_QUANTITY, "a quantity, as in '16Gi'")]
Resource = Annotated[str, _like(_RESOURCE, "a resource, as in 'nvidia.com/gpu'")]


class KubernetesConfiguration(StrictModel):
    """A study as a RayJob: one pod for the program, ``nodes`` pods for its trials."""

    name: Name
    namespace: Name | None = None
    #: Holds itwinai, the pipeline's code, and the version of Ray below.
    image: Image
    command: Annotated[Command, AfterValidator(_plain)]
    #: A PersistentVolumeClaim that all pods can write to, and where they see it.
    claim: Name
    mount_path: Directory = Path("/data")
    #: Where the command runs; ``mount_path`` unless set.
    working_dir: Directory | None = None
    nodes: Count = 1
    cpus: Count = 1
    memory: Quantity = "8Gi"
    gpus: Annotated[int, Field(ge=0, le=1000)] = 0
    gpu_resource: Resource = "nvidia.com/gpu"
    environment: dict[Variable, Value] = Field(default_factory=dict)
    #: A Secret whose keys become variables.
    secret: Name | None = None
    service_account: Name | None = None
    #: So often a new cluster goes on with the study after a failure.
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    #: Seconds that pods stay after the end, to be looked at.
    keep_s: Annotated[int, Field(ge=0, le=604_800)] = 600


def load(path: str | Path, overrides: Iterable[str] = ()) -> KubernetesConfiguration:
    """Read a configuration from a YAML file on this machine, and set some of its values.

    Raises:
        ConfigurationError: If it cannot be read, or a key or value is wrong; names all of them.
    """
    return validate_file(KubernetesConfiguration, read_as_written(path, overrides), path)


def manifest(configuration: KubernetesConfiguration, allow: Iterable[str] = ()) -> dict[str, Any]:
    """Return the RayJob; it needs KubeRay 1.5.1 or newer.

    Args:
        configuration: What runs, and on what.
        allow: What pipelines of the job may name, as of ``--allow``.
    """
    names = ",".join(allow)
    given = {ALLOW: names} if names else {}
    c = configuration.model_copy(update={"environment": configuration.environment | given})
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": c.name} | ({"namespace": c.namespace} if c.namespace else {}),
        "spec": {
            "entrypoint": shlex.join(c.command),
            "submissionMode": "K8sJobMode",
            "backoffLimit": c.retries,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": c.keep_s,
            "rayClusterSpec": {
                "rayVersion": version("ray"),
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    # Trials run on the other pods, which can be lost without the program.
                    "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},
                    "template": _pod(c, "head", gpus=0),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "trials",
                        "replicas": c.nodes,
                        "minReplicas": c.nodes,
                        "maxReplicas": c.nodes,
                        "rayStartParams": {},
                        "template": _pod(c, "worker", gpus=c.gpus),
                    }
                ],
            },
        },
    }


def _pod(c: KubernetesConfiguration, role: str, gpus: int) -> dict[str, Any]:
    resources = {"cpu": str(c.cpus), "memory": c.memory}
    if gpus:
        resources[c.gpu_resource] = str(gpus)
    container: dict[str, Any] = {
        "name": role,
        "image": c.image,
        "workingDir": str(c.working_dir or c.mount_path),
        "env": [{"name": name, "value": value} for name, value in _variables(c).items()],
        "resources": {"requests": resources, "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "storage", "mountPath": str(c.mount_path)},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
    }
    if c.secret:
        container["envFrom"] = [{"secretRef": {"name": c.secret}}]
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [
            {"name": "storage", "persistentVolumeClaim": {"claimName": c.claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        # Nothing in a pod talks to Kubernetes, unless an account of its own is given to it.
        "automountServiceAccountToken": c.service_account is not None,
    }
    if c.service_account:
        spec["serviceAccountName"] = c.service_account
    return {"spec": spec}


def _variables(c: KubernetesConfiguration) -> dict[str, str]:
    """Variables of a pod; the last one lets a new cluster go on with the study of the old one."""
    own = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1", RUN: c.name}
    # Kubernetes would replace $(NAME).
    return {name: value.replace("$", "$$") for name, value in (c.environment | own).items()}
