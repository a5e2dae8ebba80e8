"""What a cycle needs goes away while it runs: the operator, the API server, the database; or there are two of it.

The state that must follow is the same each time: nothing referenced is lost, no Job is made twice, and each result is
counted once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from tests.e2e.cluster.conftest import Operator
from tests.e2e.cluster.shop import Manifest, Shop
from tests.e2e.cluster.watching import (
    SLOW,
    condition,
    eventually,
    finished,
    job_of,
    kept_what_is_referenced,
    pods_of,
    processes_of,
    referenced,
    status,
    sweeping,
)
from tests.testbed.processes import free_port
from tests.testbed.services import Postgres

pytestmark = pytest.mark.soak  # what decides the states is tried without a node in tests/controller

OPERATORS = "app.kubernetes.io/component=operator,app.kubernetes.io/instance=s3gc"


def jobs_of(shop: Shop) -> list[Manifest]:
    """The Jobs of the policy, in whatever state."""
    items: list[Manifest] = shop.cluster.get("-n", shop.namespace, "jobs")["items"]
    return [job for job in items if job["metadata"]["ownerReferences"][0]["name"] == shop.name]


def each_job_is_counted_once(shop: Shop) -> None:
    """The history keeps ten and the limit of Jobs in these tests is twenty, so up to ten cycles both tell of all."""
    told = status(shop)
    made = sorted(job["metadata"]["uid"] for job in jobs_of(shop))
    assert sorted(each["jobUID"] for each in told["history"]) == made
    assert told["metrics"]["totalRuns"] == len(made)


# --- the operator


async def test_a_policy_deleted_with_the_operator_gone_leaves_nothing_half_done(
    media: Shop, operator: Operator
) -> None:
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job_of(media)
    media.kubectl("scale", "deployment", "s3gc", "--replicas=0")
    try:
        job, pod = sweeping(media)
        media.kubectl("wait", "pod", "-l", OPERATORS, "--for=delete", "--timeout=60s")
        media.kubectl("delete", "bgc", media.name, "--timeout=20s")
        eventually(
            media, "the Job goes with it", lambda: job not in media.kubectl("get", "jobs", "-o", "name")
        )
        eventually(media, "the pod has ended", lambda: pod not in media.kubectl("get", "pods", "-o", "name"))
        kept_what_is_referenced(media)
    finally:
        media.kubectl("scale", "deployment", "s3gc", "--replicas=1")
    media.apply(media.policy("Execute"))
    assert media.cycle("two")["outcome"] == "Succeeded"
    assert set(media.present()) == set(referenced(media))


async def test_an_operator_that_dies_at_any_moment_makes_no_job_twice_and_misses_none(
    media: Shop, operator: Operator
) -> None:
    drawn = random.Random(4)
    media.apply(media.policy("Execute", successfulJobsHistoryLimit=20))
    for number in range(1, 6):
        media.run_now(f"token {number}")
        time.sleep(drawn.random() * 4)  # any moment from the request to the result
        if operator.cluster.is_ours:
            for pod in media.object("pods", f"--selector={OPERATORS}")["items"]:
                for process in processes_of(pod):
                    os.kill(process, signal.SIGKILL)
        media.kubectl("delete", "pod", "-l", OPERATORS, "--grace-period=0", "--force")

        def counted(number: int = number) -> bool:
            told = status(media)
            return len(told.get("history", ())) == number and not told.get("active")

        eventually(media, f"the result of request {number}", counted)
        assert status(media)["lastHandledRunRequest"] == f"token {number}"
    assert [each["deletedCount"] for each in status(media)["history"]] == [0, 0, 0, 0, 10]
    assert len(jobs_of(media)) == 5
    each_job_is_counted_once(media)
    assert set(media.present()) == set(referenced(media))


async def test_two_operators_for_two_minutes_make_each_job_once(media: Shop, operator: Operator) -> None:
    second = replace(operator, port=free_port(), release="s3gc-two")
    second.helm("install")
    try:
        media.apply(media.policy("Execute", schedule="* * * * *", successfulJobsHistoryLimit=20))
        media.run_now("one")
        eventually(
            media, "two cycles on its schedule and one on request", lambda: len(jobs_of(media)) >= 3, 240
        )
        media.kubectl("patch", "bgc", media.name, "--type=merge", "-p", '{"spec": {"suspend": true}}')

        def at_rest() -> bool:
            found = media.object()
            seen = found["status"]["observedGeneration"] == found["metadata"]["generation"]
            return seen and not found["status"].get("active")

        eventually(media, "its end", at_rest)
        each_job_is_counted_once(media)
        assert {each["outcome"] for each in status(media)["history"]} == {"Succeeded"}
        assert sum(each["deletedCount"] for each in status(media)["history"]) == 10
        assert set(media.present()) == set(referenced(media))
        before = media.object()["metadata"]["resourceVersion"]
        time.sleep(12)  # two resyncs of each, in which they must not fight over the status
        assert media.object()["metadata"]["resourceVersion"] == before
    finally:
        operator.cluster.helm("uninstall", second.release, "--namespace", operator.namespace, "--wait")


# --- the API server


async def test_the_api_server_ends_while_a_cycle_runs_and_its_result_is_counted_once(media: Shop) -> None:
    cluster = media.cluster.cluster
    if cluster is None:
        pytest.skip("kills the API server, which is not on this machine")
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job, _ = sweeping(media)
    cluster.crash("kube-apiserver")
    try:
        time.sleep(5)  # the cycle goes on meanwhile: it asks the API server nothing
    finally:
        cluster.revive()
    finished(media, jobName=job, outcome="Succeeded", deletedCount=10)
    assert len(pods_of(media, job)) == 1
    each_job_is_counted_once(media)
    media.kubectl("wait", "pod", "-l", OPERATORS, "--for=condition=Ready", "--timeout=60s")
    assert media.cycle("two")["deletedCount"] == 0
    assert set(media.present()) == set(referenced(media))


# --- the database


async def test_a_wrong_password_of_the_database_is_said_and_never_shown(media: Shop) -> None:
    where = urlsplit(media.dsn)
    wrong = where._replace(netloc=f"{where.username}:hunter2-hunter2@{where.hostname}:{where.port}")
    media.secret(f"{media.name}-db", url=wrong.geturl())
    media.apply(media.policy("Execute"))
    media.run_now("one")
    cycle = finished(media, outcome="Failed")
    assert "password" in " ".join(cycle["errors"])
    told = media.kubectl("describe", "bgc", media.name) + media.kubectl("logs", f"job/{cycle['jobName']}")
    assert "hunter2" not in told
    assert condition(media, "LastCycleSucceeded") == ("False", "Failed")
    assert condition(media, "Ready") == ("True", "OnDemand")
    assert media.present() == media.bodies
    media.secret(f"{media.name}-db", url=media.dsn)
    assert media.cycle("two")["outcome"] == "Succeeded"


async def test_a_database_that_ends_in_the_sweep_stops_it_and_the_next_pod_finishes(
    media: Shop, postgres: Postgres
) -> None:
    if postgres.process is None:
        pytest.skip("ends the database, which is not this session's own")
    media.apply(media.policy("Execute", engine=SLOW))
    media.run_now("one")
    job, pod = sweeping(media)
    await asyncio.to_thread(postgres.kill)
    try:

        def has_failed() -> bool:
            return bool(media.object("pod", pod)["status"]["phase"] == "Failed")

        # Without the database no group is verified, so none is deleted.
        await asyncio.to_thread(eventually, media, "the pod ends", has_failed, 240)
        kept_what_is_referenced(media)
        assert len(media.present()) > len(referenced(media)), "it went on without the database"
    finally:
        await asyncio.to_thread(postgres.start)
    cycle = await asyncio.to_thread(finished, media)
    assert cycle["jobName"] == job
    if cycle["outcome"] != "Succeeded":  # it may have used up its pods before the database was back
        assert "hunter2" not in json.dumps(cycle)
        assert media.cycle("two")["outcome"] == "Succeeded"
    assert set(media.present()) == set(referenced(media))
