"""The whole story on a real cluster: install, look, delete, bring back; each step with kubectl alone."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import asyncmy
import asyncpg
import pytest

from tests.e2e.cluster.conftest import Operator
from tests.e2e.cluster.shop import Shop
from tests.testbed.kubernetes import KubernetesError
from tests.testbed.services import MariaDB, Postgres, s3_client


async def _rows(dsn: str, keys: list[str]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE users (id serial PRIMARY KEY, avatar_url text)")
        await connection.executemany(
            "INSERT INTO users (avatar_url) VALUES ($1)", [(f"/{key}",) for key in keys]
        )
    finally:
        await connection.close()


async def test_dry_run_then_execute_then_everything_back(
    operator: Operator, postgres: Postgres, shop: Callable[..., Shop]
) -> None:
    dsn = await postgres.fresh_database()
    media = shop(dsn)
    await _rows(dsn, sorted(media.bodies)[:24])

    media.apply(media.policy("DryRun"))
    media.kubectl("wait", "--for=condition=Ready", "bgc/media", "--timeout=30s")
    looked = media.cycle("look")
    assert (looked["outcome"], looked["totalScanned"], looked["verifiedOrphans"]) == ("Succeeded", 30, 6)
    assert looked["coverage"][0]["resolved"] == 24
    assert media.present() == media.bodies

    media.apply(media.policy("Execute"))
    deleted = media.cycle("delete")
    assert (deleted["outcome"], deleted["deletedCount"], deleted["backedUpCount"]) == ("Succeeded", 6, 6)
    assert set(media.present()) == set(sorted(media.bodies)[:24])
    media.kubectl("wait", "--for=condition=LastCycleSucceeded", "bgc/media", "--timeout=10s")

    listed = media.kubectl("get", "bgc", "media")
    for word in (media.bucket, "Execute", "True", "Succeeded", "6"):
        assert word in listed
    told = media.kubectl("describe", "bgc", "media")
    for word in ("Coverage", "users.avatar_url", "Operation ID", "Last Cycle Succeeded", "Events"):
        assert word.replace(" ", "") in told.replace(" ", "")

    media.apply(
        {
            "apiVersion": "s3gc.dev/v1",
            "kind": "GCRestore",
            "metadata": {"name": "undo"},
            "spec": {"bucketGCRef": {"name": "media"}, "latest": True},
        }
    )
    media.kubectl("wait", "--for=condition=Succeeded", "gcrestore/undo", "--timeout=120s")
    assert media.object("gcrestore", "undo")["status"]["restoredCount"] == 6
    assert media.present() == media.bodies

    kept = media.cycle("again")  # what came back is held, or the next cycle would take it again
    assert kept["deletedCount"] == 0
    assert media.present() == media.bodies
    metrics = _metrics(operator)
    assert (
        f's3gc_cycles_total{{name="media",namespace="{operator.namespace}",outcome="Succeeded"}} 3.0'
        in metrics
    )


async def _mariadb_rows(dsn: str, keys: list[str]) -> None:
    parts = urlsplit(dsn)
    connection = await asyncmy.connect(
        host=parts.hostname, port=parts.port, user=parts.username, password=parts.password, db=parts.path[1:],
        autocommit=True,
    )  # fmt: skip
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(
                "CREATE TABLE users (id int PRIMARY KEY AUTO_INCREMENT, avatar_url varchar(200))"
            )
            await cursor.executemany(
                "INSERT INTO users (avatar_url) VALUES (%s)", [(f"/{key}",) for key in keys]
            )
    finally:
        await connection.ensure_closed()


async def test_on_its_schedule_in_every_mode_with_mariadb(
    operator: Operator, mariadb: MariaDB, shop: Callable[..., Shop]
) -> None:
    dsn = await mariadb.fresh_database()
    shops = {"DryRun": shop(dsn, "dry"), "AuditOnly": shop(dsn, "audit"), "Execute": shop(dsn, "live")}
    referenced = sorted(shops["Execute"].bodies)[:24]
    await _mariadb_rows(dsn, referenced)
    for mode, one in shops.items():
        one.apply(one.policy(mode, schedule="* * * * *"))
    audit = shops["AuditOnly"]
    asked = audit.cycle("now")  # in the third mode on request, too
    assert (asked["outcome"], asked["verifiedOrphans"], asked["deletedCount"]) == ("Succeeded", 6, 0)

    def on_time(one: Shop) -> dict[str, Any] | None:
        last: dict[str, Any] = one.object().get("status", {}).get("lastCycle", {})
        return last if re.fullmatch(rf"{one.name}-\d+", last.get("jobName", "")) else None

    for mode, one in shops.items():
        last = operator.cluster.eventually(f"{mode} on its schedule", lambda one=one: on_time(one), 150)
        one.kubectl("patch", "bgc", one.name, "--type=merge", "-p", '{"spec": {"suspend": true}}')
        assert (last["outcome"], last["mode"], last["verifiedOrphans"]) == ("Succeeded", mode, 6)
        assert last["deletedCount"] == (6 if mode == "Execute" else 0)
        assert set(one.present()) == (set(referenced) if mode == "Execute" else set(one.bodies))
        minute = int(last["jobName"].rpartition("-")[2]) * 60
        scheduled = datetime.fromisoformat(one.object()["status"]["lastScheduleTime"])
        assert scheduled.timestamp() >= minute

    live = shops["Execute"]
    name = live.object()["status"]["lastCycle"]["operationID"]
    live.apply(
        {
            "apiVersion": "s3gc.dev/v1",
            "kind": "GCRestore",
            "metadata": {"name": "undo-live"},
            "spec": {"bucketGCRef": {"name": "live"}, "operationID": name},
        }
    )
    live.kubectl("wait", "--for=condition=Succeeded", "gcrestore/undo-live", "--timeout=120s")
    assert live.present() == live.bodies
    head = s3_client(live.store).head_object(Bucket=live.bucket, Key=max(live.bodies))
    assert (head["ContentType"], head["Metadata"]) == ("image/jpeg", {"n": "29"})


def _metrics(operator: Operator) -> str:
    url = f"http://127.0.0.1:{operator.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def test_git_sees_no_drift_and_nobody_but_the_user_owns_the_spec(
    postgres: Postgres, shop: Callable[..., Shop]
) -> None:
    dsn = await postgres.fresh_database()
    drift = shop(dsn, "drift")
    await _rows(dsn, sorted(drift.bodies))
    manifest = drift.policy("DryRun")
    words = ["apply", "--server-side", "--field-manager=gitops", "-f", "-"]
    drift.kubectl(*words, text=json.dumps(manifest))
    assert drift.cycle("1")["outcome"] == "Succeeded"
    # kubectl diff ends with 1 where there is a difference
    drift.kubectl("diff", "--server-side", "--field-manager=gitops", "-f", "-", text=json.dumps(manifest))

    found = json.loads(drift.kubectl("get", "bgc", "drift", "-o", "json", "--show-managed-fields"))
    owners: dict[str, set[str]] = {}
    for entry in found["metadata"]["managedFields"]:
        for part in entry["fieldsV1"]:
            owners.setdefault(part, set()).add(entry["manager"])
    assert owners["f:spec"] == {"gitops"}
    assert owners["f:metadata"] <= {"gitops", "kubectl-annotate"}
    assert found["metadata"].get("finalizers", []) == []
    assert set(found["metadata"]["annotations"]) == {"s3gc.dev/run-requested-at"}
    assert not owners["f:status"] & {"gitops", "kubectl-annotate"}


def test_the_operators_account_reads_no_secret(operator: Operator) -> None:
    """Tried with the token of its own account, not asked."""
    cluster, namespace = operator.cluster, operator.namespace
    token = cluster.kubectl("-n", namespace, "create", "token", "s3gc").strip()
    server = cluster.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}")
    words = ["--kubeconfig=/dev/null", f"--server={server}", f"--token={token}", "--insecure-skip-tls-verify"]
    names = cluster.kubectl(*words, "-n", namespace, "get", "bgc", "-o", "name")
    assert names is not None
    for refused in ("secrets", "configmaps", "jobs --namespace=default", "bgc --namespace=default"):
        with pytest.raises(KubernetesError, match="orbidden"):
            cluster.kubectl(*words, "-n", namespace, "get", *refused.split())


def test_helm_upgrade_and_uninstall_keep_the_bucketgcs(operator: Operator) -> None:
    cluster = operator.cluster
    before = cluster.kubectl("-n", operator.namespace, "get", "bgc", "-o", "name")
    operator.helm("upgrade", "--set", "operator.resyncSeconds=6")
    pods = cluster.get("-n", operator.namespace, "pods", "-l", "app.kubernetes.io/component=operator")[
        "items"
    ]
    running = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert len(running) == 1
    cluster.helm("uninstall", "s3gc", "--namespace", operator.namespace, "--wait")
    assert cluster.kubectl("-n", operator.namespace, "get", "bgc", "-o", "name") == before
    operator.helm("install")
    assert cluster.kubectl("-n", operator.namespace, "get", "bgc", "-o", "name") == before
