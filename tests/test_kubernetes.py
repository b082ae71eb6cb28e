"""The manifest of a study on Kubernetes has the fields that KubeRay and Kubernetes know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from itwinai.config.model import validate
from itwinai.errors import ConfigurationError
from itwinai.kubernetes import KubernetesConfiguration, manifest

SMALLEST: dict[str, Any] = {
    "name": "digits",
    "image": "registry.example.org/me/itwinai:1",
    "command": "itwinai hpo run --config-name study",
    "claim": "shared",
}

EVERYTHING = SMALLEST | {
    "namespace": "science",
    "mount_path": "/project",
    "working_dir": "/project/digits",
    "nodes": 4,
    "cpus": 8,
    "memory": "32Gi",
    "gpus": 2,
    "gpu_resource": "amd.com/gpu",
    "environment": {"OMP_NUM_THREADS": 1, "PATTERN": "$(HOME)"},
    "secret": "mlflow",
    "service_account": "itwinai",
    "retries": 0,
    "keep_s": 0,
}

TEXTS = {"*": str}  # any names
POD: dict[str, Any] = {
    "spec": {
        "containers": [
            {
                "name": str,
                "image": str,
                "workingDir": str,
                "env": [{"name": str, "value": str}],
                "envFrom": [{"secretRef": {"name": str}}],
                "resources": {"requests": TEXTS, "limits": TEXTS},
                "securityContext": {
                    "allowPrivilegeEscalation": bool,
                    "capabilities": {"drop": [str]},
                },
                "volumeMounts": [{"name": str, "mountPath": str}],
            }
        ],
        "volumes": [
            {
                "name": str,
                "persistentVolumeClaim": {"claimName": str},
                "emptyDir": {"medium": str},
            }
        ],
        "securityContext": {"runAsNonRoot": bool, "seccompProfile": {"type": str}},
        "automountServiceAccountToken": bool,
        "serviceAccountName": str,
    }
}
#: Of version v1 of KubeRay's RayJob (1.5.1) and of Kubernetes' pod template, what is used here.
RAY_JOB: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "namespace": str},
    "spec": {
        "entrypoint": str,
        "submissionMode": str,
        "backoffLimit": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": str},
            "headGroupSpec": {"rayStartParams": TEXTS, "template": POD},
            "workerGroupSpecs": [
                {
                    "groupName": str,
                    "replicas": int,
                    "minReplicas": int,
                    "maxReplicas": int,
                    "rayStartParams": TEXTS,
                    "template": POD,
                }
            ],
        },
    },
}


def mistakes(content: Any, schema: Any, place: str = "") -> list[str]:
    """Where content has a field that a schema does not know, or of another type."""
    if isinstance(schema, type):
        return [] if type(content) is schema else [f"{place}: {content!r} is no {schema.__name__}"]
    if isinstance(schema, list):
        if not isinstance(content, list):
            return [f"{place}: {content!r} is no list"]
        return [
            m for n, item in enumerate(content) for m in mistakes(item, schema[0], f"{place}[{n}]")
        ]
    if not isinstance(content, dict):
        return [f"{place}: {content!r} has no fields"]
    found = []
    for name, value in content.items():
        inner = schema.get(name, schema.get("*"))
        found += (
            [f"{place}.{name}: unknown"]
            if inner is None
            else mistakes(value, inner, f"{place}.{name}")
        )
    return found


@pytest.mark.parametrize("content", [SMALLEST, EVERYTHING])
def test_the_manifest_has_only_known_fields(content: dict[str, Any]) -> None:
    job = manifest(KubernetesConfiguration(**content))
    assert mistakes(job, RAY_JOB) == []


def test_a_mistake_would_be_noticed() -> None:
    assert mistakes({"spec": {"entrypoint": 1, "other": {}}}, RAY_JOB) == [
        ".spec.entrypoint: 1 is no str",
        ".spec.other: unknown",
    ]


def test_trials_run_on_the_workers_with_what_was_asked_for() -> None:
    cluster = manifest(KubernetesConfiguration(**EVERYTHING))["spec"]["rayClusterSpec"]
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
    assert head["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert (workers["replicas"], workers["minReplicas"], workers["maxReplicas"]) == (4, 4, 4)
    container = workers["template"]["spec"]["containers"][0]
    asked = {"cpu": "8", "memory": "32Gi", "amd.com/gpu": "2"}
    assert container["resources"] == {"requests": asked, "limits": asked}
    assert "amd.com/gpu" not in json.dumps(head)
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables["PATTERN"] == "$$(HOME)"
    assert variables["ITWINAI_RUN"] == "digits"


def test_others_cannot_use_the_cluster() -> None:
    cluster = manifest(KubernetesConfiguration(**SMALLEST))["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert "TOKEN" not in json.dumps(cluster)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "Digits"),
        ("name", "a\nb"),
        ("image", "image; touch x"),
        ("command", "python -c 'print(1)'"),
        ("command", ["a", "$(touch x)"]),
        ("memory", "8 GB"),
        ("mount_path", "/a b"),
        ("environment", {"HF_TOKEN": "x"}),
        ("nods", 3),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^kubernetes\.{key}"):
        validate(KubernetesConfiguration, SMALLEST | {key: value}, where="kubernetes")


def test_the_command_writes_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "kubernetes.yaml").write_text(yaml.safe_dump(SMALLEST))
    command = [sys.executable, "-m", "itwinai", "kubernetes", "manifest", "nodes=3"]
    expected = manifest(KubernetesConfiguration(**SMALLEST, nodes=3))
    for more, read in (([], yaml.safe_load), (["--json"], json.loads)):
        done = subprocess.run(
            [*command, *more], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert read(done.stdout) == expected
