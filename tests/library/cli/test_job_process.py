"""The process of a Job: started from exactly what the operator builds, without a Kubernetes around it.

The Job comes from `controller.jobs`, its variables and arguments go through the rules of a kubelet, and what it leaves in
its termination message is read by `controller.readings`: what one side writes, the other understands.
"""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.controller.kubelet import started
from tests.library.cli.conftest import Ended, World

from s3gc.controller.jobs import JobSettings, cycle_job, restore_job
from s3gc.controller.observe import JobState, JobView, PodView, Trigger
from s3gc.controller.readings import (
    CycleReading,
    LogReading,
    RestoreReading,
    read_cycle,
    read_log,
    read_restore,
)
from s3gc.controller.resources import GCObject, read_bucketgc, read_gcrestore

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass
class Cluster:
    """As much of a cluster as a process can see of one."""

    world: World
    body: dict[str, Any]
    secrets: dict[str, dict[str, str]]
    ends: dict[str, int] = field(default_factory=dict)

    @property
    def gc(self) -> GCObject:
        gc = read_bucketgc(self.body)
        assert gc.problems == ()
        return gc

    def spec(self, **changes: object) -> None:
        self.body["spec"].update(changes)

    def cycle(self, trigger: Trigger = Trigger.REQUEST, token: str = "one", **changes: Any) -> dict[str, Any]:
        return cycle_job(self.gc, JobSettings("image"), now=NOW, trigger=trigger, token=token, **changes)

    def restore(self, spec: dict[str, Any], name: str = "undo") -> dict[str, Any]:
        restore = read_gcrestore(
            {
                "metadata": {"name": name, "namespace": "shop", "uid": "u2"},
                "spec": {"bucketGCRef": {"name": "media"}, **spec},
            }
        )
        assert restore.problems == ()
        return restore_job(restore, self.gc, JobSettings("image"), now=NOW)

    def start(self, job: dict[str, Any], **changes: str) -> tuple[subprocess.Popen[str], Path]:
        container = job["spec"]["template"]["spec"]["containers"][0]
        arguments, environment = started(container, self.secrets)
        message = self.world.shell.folder / f"message-{len(self.ends)}"
        self.ends[str(message)] = 0
        environment |= {
            "S3GC_TERMINATION_LOG": str(message),
            "S3GC_WORK_DIR": str(self.world.shell.folder / "work"),
            "HOME": str(self.world.shell.folder),
            **changes,
        }
        # Nothing of the other tests' shell: a pod has what its Job says.
        shell = replace(self.world.shell, environment={})
        return shell.start(*arguments, **environment), message

    def run(self, job: dict[str, Any], **changes: str) -> tuple[Ended, str]:
        process, message = self.start(job, **changes)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        said = message.read_text() if message.exists() else ""
        assert len(said.encode()) <= 4096
        return Ended(process.returncode, out, err), said


def as_seen(code: int, message: str) -> tuple[JobView, PodView]:
    """The Job and its pod as the operator sees them afterwards."""
    job = JobView(
        namespace="shop",
        name="media-r1",
        uid="j1",
        resource_version="1",
        owner=None,
        vault="",
        trigger="Request",
        scheduled_at=None,
        created=NOW,
        finished_at=NOW + timedelta(seconds=9),
        state=JobState.COMPLETE if code == 0 else JobState.FAILED,
        reason="" if code == 0 else "PodFailurePolicy",
        message="",
        terminating=0,
        is_deleting=False,
    )
    pod = PodView(
        name="media-r1-abcde",
        created=NOW,
        phase="Succeeded" if code == 0 else "Failed",
        reason="",
        message="",
        waiting_reason="",
        waiting_message="",
        exit_code=code,
        ended_reason="Completed" if code == 0 else "Error",
        ended_message=message,
        started_at=NOW,
        ended_at=NOW,
    )
    return job, pod


def cycle_of(ended: Ended, message: str) -> CycleReading:
    job, pod = as_seen(ended.code, message)
    return read_cycle(job, [pod], ended.err + ended.out)


def restore_of(ended: Ended, message: str) -> RestoreReading:
    job, pod = as_seen(ended.code, message)
    return read_restore(job, [pod])


@pytest.fixture
def cluster(world: World, minio: Any, make_bucket: Callable[..., str]) -> Cluster:
    vault = make_bucket(minio)
    body = {
        "metadata": {"name": "media", "namespace": "shop", "uid": "u1", "generation": 1},
        "spec": {
            "bucket": {
                "name": world.bucket,
                "endpointURL": minio.endpoint,
                "credentialsSecretRef": {"name": "media-s3"},
            },
            "references": [
                {
                    "name": "shop",
                    "database": {"urlSecretRef": {"name": "shop-db", "key": "url"}},
                    "tables": [
                        {
                            "table": "users",
                            "columns": [{"name": "avatar_url"}],
                            # Kubernetes would put a password in place of the first and halve the second.
                            "where": "avatar_url not in ('$(S3GC_BUCKET_AWS_SECRET_ACCESS_KEY)', 'a$$b')",
                        }
                    ],
                }
            ],
            "mode": "DryRun",
            "retentionDays": 0,
            "unreferencedDays": 0,
            "vault": {
                "s3": {
                    "bucket": vault,
                    "endpointURL": minio.endpoint,
                    "credentialsSecretRef": {"name": "vault-s3"},
                }
            },
        },
    }
    keys = {"AWS_ACCESS_KEY_ID": minio.access_key, "AWS_SECRET_ACCESS_KEY": minio.secret_key}
    secrets = {"media-s3": keys, "vault-s3": dict(keys), "shop-db": {"url": world.dsn}}
    return Cluster(world, body, secrets)


def wait_for_the_sweep(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if any(f'"{phase}"' in line for phase in ("Verifying", "BackingUp", "Deleting")):
            break
    time.sleep(1)


SLOW = {"requestsPerSecond": 10, "canaryObjects": 1, "groupObjects": 1}


def test_a_dry_run_is_told_whole_and_in_short(cluster: Cluster) -> None:
    ended, message = cluster.run(cluster.cycle())
    assert ended.code == 0, ended.err
    reading = cycle_of(ended, message)
    cycle = reading.cycle
    assert (cycle.outcome, cycle.mode) == ("Succeeded", "DryRun")
    assert (cycle.total_scanned, cycle.verified_orphans) == (60, len(cluster.world.orphans))
    assert cycle.coverage[0].column.endswith("avatar_url")
    assert cycle.coverage[0].resolved == 45
    assert reading.pending is None
    assert reading.metrics is not None
    assert reading.metrics.total_runs == 1
    log = read_log(ended.err)
    assert log.operation_id == cycle.operation_id
    assert isinstance(log, LogReading)
    assert log.progress is not None
    assert cluster.secrets["media-s3"]["AWS_SECRET_ACCESS_KEY"] not in ended.out + ended.err + message


def test_a_plan_waits_is_approved_by_its_digest_and_swept(cluster: Cluster) -> None:
    cluster.spec(mode="Execute", approval="Manual")
    ended, message = cluster.run(cluster.cycle())
    waiting = cycle_of(ended, message)
    assert (ended.code, waiting.cycle.outcome) == (0, "AwaitingApproval")
    assert waiting.pending is not None
    assert waiting.pending.objects == len(cluster.world.orphans)
    assert waiting.pending.expires_at is not None
    assert cluster.world.keys() == cluster.world.referenced | cluster.world.orphans

    approved = cluster.cycle(Trigger.APPROVAL, waiting.pending.plan_digest)
    ended, message = cluster.run(approved)
    cycle = cycle_of(ended, message).cycle
    assert (ended.code, cycle.outcome) == (0, "Succeeded"), ended.err
    assert cycle.operation_id == waiting.cycle.operation_id
    assert cycle.deleted_count == len(cluster.world.orphans)
    assert cluster.world.keys() == cluster.world.referenced


def test_an_approval_of_no_plan_is_refused(cluster: Cluster) -> None:
    cluster.spec(mode="Execute", approval="Manual")
    ended, message = cluster.run(cluster.cycle(Trigger.APPROVAL, "ab" * 32))
    cycle = cycle_of(ended, message).cycle
    assert (ended.code, cycle.outcome) == (3, "Refused")
    assert "has a plan with the digest" in cycle.errors[0]
    assert cluster.world.keys() == cluster.world.referenced | cluster.world.orphans


def test_a_guards_no_is_told_with_its_numbers_and_can_be_approved(cluster: Cluster) -> None:
    cluster.spec(mode="Execute", limits={"maxDeleteObjects": 3})
    ended, message = cluster.run(cluster.cycle())
    reading = cycle_of(ended, message)
    assert (ended.code, reading.cycle.outcome) == (3, "Refused")
    assert reading.cycle.guards == (f"maxDeleteObjects: {len(cluster.world.orphans)}, limit 3",)
    assert reading.pending is not None
    ended, message = cluster.run(cluster.cycle(Trigger.APPROVAL, reading.pending.plan_digest))
    assert cycle_of(ended, message).cycle.outcome == "Succeeded"
    assert cluster.world.keys() == cluster.world.referenced


@pytest.mark.parametrize("secret", ["shop-db", "media-s3", "vault-s3"])
def test_a_wrong_secret_is_said_and_never_shown(cluster: Cluster, secret: str) -> None:
    for key, value in cluster.secrets[secret].items():
        wrong = value.replace("postgres:", "nobody-hunter2:") if key == "url" else "hunter2-is-wrong"
        if key == "url" and wrong == value:
            wrong = "postgresql://nobody:hunter2@127.0.0.1:1/shop"
        cluster.secrets[secret][key] = wrong
    ended, message = cluster.run(cluster.cycle())
    cycle = cycle_of(ended, message).cycle
    assert ended.code not in (0, 143)
    assert cycle.outcome == "Failed"
    assert len(cycle.errors[0]) > 20
    assert "hunter2" not in ended.out + ended.err + message


def test_sigterm_in_the_sweep_leaves_what_was_done(cluster: Cluster) -> None:
    cluster.spec(
        mode="Execute",
        engine=SLOW,
        limits={"maxDeletePercent": 100},
    )
    process, message = cluster.start(cluster.cycle())
    wait_for_the_sweep(process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    cycle = cycle_of(Ended(143, out, err), message.read_text()).cycle
    left = cluster.world.keys()
    assert cluster.world.referenced <= left
    assert cycle.outcome == "PartiallyFailed"
    assert cycle.deleted_count == len(cluster.world.orphans) - len(left - cluster.world.referenced)
    cluster.spec(engine={})
    ended, _ = cluster.run(cluster.cycle(token="two"))
    assert ended.code == 0, ended.err
    assert cluster.world.keys() == cluster.world.referenced


def test_the_jobs_deadline_ends_a_cycle_in_good_order_before_kubernetes_would(cluster: Cluster) -> None:
    cluster.spec(
        mode="Execute",
        engine=SLOW,
        limits={"maxDeletePercent": 100},
    )
    job = cluster.cycle()
    soon = (datetime.now(UTC) + timedelta(seconds=12)).isoformat()
    began = time.monotonic()
    ended, message = cluster.run(job, S3GC_STOP_AT=soon)
    assert ended.code in (1, 4), ended.err
    assert time.monotonic() - began < 90
    cycle = cycle_of(ended, message).cycle
    assert cycle.outcome in ("PartiallyFailed", "Failed")
    assert cluster.world.referenced <= cluster.world.keys()


def test_a_pod_that_comes_after_the_deadline_says_so(cluster: Cluster) -> None:
    ended, message = cluster.run(cluster.cycle(), S3GC_STOP_AT="2020-01-01T00:00:00Z")
    assert ended.code == 1
    assert "the Job's deadline is too near to begin" in cycle_of(ended, message).cycle.errors[0]


def test_a_killed_process_leaves_no_message_and_the_next_carries_on(cluster: Cluster) -> None:
    cluster.spec(mode="Execute", engine=SLOW, limits={"maxDeletePercent": 100})
    process, message = cluster.start(cluster.cycle())
    wait_for_the_sweep(process)
    process.kill()
    process.communicate()
    assert not message.exists()
    cluster.spec(engine={})
    ended, said = cluster.run(cluster.cycle())
    assert cycle_of(ended, said).cycle.outcome == "Succeeded", ended.err
    assert cluster.world.keys() == cluster.world.referenced


def test_a_restore_brings_everything_back_once(cluster: Cluster) -> None:
    cluster.spec(mode="Execute", limits={"maxDeletePercent": 100})
    assert cluster.run(cluster.cycle())[0].code == 0
    secrets = copy.deepcopy(cluster.secrets)
    del cluster.secrets["shop-db"]  # a restore needs no database
    dry, said = cluster.run(cluster.restore({"latest": True, "dryRun": True}, "look"))
    assert (restore_of(dry, said).reason, restore_of(dry, said).restored_count) == (
        "DryRun",
        len(cluster.world.orphans),
    )
    assert cluster.world.keys() == cluster.world.referenced

    job = cluster.restore({"latest": True})
    ended, said = cluster.run(job)
    first = restore_of(ended, said)
    assert first.succeeded, ended.err
    assert first.restored_count == len(cluster.world.orphans)
    assert cluster.world.keys() == cluster.world.referenced | cluster.world.orphans

    # Deleted again, by a person this time; the same GCRestore, made again by a tool, does not undo that.
    gone = min(cluster.world.orphans)
    cluster.world.client.delete_object(Bucket=cluster.world.bucket, Key=gone)
    again, said = cluster.run(job)
    assert restore_of(again, said) == first
    assert cluster.world.keys() == (cluster.world.referenced | cluster.world.orphans) - {gone}
    cluster.secrets = secrets


def test_a_restore_of_some_keys_to_another_place(cluster: Cluster) -> None:
    cluster.spec(mode="Execute", limits={"maxDeletePercent": 100})
    assert cluster.run(cluster.cycle())[0].code == 0
    wanted = sorted(cluster.world.orphans)[:2]
    spec = {"latest": True, "keys": [*wanted, "no/such/$(HOME)"], "target": {"prefix": "friday/"}}
    ended, said = cluster.run(cluster.restore(spec))
    reading = restore_of(ended, said)
    assert reading.restored_count == 2
    assert cluster.world.keys() == cluster.world.referenced | {f"friday/{key}" for key in wanted}
    assert any("no/such/$(HOME)" in error for error in reading.errors) or reading.succeeded


def test_a_restore_of_what_is_not_there_fails_with_a_sentence(cluster: Cluster) -> None:
    assert cluster.run(cluster.cycle())[0].code == 0
    ended, said = cluster.run(cluster.restore({"operationID": "01HX3K9V7QW2M4N8R5T6Y0ZABC"}))
    reading = restore_of(ended, said)
    assert not reading.succeeded
    assert "01HX3K9V7QW2M4N8R5T6Y0ZABC" in reading.message
    assert json.loads(said)["outcome"] == "Failed"
