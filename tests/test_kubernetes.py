"""The manifest of a study on Kubernetes is one that KubeRay and Kubernetes take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
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

NUMBER, TRUTH, WORDS = {"type": "integer"}, {"type": "boolean"}, {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": WORDS}
POD = {"type": "object"}  # checked by itself


def fields(optional: dict[str, Any] | None = None, **required: Any) -> dict[str, Any]:
    """A schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def group(**more: Any) -> dict[str, Any]:
    return fields(rayStartParams=TEXTS, template=POD, **more)


HEAD = ("spec", "rayClusterSpec", "headGroupSpec", "template")
COUNTS = dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), NUMBER)
#: KubeRay's RayJob (ray-operator/apis/ray/v1 of 1.5.1) without its pods, as far as it is used here.
RAY_JOB = fields(
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields({"namespace": WORDS}, name=WORDS),
    spec=fields(
        entrypoint=WORDS,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        backoffLimit=NUMBER,
        shutdownAfterJobFinishes=TRUTH,
        ttlSecondsAfterFinished=NUMBER,
        rayClusterSpec=fields(
            rayVersion=WORDS,
            authOptions=fields(mode={"enum": ["disabled", "token"]}),
            headGroupSpec=group(),
            workerGroupSpecs={"type": "array", "items": group(groupName=WORDS, **COUNTS)},
        ),
    ),
)

#: An old one, which knows none of the newest fields.
KUBERNETES = "1.28"


def check(job: dict[str, Any]) -> None:
    """Raise if KubeRay or Kubernetes would not take a manifest."""
    jsonschema.validate(job, RAY_JOB)
    cluster = job["spec"]["rayClusterSpec"]
    for pods in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": pods["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("content", [SMALLEST, EVERYTHING])
def test_kuberay_and_kubernetes_know_all_fields(content: dict[str, Any]) -> None:
    check(manifest(KubernetesConfiguration(**content)))


@pytest.mark.parametrize(
    ("place", "value", "refusal"),
    [
        (("spec", "entrypoint"), 1, "1 is not of type 'string'"),
        (("spec", "retries"), 1, "'retries' was unexpected"),
        ((*HEAD, "spec", "contaners"), [], "'contaners' was unexpected"),
        ((*HEAD, "spec", "containers"), "all", "'all' is not of type"),
    ],
)
def test_a_mistake_would_be_noticed(place: tuple[str, ...], value: Any, refusal: str) -> None:
    job = manifest(KubernetesConfiguration(**SMALLEST))
    inner = job
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=refusal):
        check(job)


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


def test_a_variable_of_a_pod_is_a_text_as_it_was_written(tmp_path: Path) -> None:
    written = yaml.safe_dump(SMALLEST) + "environment: {RATE: 1e-3, VERSION: 3.10}\n"
    (tmp_path / "kubernetes.yaml").write_text(written)
    command = [sys.executable, "-m", "itwinai", "kubernetes", "manifest", "environment.ANSWER='y'"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for name, value in {"RATE": "1e-3", "VERSION": "3.10", "ANSWER": "y"}.items():
        assert f"name: {name}\n" in done.stdout
        assert f"value: '{value}'\n" in done.stdout  # kubectl refuses what is a number to it


def test_what_the_pipeline_may_name_is_in_every_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubernetes.yaml").write_text(yaml.safe_dump(SMALLEST))
    monkeypatch.setenv("ITWINAI_ALLOW", "timm")
    command = [sys.executable, "-m", "itwinai", "kubernetes", "manifest", "--allow", "torchvision"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    cluster = yaml.safe_load(done.stdout)["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "ITWINAI_ALLOW", "value": "torchvision,timm"} in container["env"]
