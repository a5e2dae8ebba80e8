"""The operator as a process, an API server with Kubernetes' own controllers, and hands that play the kubelet.

There is no node: a Job's pod is made by Kubernetes, and what a kubelet would write of it is written by a test. So every
ending of a pod can be tried, and everything else (CRDs, rights, watches, the Job controller, garbage collection) is the
real thing. The control plane is of these tests alone, since on the shared one a kubelet may run.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from s3gc.controller.crd import definitions
from tests.chart.rendering import render
from tests.controller.made import OPERATION
from tests.testbed.cluster import Cluster
from tests.testbed.kubernetes import Kubernetes

ROOT = Path(__file__).parents[2]
NAMESPACE = "shop"
T = TypeVar("T")
_numbers = itertools.count(1)


def rights() -> list[dict[str, Any]]:
    """The rules of the role that docs/operator-internals.md grants, and no others."""
    text = (ROOT / "docs" / "operator-internals.md").read_text()
    rows = re.findall(r"^\| (`[\w.]+`|core) \| ([^|]+) \| ([a-z, ]+) \| [^|]+ \|$", text, re.MULTILINE)
    assert len(rows) >= 5
    return [
        {
            "apiGroups": ["" if group == "core" else group.strip("`")],
            "resources": re.findall(r"`([^`]+)`", resources),
            "verbs": verbs.split(", "),
        }
        for group, resources, verbs in rows
    ]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A control plane without a node, with our CRDs and a service account that has what the docs say."""
    cluster = Cluster(tmp_path_factory.mktemp("plane"))
    cluster.acquire(with_node=False)
    kubernetes = Kubernetes(cluster.kubeconfig, cluster)
    try:
        for text in definitions().values():
            kubernetes.kubectl("apply", "--server-side", "-f", "-", text=text)
        for name in ("bucketgcs.s3gc.dev", "gcrestores.s3gc.dev"):
            kubernetes.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        subject = {"kind": "ServiceAccount", "name": "s3gc", "namespace": "default"}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "s3gc"}
        kubernetes.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "s3gc", "namespace": "default"},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "s3gc"},
                "rules": rights(),
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "s3gc"},
                "roleRef": role,
                "subjects": [subject],
            },
            # And what the chart lays upon its Jobs: the whole of these tests is done under it.
            *(each for each in render(namespace="default") if "AdmissionPolicy" in each["kind"]),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        )
        yield kubernetes
    finally:
        cluster.release()


@pytest.fixture(scope="session")
def account(plane: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the operator's service account."""
    token = plane.kubectl("create", "token", "s3gc", "--duration=4h").strip()
    config = json.loads(plane.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    path = tmp_path_factory.mktemp("account") / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


# --- the operator


@dataclass
class Operator:
    """`s3gc operator` as a process."""

    kubeconfig: Path
    log: Path
    namespaces: tuple[str, ...] = (NAMESPACE,)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    _read_from: int = 0

    def start(self) -> Operator:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.log.parent),
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(self.kubeconfig),
            "S3GC_OPERATOR_NAMESPACES": ",".join(self.namespaces),
            "S3GC_OPERATOR_JOB_IMAGE": "localhost/s3gc:test",
            "S3GC_OPERATOR_LISTEN": "127.0.0.1:0",
            "S3GC_OPERATOR_PROGRESS_SECONDS": "1",
        }
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from s3gc.cli import main; main()", "operator", *self.options],
                env=environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def text(self) -> str:
        return self.log.read_bytes()[self._read_from :].decode(errors="replace")

    @property
    def url(self) -> str:
        found = eventually(
            "the port of the operator",
            lambda: re.search(r"metrics on port (\d+)", self.text()) or self._fail_if_ended(),
        )
        return f"http://127.0.0.1:{found[1]}"

    def _fail_if_ended(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the operator has ended with {self.process.returncode}:\n{self.text()}")

    def get(self, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def until_ready(self) -> Operator:
        eventually("readiness", lambda: self.get("/readyz")[0] == 200 or self._fail_if_ended())
        return self

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=40)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def make_operator(account: Path, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """``make_operator("namespace", …)`` is an operator of this test's own, not started yet."""
    made: list[Operator] = []

    def make(*namespaces: str, options: tuple[str, ...] = ()) -> Operator:
        operator = Operator(account, tmp_path / f"operator-{len(made)}.log", namespaces, options)
        made.append(operator)
        return operator

    yield make
    for operator in made:
        if operator.process is not None:
            operator.kill()
            assert "Traceback" not in operator.log.read_text(errors="replace"), operator.log.read_text()


@pytest.fixture(scope="session")
def operator(account: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator of the namespace `shop`, shared by all tests that do not end one."""
    operator = Operator(account, tmp_path_factory.mktemp("operator") / "log").start().until_ready()
    yield operator
    operator.stop()
    assert "Traceback" not in operator.log.read_text(errors="replace"), operator.log.read_text()


# --- the cluster


def eventually(what: str, look: Callable[[], T | None], seconds: float = 60) -> T:
    """Look until something true is seen, and return it."""
    deadline = time.monotonic() + seconds
    seen: object = None
    while time.monotonic() < deadline:
        try:
            if seen := look():
                return seen
        except (KeyError, IndexError) as error:
            seen = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s; last seen: {seen!r}")


def never(what: str, look: Callable[[], object], seconds: float = 3) -> None:
    """Look for a while, and fail as soon as something true is seen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = look()
        assert not seen, f"{what}: {seen!r}"
        time.sleep(0.2)


class Hands:
    """An administrator who can also do what a kubelet does."""

    def __init__(self, plane: Kubernetes, namespace: str) -> None:
        from kubernetes import client, config

        self.plane = plane
        self.namespace = namespace
        self.errors = client.ApiException
        api = config.new_client_from_config(str(plane.kubeconfig))
        self.objects = client.CustomObjectsApi(api)
        self.core = client.CoreV1Api(api)

    # objects of any group, as plain data

    def _where(self, plural: str) -> dict[str, str]:
        group, version = ("batch", "v1") if plural == "jobs" else ("s3gc.dev", "v1")
        return {"group": group, "version": version, "namespace": self.namespace, "plural": plural}

    def create(self, plural: str, name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
        kind = {"bucketgcs": "BucketGC", "gcrestores": "GCRestore"}[plural]
        body = {
            "apiVersion": "s3gc.dev/v1",
            "kind": kind,
            "metadata": {"name": name, **meta},
            "spec": spec,
        }
        made: dict[str, Any] = self.objects.create_namespaced_custom_object(**self._where(plural), body=body)
        return made

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.objects.get_namespaced_custom_object(
                **self._where(plural), name=name
            )
        except self.errors as error:
            if error.status != 404:
                raise
            return None
        return found

    def list(self, plural: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.objects.list_namespaced_custom_object(**self._where(plural))[
            "items"
        ]
        return found

    def patch(self, plural: str, name: str, patch: dict[str, Any], *, status: bool = False) -> None:
        call = self.objects.patch_namespaced_custom_object
        if status:
            call = self.objects.patch_namespaced_custom_object_status
        call(**self._where(plural), name=name, body=patch, _content_type="application/merge-patch+json")

    def delete(self, plural: str, name: str, **options: Any) -> None:
        self.objects.delete_namespaced_custom_object(
            **self._where(plural), name=name, propagation_policy="Background", **options
        )

    # what people do

    def annotate(self, name: str, **annotations: str) -> None:
        found = {f"s3gc.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.patch("bucketgcs", name, {"metadata": {"annotations": found}})

    def request(self, name: str, token: str = "one") -> None:
        self.annotate(name, run_requested_at=token)

    # what is seen

    def status(self, name: str, plural: str = "bucketgcs") -> dict[str, Any]:
        found = self.get(plural, name)
        status: dict[str, Any] = (found or {}).get("status") or {}
        return status

    def condition(self, name: str, kind: str, plural: str = "bucketgcs") -> tuple[str, str] | None:
        for each in self.status(name, plural).get("conditions", ()):
            if each["type"] == kind:
                return each["status"], each["reason"]
        return None

    def jobs(self, owner: str) -> list[dict[str, Any]]:
        """The Jobs of a BucketGC or GCRestore, the oldest first."""
        found = [job for job in self.list("jobs") if job["metadata"]["ownerReferences"][0]["name"] == owner]
        return sorted(found, key=lambda job: (job["metadata"]["creationTimestamp"], job["metadata"]["name"]))

    def job(self, owner: str, number: int = 1) -> str:
        """The name of the only Job (or the `number`-th), once it is there."""
        found = eventually(
            f"Job {number} of {owner}",
            lambda: [j["metadata"]["name"] for j in self.jobs(owner)][number - 1 :],
        )
        return found[0]

    def events(self, name: str) -> list[str]:
        found = self.core.list_namespaced_event(
            self.namespace, field_selector=f"involvedObject.name={name}"
        ).items
        found.sort(key=lambda event: int(event.metadata.resource_version))
        return [event.reason for event in found]

    # what a kubelet does

    def pod(self, job: str) -> str:
        """The newest pod of a Job, once it is there."""

        def look() -> list[str]:
            pods = self.core.list_namespaced_pod(
                self.namespace, label_selector=f"batch.kubernetes.io/job-name={job}"
            ).items
            alive = [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")]
            return [pod.metadata.name for pod in alive]

        return eventually(f"a pod of Job {job}", look)[-1]

    def _write(self, pod: str, status: dict[str, Any]) -> None:
        self.core.patch_namespaced_pod_status(pod, self.namespace, {"status": status})

    def waiting(self, job: str, reason: str, message: str) -> None:
        """The pod has a node and its container cannot start."""
        state = {"waiting": {"reason": reason, "message": message}}
        self._write(self.pod(job), {"phase": "Pending", "containerStatuses": [_container(state)]})

    def run(self, job: str) -> str:
        pod = self.pod(job)
        state = {"running": {"startedAt": _now()}}
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
        self._write(
            pod,
            {"phase": "Running", "conditions": ready, "containerStatuses": [_container(state, ready=True)]},
        )
        return pod

    def end(self, job: str, message: str | dict[str, Any] = "", code: int = 0, **more: Any) -> None:
        """The pod's process has ended, with this exit code and termination message."""
        text = message if isinstance(message, str) else json.dumps(message)
        state = {
            "terminated": {
                "exitCode": code,
                "reason": more.pop("reason", "Completed" if code == 0 else "Error"),
                "message": text,
                "startedAt": _now(),
                "finishedAt": _now(),
            }
        }
        phase = "Succeeded" if code == 0 else "Failed"
        not_ready = [{"type": "Ready", "status": "False"}]
        self._write(
            self.pod(job),
            {"phase": phase, "conditions": not_ready, "containerStatuses": [_container(state)], **more},
        )

    def finish(
        self, owner: str, outcome: str = "Succeeded", code: int = 0, number: int = 1, **result: Any
    ) -> str:
        """Let the Job of `owner` run and end with a result; returns its name when the status has it."""
        job = self.job(owner, number)
        self.run(job)
        self.end(job, result_of(outcome, **result), code)
        eventually(
            f"the result of {job}",
            lambda: self.status(owner).get("lastCycle", {}).get("jobName") == job,
        )
        return job


def _container(state: dict[str, Any], *, ready: bool = False) -> dict[str, Any]:
    return {
        "name": "s3gc",
        "image": "localhost/s3gc:test",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def result_of(outcome: str = "Succeeded", **changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "operation_id": OPERATION,
        "mode": "execute",
        "outcome": outcome,
        "started_at": (now - timedelta(seconds=5)).isoformat(),
        "completed_at": now.isoformat(),
        "duration_seconds": 5.0,
        "guards": [],
        "errors": [],
        **changes,
    }


@dataclass(frozen=True)
class Named:
    """A BucketGC of a test's own: nobody else has its bucket or its vault."""

    name: str
    spec: dict[str, Any] = field(default_factory=dict)


def policy(name: str | None = None, **changes: Any) -> Named:
    number = next(_numbers)
    spec = {
        "bucket": {"name": f"bucket-{number}"},
        "references": [
            {
                "name": "shop",
                "database": {"urlSecretRef": {"name": "shop-db", "key": "url"}},
                "tables": [{"table": "users", "columns": [{"name": "avatar_url"}]}],
            }
        ],
        "vault": {"persistentVolumeClaim": {"claimName": f"vault-{number}"}},
        **changes,
    }
    return Named(name or f"gc-{number}", spec)


@pytest.fixture
def hands(plane: Kubernetes) -> Hands:
    return Hands(plane, NAMESPACE)


@pytest.fixture
def own_namespace(plane: Kubernetes) -> Iterator[Hands]:
    """Hands in a namespace that the shared operator does not watch."""
    name = f"own-{next(_numbers)}"
    plane.kubectl("create", "namespace", name)
    yield Hands(plane, name)
    plane.kubectl("delete", "namespace", name, "--wait=false")
