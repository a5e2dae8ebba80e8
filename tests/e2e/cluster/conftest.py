"""The operator on the shared cluster, installed by its chart into a namespace of this run's own, which alone it watches.

The CRDs are applied once and stay: other runs on the same cluster use them, too. What concerns them is tested on an API server of its
own (tests/chart).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import asyncpg
import pytest

from tests.chart.rendering import CHART, ROOT
from tests.e2e.cluster.shop import Shop
from tests.e2e.cluster.watching import referenced
from tests.testbed.kubernetes import Kubernetes
from tests.testbed.processes import free_port
from tests.testbed.services import Postgres, S3Server


@dataclass(frozen=True)
class Operator:
    """A release of the chart: where it runs, what it watches, where its metrics are."""

    cluster: Kubernetes
    namespace: str
    port: int
    release: str = "s3gc"

    def values(self) -> dict[str, object]:
        repository, _, tag = self.cluster.image().rpartition(":")
        on_the_host = {
            "hostNetwork": True,
            "listenAddress": "127.0.0.1",
            "port": self.port,
            "extraEnv": [{"name": k, "value": v} for k, v in self.cluster.pod_environment.items()],
        }
        return {
            "image": {"repository": repository, "tag": tag},
            "crds": {"install": False},
            "rbac": {"userRoles": False},
            "watch": {"namespaces": [self.namespace]},
            "operator": {"progressSeconds": 1, "resyncSeconds": 5},
            **(on_the_host if self.cluster.is_ours else {}),
        }

    def helm(self, verb: str, *words: str) -> str:
        values = [f"--set-json={name}={json.dumps(value)}" for name, value in self.values().items()]
        return self.cluster.helm(
            verb,
            self.release,
            str(CHART),
            "--namespace",
            self.namespace,
            "--wait",
            "--timeout=120s",
            *values,
            *words,
        )


def apply_crds(cluster: Kubernetes) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    for name in ("bucketgcs", "gcrestores"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}.s3gc.dev", "--timeout=30s")


@pytest.fixture(scope="session")
def operator(kubernetes: Kubernetes) -> Iterator[Operator]:
    """The operator, ready, for every test of the session that does not harm it."""
    apply_crds(kubernetes)
    with kubernetes.namespace("e2e") as namespace:
        installed = Operator(kubernetes, namespace, free_port())
        installed.helm("install")
        yield installed


@pytest.fixture
def shop(operator: Operator, minio: S3Server) -> Callable[[str, str], Shop]:
    """``shop(dsn, name)``: a filled bucket and its Secrets in the operator's namespace."""

    def make(dsn: str, name: str = "media") -> Shop:
        made = Shop(operator.cluster, operator.namespace, minio, dsn, name)
        made.prepare()
        return made

    return make


@pytest.fixture
async def media(postgres: Postgres, shop: Callable[..., Shop], request: pytest.FixtureRequest) -> Shop:
    """30 objects, 20 of them referenced, and a policy that may delete the rest."""
    dsn = await postgres.fresh_database()
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[5:35].strip("-")
    made = shop(dsn, name)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE users (id serial PRIMARY KEY, avatar_url text)")
        rows = [(f"/{key}",) for key in referenced(made)]
        await connection.executemany("INSERT INTO users (avatar_url) VALUES ($1)", rows)
    finally:
        await connection.close()
    return made
