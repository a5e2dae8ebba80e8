"""Real pods that die in every way there is, and what must be true afterwards: nothing referenced is lost, what was begun is
finished by whoever comes next, and the status says what happened.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable

import asyncmy
import pytest

from tests.e2e.cluster.conftest import Operator
from tests.e2e.cluster.shop import Manifest, Shop
from tests.e2e.cluster.watching import (
    SLOW,
    condition,
    eventually,
    finished,
    kept_what_is_referenced,
    pods_of,
    processes_of,
    referenced,
    status,
    sweeping,
)
from tests.testbed.services import MariaDB

pytestmark = (
    pytest.mark.soak
)  # six minutes; what decides the states is tried without a node in tests/controller

# --- pods that die


async def test_killed_in_the_sweep_the_next_pod_finishes(media: Shop) -> None:
    if not media.cluster.is_ours:
        pytest.skip("kills a process on the node, which is not this machine")
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job, _ = sweeping(media)
    (pod,) = pods_of(media, job)
    killed = [*processes_of(pod)]
    assert killed, "no process of the pod was found"
    for number in killed:
        os.kill(number, signal.SIGKILL)
    kept_what_is_referenced(media)
    finished(media, jobName=job, outcome="Succeeded")
    assert len(pods_of(media, job)) == 2
    assert set(media.present()) == set(referenced(media))


async def test_evicted_in_the_sweep_it_ends_in_order_and_the_next_pod_finishes(media: Shop) -> None:
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job, pod = sweeping(media)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": media.namespace},
    }
    path = f"/api/v1/namespaces/{media.namespace}/pods/{pod}/eviction"
    media.cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))
    finished(media, jobName=job, outcome="Succeeded")
    found = media.object("job", job)["status"]
    assert found["succeeded"] == 1
    assert set(media.present()) == set(referenced(media))


async def test_out_of_memory_is_said(media: Shop) -> None:
    limits = {"limits": {"memory": "40Mi"}, "requests": {"memory": "40Mi"}}
    media.apply(media.policy("Execute", job={"hostNetwork": True, "resources": limits}))
    media.run_now("one")
    cycle = finished(media, outcome="Failed")
    assert "OOMKilled" in " ".join(cycle["errors"])
    assert media.present() == media.bodies
    assert condition(media, "Ready") == ("True", "OnDemand")


async def test_past_its_deadline_it_ends_in_order_and_the_next_cycle_finishes(media: Shop) -> None:
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job, _ = sweeping(media)
    media.kubectl("patch", "job", job, "--type=merge", "-p", '{"spec": {"activeDeadlineSeconds": 1}}')
    cycle = finished(media, jobName=job)
    assert cycle["outcome"] in ("Failed", "PartiallyFailed")
    assert "DeadlineExceeded" in json.dumps(media.object("job", job)["status"])
    kept_what_is_referenced(media)
    media.apply(media.policy("Execute"))
    assert media.cycle("two")["outcome"] == "Succeeded"
    assert set(media.present()) == set(referenced(media))


async def test_a_job_that_is_deleted_is_unknown_and_the_next_cycle_finishes(media: Shop) -> None:
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job, pod = sweeping(media)
    media.kubectl("delete", "job", job, "--wait=false")
    finished(media, jobName=job, outcome="Unknown")
    kept_what_is_referenced(media)
    media.apply(media.policy("Execute"))
    media.run_now("two")
    # Not beside the pod that still ends.
    eventually(media, "the next", lambda: status(media).get("active"))
    names = [each["metadata"]["name"] for each in media.object("pods", "-A")["items"]]
    assert pod not in names
    finished(media, outcome="Succeeded")
    assert set(media.present()) == set(referenced(media))


async def test_a_policy_that_is_deleted_in_the_sweep_leaves_nothing_half_done(media: Shop) -> None:
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    _, pod = sweeping(media)
    media.kubectl("delete", "bgc", media.name)
    eventually(media, "the pod has ended", lambda: pod not in media.kubectl("get", "pods", "-o", "name"))
    kept_what_is_referenced(media)
    media.apply(media.policy("Execute"))
    assert media.cycle("two")["outcome"] == "Succeeded"
    assert set(media.present()) == set(referenced(media))


async def test_the_operator_dies_while_a_cycle_runs_and_its_result_is_counted_once(
    media: Shop, operator: Operator
) -> None:
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job, _ = sweeping(media)
    label = "app.kubernetes.io/component=operator"
    media.kubectl("delete", "pod", "-l", label, "--grace-period=0", "--force")
    finished(media, jobName=job, outcome="Succeeded", deletedCount=10)
    assert [each["deletedCount"] for each in status(media)["history"]] == [10]
    media.kubectl("wait", "pod", "-l", label, "--for=condition=Ready", "--timeout=60s")


# --- what a pod needs and has not


async def test_a_secret_that_is_missing_is_named_until_it_is_there(media: Shop) -> None:
    media.kubectl("delete", "secret", f"{media.name}-db")
    media.apply(media.policy())
    media.run_now("one")
    said = eventually(media, "why", lambda: status(media).get("active", {}).get("message"))
    assert f'secret "{media.name}-db" not found' in said
    assert condition(media, "CycleRunning") == ("True", "Pending")
    assert "PodNotRunning" in media.kubectl("describe", "bgc", media.name)
    media.secret(f"{media.name}-db", url=media.dsn)
    finished(media, outcome="Succeeded", verifiedOrphans=10)


async def test_a_wrong_password_fails_at_once_and_is_never_shown(media: Shop) -> None:
    media.secret(f"{media.name}-s3", AWS_ACCESS_KEY_ID="nobody", AWS_SECRET_ACCESS_KEY="hunter2-hunter2")
    media.apply(media.policy("Execute"))
    media.run_now("one")
    cycle = finished(media, outcome="Failed")
    assert len(cycle["errors"][0]) > 20
    told = media.kubectl("describe", "bgc", media.name) + media.kubectl("logs", f"job/{cycle['jobName']}")
    assert "hunter2" not in told
    assert condition(media, "LastCycleSucceeded") == ("False", "Failed")
    assert condition(media, "Ready") == ("True", "OnDemand")
    assert media.present() == media.bodies


async def test_a_database_that_is_away_deletes_nothing_and_is_tried_again(media: Shop) -> None:
    media.secret(f"{media.name}-db", url="postgresql://app:hunter2@127.0.0.1:1/shop")
    media.apply(media.policy("Execute"))
    media.run_now("one")
    cycle = finished(media, outcome="Failed")
    assert "127.0.0.1:1" in " ".join(cycle["errors"])
    assert "hunter2" not in json.dumps(cycle)
    assert media.present() == media.bodies
    media.secret(f"{media.name}-db", url=media.dsn)
    assert media.cycle("two")["outcome"] == "Succeeded"


# --- the other database, the other vault, the other mode


async def test_mariadb_and_a_vault_on_a_claim(
    mariadb: MariaDB, shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory, operator: Operator
) -> None:
    if not operator.cluster.is_ours:
        pytest.skip("makes a volume of a folder of this machine")
    dsn = await mariadb.fresh_database()
    media = shop(dsn, "on-a-claim")
    where = re.fullmatch(r"mysql://([^:]+):([^@]*)@([^:]+):(\d+)/(.+)", dsn)
    assert where is not None, dsn
    user, password, host, port, database = where.groups()
    connection = await asyncmy.connect(
        user=user, password=password, host=host, port=int(port), database=database, autocommit=True
    )
    async with connection.cursor() as cursor:
        await cursor.execute(
            "CREATE TABLE users (id int PRIMARY KEY AUTO_INCREMENT, avatar_url varchar(200))"
        )
        await cursor.executemany(
            "INSERT INTO users (avatar_url) VALUES (%s)", [(f"/{key}",) for key in referenced(media)]
        )
    connection.close()

    folder = tmp_path_factory.mktemp("volume")
    for each in (folder, *folder.parents):
        if str(each).startswith("/tmp/"):
            each.chmod(0o777)
    volume = f"s3gc-{media.namespace}"
    media.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume, "labels": {"s3gc.dev/testbed": "true"}},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": str(folder)},
                "storageClassName": "",
            },
        }
    )
    try:
        media.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "vault"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                    "storageClassName": "",
                    "volumeName": volume,
                },
            }
        )
        claim = {"persistentVolumeClaim": {"claimName": "vault"}}
        media.apply(media.policy("AuditOnly", vault=claim))
        audited = media.cycle("audit")
        assert (audited["outcome"], audited["mode"], audited["verifiedOrphans"]) == (
            "Succeeded",
            "AuditOnly",
            10,
        )
        assert media.present() == media.bodies
        media.apply(media.policy("Execute", vault=claim))
        done = media.cycle("delete")
        assert (done["outcome"], done["deletedCount"]) == ("Succeeded", 10)
        assert (folder / "s3gc-vault.json").exists()
        assert status(media)["metrics"]["totalDeleted"] == 10
        media.apply(
            {
                "apiVersion": "s3gc.dev/v1",
                "kind": "GCRestore",
                "metadata": {"name": "from-the-claim"},
                "spec": {"bucketGCRef": {"name": media.name}, "operationID": done["operationID"]},
            }
        )
        media.kubectl("wait", "--for=condition=Succeeded", "gcrestore/from-the-claim", "--timeout=120s")
        assert media.present() == media.bodies
    finally:
        media.kubectl("delete", "bgc", media.name, "--ignore-not-found")
        media.kubectl("delete", "pvc", "vault", "--wait=false", "--ignore-not-found")
        media.cluster.kubectl("delete", "pv", volume, "--wait=false", "--ignore-not-found")


async def test_progress_is_shown_while_a_cycle_runs(media: Shop) -> None:
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")

    def shown() -> Manifest | None:
        active: Manifest = status(media).get("active", {})
        return active if active.get("progress", {}).get("candidates") else None

    seen = eventually(media, "progress", shown)
    assert seen["operationID"]
    # What earlier phases reached stays beside what the present one counts.
    assert seen["progress"]["listed"] >= 30  # and what s3gc itself keeps in the bucket
    assert seen["progress"]["candidates"] == 10
    finished(media, outcome="Succeeded")
