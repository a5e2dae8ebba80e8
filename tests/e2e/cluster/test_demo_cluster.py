"""`make demo-cluster` tells its story to the end; what it would start on a cluster of one's own is accepted there."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

from tests.chart.rendering import ROOT
from tests.testbed.kubernetes import RESTRICTED, Kubernetes


def test_the_demo_ends_with_everything_back(kubernetes: Kubernetes, s3gc_image: str) -> None:
    name = f"demo-{secrets.token_hex(3)}"
    environment = {key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "IMAGE")}
    if not kubernetes.is_ours:
        environment |= {"KUBECONFIG": str(kubernetes.kubeconfig), "IMAGE": s3gc_image}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo_cluster.py")],
        env={**environment, "S3GC_DEMO_NAMESPACE": name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "Succeeded: 15 of 60 objects would go.",
        "Succeeded: 15 backed up, 15 deleted.",
        "45 objects are as they were, 15 are gone, 0 differ",
        "60 objects are as they were, 0 are gone, 0 differ",
    ):
        assert line in done.stdout
    left = kubernetes.kubectl("get", "namespaces", "-o", "name", "--field-selector=status.phase=Active")
    assert name not in left


def test_the_demo_never_takes_a_cluster_that_it_was_not_given() -> None:
    environment = {**os.environ, "KUBECONFIG": "/somewhere/production"}
    environment.pop("IMAGE", None)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo_cluster.py")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "/somewhere/production" in done.stderr
    assert "IMAGE=" in done.stderr


def test_the_demos_servers_are_accepted_where_only_restricted_pods_may_run(kubernetes: Kubernetes) -> None:
    with kubernetes.namespace("demo", RESTRICTED) as namespace:
        path = str(ROOT / "examples" / "demo-cluster" / "servers.yaml")
        words = ["apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", path]
        assert "minio" in kubernetes.kubectl(*words)
        # A Deployment is let in whatever its pods are; its warnings say what would be refused.
        assert "Warning" not in kubernetes.kubectl(*words, check=False)
