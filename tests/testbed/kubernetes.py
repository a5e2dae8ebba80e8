"""A Kubernetes for tests: kubectl, helm, namespaces of their own; the shared one of this machine, or the user's.

`tests/conftest.py` makes the fixtures `kubernetes_api` (an API server), `kubernetes` (that runs pods, too),
`namespace` and `s3gc_image`. Nothing here knows s3gc.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.testbed import tools
from tests.testbed.cluster import Cluster
from tests.testbed.processes import plain_environment

T = TypeVar("T")

#: Namespaces that tests made carry it, so that one can see and remove them on a cluster of one's own.
LABEL = "s3gc.dev/testbed"

#: What a namespace needs in which nothing but the restricted Pod Security Standard is let in.
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class KubernetesError(RuntimeError):
    """A command that failed, with what it said."""


class Kubernetes:
    """One cluster, as its administrator."""

    def __init__(self, kubeconfig: Path, cluster: Cluster | None, image: str | None = None) -> None:
        self.kubeconfig = kubeconfig
        self.cluster = cluster
        self._image = image

    @classmethod
    def acquire(cls, with_node: bool) -> Kubernetes:
        """The user's cluster where KUBECONFIG and S3GC_TEST_IMAGE name one, else this machine's, shared."""
        kubeconfig, image = os.environ.get("KUBECONFIG"), os.environ.get("S3GC_TEST_IMAGE")
        if kubeconfig and image:
            return cls(Path(kubeconfig), None, image)
        cluster = Cluster()
        cluster.acquire(with_node)
        return cls(cluster.kubeconfig, cluster)

    @classmethod
    def private(cls, state: Path) -> Kubernetes:
        """An API server that nobody else uses, for what concerns a whole cluster. No pod runs on it."""
        cluster = Cluster(state)
        cluster.acquire(with_node=False)
        return cls(cluster.kubeconfig, cluster)

    def release(self) -> None:
        if self.cluster is not None:
            self.cluster.release()

    # --- what pods need ---------------------------------------------------------------------

    @property
    def is_ours(self) -> bool:
        return self.cluster is not None

    def image(self) -> str:
        """An image of the project that pods of this cluster can run."""
        if self._image is None:
            assert self.cluster is not None
            self._image = self.cluster.image()
        return self._image

    @property
    def pod_environment(self) -> dict[str, str]:
        """What a pod must be told to reach the API server: the test bed has no Services, its pods use the host."""
        if self.cluster is None:
            return {}
        port = self.cluster.plane.settings.api_port
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}

    # --- commands ---------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        return {**plain_environment(), "KUBECONFIG": str(self.kubeconfig)}

    def run(
        self, *words: str, text: str | None = None, timeout_seconds: float = 120, check: bool = True
    ) -> str:
        """Run a program of the test bed (kubectl, helm) on this cluster and return what it prints."""
        command = [str(tools.binary(words[0])), *words[1:]]
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env=self.environment,
            check=False,
        )
        if check and done.returncode != 0:
            raise KubernetesError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def kubectl(
        self, *words: str, text: str | None = None, check: bool = True, timeout_seconds: float = 120
    ) -> str:
        return self.run("kubectl", *words, text=text, check=check, timeout_seconds=timeout_seconds)

    def helm(self, *words: str, check: bool = True, timeout_seconds: float = 180) -> str:
        return self.run("helm", *words, check=check, timeout_seconds=timeout_seconds)

    def get(self, *words: str) -> dict[str, Any]:
        """`kubectl get … -o json`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def apply(self, *manifests: Mapping[str, Any], words: Sequence[str] = ()) -> str:
        text = "\n---\n".join(json.dumps(each) for each in manifests)
        return self.kubectl("apply", "-f", "-", *words, text=text)

    # --- to arrange and to wait -------------------------------------------------------------

    @contextlib.contextmanager
    def namespace(self, prefix: str = "t", labels: Mapping[str, str] | None = None) -> Iterator[str]:
        """A new namespace, with everything in it removed afterwards."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": {LABEL: "true", **(labels or {})}}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            self.eventually(
                f"the default service account of {name}",
                lambda: "default" in self.kubectl("-n", name, "get", "serviceaccounts", "-o", "name"),
            )
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", check=False)

    def eventually(self, what: str, look: Callable[[], T], seconds: float = 60) -> T:
        """Look until something true is seen and return it; an error says what was last seen."""
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            try:
                found = look()
                if found:
                    return found
                seen = found
            except (KubernetesError, subprocess.TimeoutExpired, KeyError, IndexError) as error:
                seen = error
            time.sleep(0.3)
        raise AssertionError(f"{what}: not within {seconds:.0f} s; last seen: {seen!r}")
