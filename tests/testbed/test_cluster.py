"""The cluster of the test bed: pods run, it comes back after a crash, and it ends with its last user."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.testbed.kubernetes import RESTRICTED, Kubernetes

ROOT = Path(__file__).resolve().parents[2]

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _pod(name: str, image: str, *arguments: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "s3gc",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": list(arguments),
                    "securityContext": CONTAINER_SECURITY,
                }
            ],
        },
    }


def test_the_image_runs_where_only_restricted_pods_may_with_a_read_only_root(
    kubernetes: Kubernetes, s3gc_image: str
) -> None:
    with kubernetes.namespace("image", RESTRICTED) as namespace:
        kubernetes.apply(_pod("help", s3gc_image, "--help"), words=["-n", namespace])

        log = _end_of(kubernetes, namespace, "help")
        for command in ("run", "restore", "explain", "vault"):
            assert command in log


def test_what_the_image_left_out_is_not_missed(kubernetes: Kubernetes, s3gc_image: str) -> None:
    """The Dockerfile removes parts of packages; every module of ours imports without them."""
    program = (
        "import importlib, pkgutil, s3gc\n"
        "left = ('s3gc.demo', 's3gc.cli.demo', 's3gc.integrations')\n"
        "names = [m.name for m in pkgutil.walk_packages(s3gc.__path__, 's3gc.') if not m.name.startswith(left)]\n"
        "[importlib.import_module(name) for name in names]\n"
        "import asyncmy, botocore.session, pyarrow.parquet, pyarrow.compute, pyarrow.dataset\n"
        "botocore.session.get_session().create_client('sts', region_name='us-east-1')\n"
        "botocore.session.get_session().create_client('s3', region_name='us-east-1')\n"
        "import os; assert os.getuid() == 65532, os.getuid()\n"
        "print(len(names), 'modules')\n"
    )
    pod = _pod("imports", s3gc_image, "-c", program)
    pod["spec"]["containers"][0]["command"] = ["python"]  # type: ignore[index]
    with kubernetes.namespace("image", RESTRICTED) as namespace:
        kubernetes.apply(pod, words=["-n", namespace])
        assert "modules" in _end_of(kubernetes, namespace, "imports")


def _end_of(kubernetes: Kubernetes, namespace: str, pod: str) -> str:
    """The log of a pod that succeeded; a failure shows what it said."""

    def phase() -> str | None:
        seen = kubernetes.get("pod", pod, "-n", namespace)["status"]["phase"]
        return str(seen) if seen in ("Succeeded", "Failed") else None

    ended = kubernetes.eventually(f"the end of pod {pod}", phase, 90)
    log = kubernetes.kubectl("logs", pod, "-n", namespace)
    assert ended == "Succeeded", log
    return log


def test_a_cluster_without_users_ends_by_itself_and_its_api_server_survives_a_crash(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.testbed.kubernetes import Kubernetes\n"
        "k = Kubernetes.private(Path(sys.argv[1]))\n"
        "k.kubectl('create', 'configmap', 'kept', '--from-literal=a=b')\n"
        "for part in ('kube-apiserver', 'etcd'):\n"
        "    k.cluster.crash(part)\n"
        "k.cluster.revive()\n"
        "assert k.get('configmap', 'kept')['data'] == {'a': 'b'}\n"
        "print(*(part.pid for part in k.cluster.plane.parts.values()), flush=True); time.sleep(300)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    pids = [int(word) for word in child.stdout.readline().split()]
    assert len(pids) == 4
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_kubeconfig_alone_never_sends_tests_to_somebodys_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        """Raised in place of a start."""

    def acquire(self: object, with_node: bool) -> None:
        raise StoppedError

    monkeypatch.setattr("tests.testbed.cluster.Cluster.acquire", acquire)
    monkeypatch.setenv("S3GC_TOOLS", str(tmp_path))
    monkeypatch.delenv("S3GC_TEST_IMAGE", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "production"))
    with pytest.raises(StoppedError):
        Kubernetes.acquire(with_node=True)
    monkeypatch.setenv("S3GC_TEST_IMAGE", "registry.example/s3gc:1")
    assert Kubernetes.acquire(with_node=True).kubeconfig == tmp_path / "production"
