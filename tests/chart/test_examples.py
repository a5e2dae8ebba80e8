"""Every manifest of examples/kubernetes is one that the API server and the engine accept."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from s3gc.policy import load_policy
from tests.chart.rendering import ROOT
from tests.testbed.kubernetes import RESTRICTED, Kubernetes

FOLDER = ROOT / "examples" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
SECRETS = {"S3GC_SOURCE_0_URL": "postgresql://db/shop"}


def _documents(path: Any) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_api_server_accepts_it(private_api: Kubernetes, path: Any) -> None:
    for name in ("bucketgcs", "gcrestores"):
        private_api.kubectl("apply", "--server-side", "-f", str(ROOT / "crds" / f"{name}.yaml"))
        private_api.kubectl("wait", "--for=condition=Established", f"crd/{name}.s3gc.dev", "--timeout=30s")
    with private_api.namespace("shop", RESTRICTED) as namespace:
        words = ["--dry-run=server", "--validate=strict", "-n", namespace, "-f", str(path)]
        said = private_api.kubectl("apply", *words)
        assert len(said.splitlines()) == len(_documents(path))


def test_the_engine_reads_each_policy(tmp_path: Any) -> None:
    policies = [each for path in FILES for each in _documents(path) if each["kind"] == "BucketGC"]
    assert len(policies) >= 3
    for number, policy in enumerate(policies):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(policy))
        assert load_policy(path, SECRETS).has_source


def test_the_kustomization_names_one_image_for_the_operator_and_its_jobs(private_api: Kubernetes) -> None:
    made = [
        each
        for each in yaml.safe_load_all(private_api.kubectl("kustomize", str(FOLDER / "kustomize")))
        if each
    ]
    deployment = next(each for each in made if each["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert container["image"] == "registry.example/s3gc:0.1.0"
    assert environment["S3GC_OPERATOR_JOB_IMAGE"] == container["image"]
    assert environment["S3GC_OPERATOR_JOB_IMAGE_PULL_POLICY"] == "IfNotPresent"


def test_gitops_examples_are_yaml_of_known_kinds() -> None:
    kinds = {
        each["kind"] for path in (ROOT / "examples" / "gitops").rglob("*.yaml") for each in _documents(path)
    }
    assert kinds == {"Application", "ConfigMap", "GitRepository", "HelmRelease", "Kustomization"}
