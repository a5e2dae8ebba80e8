"""The operator on a real API server: what a person asks for, and what they see."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.controller.conftest import NAMESPACE, Hands, Named, Operator, eventually, never, policy, result_of
from tests.controller.made import DIGEST, OPERATION
from tests.testbed.kubernetes import Kubernetes


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:00Z")


def made(hands: Hands, **changes: Any) -> Named:
    """A BucketGC that the operator has seen."""
    wanted = policy(**changes)
    hands.create("bucketgcs", wanted.name, wanted.spec)
    eventually(f"{wanted.name} is looked at", lambda: hands.status(wanted.name).get("observedGeneration"))
    return wanted


@pytest.fixture(scope="module", autouse=True)
def every_minute(plane: Kubernetes, operator: Operator) -> tuple[Named, datetime]:
    """A policy whose time comes while the other tests run; the last one looks at what has become of it."""
    hands = Hands(plane, NAMESPACE)
    gc = made(hands, schedule="* * * * *")
    return gc, datetime.fromisoformat(hands.status(gc.name)["nextScheduleTime"])


# --- a cycle


def test_a_requested_cycle_from_the_annotation_to_the_result(hands: Hands) -> None:
    gc = made(hands)
    assert hands.condition(gc.name, "Ready") == ("True", "OnDemand")
    assert hands.condition(gc.name, "LastCycleSucceeded") == ("Unknown", "NoCycleYet")
    hands.request(gc.name)
    job = hands.job(gc.name)
    eventually("it is shown", lambda: hands.status(gc.name).get("active", {}).get("jobName") == job)
    assert hands.status(gc.name)["lastHandledRunRequest"] == "one"
    assert hands.condition(gc.name, "CycleRunning") == ("True", "Pending")
    hands.run(job)
    eventually("it runs", lambda: hands.condition(gc.name, "CycleRunning") == ("True", "Running"))
    hands.end(job, result_of(deleted_count=7, total_scanned=100, metrics={"total_runs": 1}))
    cycle = eventually("its result", lambda: hands.status(gc.name).get("lastCycle"))
    assert (cycle["outcome"], cycle["deletedCount"], cycle["operationID"]) == ("Succeeded", 7, OPERATION)
    status = hands.status(gc.name)
    assert "active" not in status
    assert status["metrics"]["totalRuns"] == 1
    assert status["history"][0]["deletedCount"] == 7
    assert hands.condition(gc.name, "LastCycleSucceeded") == ("True", "Succeeded")
    assert hands.condition(gc.name, "CycleRunning") == ("False", "Idle")
    # There is no node here, which is said as well.
    told = eventually("its events", lambda: (e := hands.events(gc.name)) and e[-1] == "CycleSucceeded" and e)
    assert [each for each in told if each != "PodNotRunning"] == ["CycleStarted", "CycleSucceeded"]
    never("another Job for the same token", lambda: len(hands.jobs(gc.name)) != 1, 2)


def test_a_time_that_passed_is_caught_up_once(hands: Hands) -> None:
    now = datetime.now(UTC)
    gc = made(hands, schedule=f"{(now.minute + 30) % 60} * * * *")
    promised = eventually("a promise", lambda: hands.status(gc.name).get("nextScheduleTime"))
    # The operator was away for a day: what it promised lies behind.
    passed = (datetime.fromisoformat(promised) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    hands.patch("bucketgcs", gc.name, {"status": {"nextScheduleTime": passed}}, status=True)
    job = hands.job(gc.name)
    last = datetime.fromisoformat(promised) - timedelta(hours=1)
    assert job == f"{gc.name}-{int(last.timestamp()) // 60}"
    hands.finish(gc.name)
    status = hands.status(gc.name)
    assert status["nextScheduleTime"] == promised
    assert datetime.fromisoformat(status["lastScheduleTime"]) == last
    never("a second catch-up", lambda: len(hands.jobs(gc.name)) != 1, 2)


def test_a_suspended_schedule_starts_nothing_and_a_request_still_does(hands: Hands) -> None:
    gc = made(hands, schedule="0 0 1 1 *", suspend=True)
    hands.patch("bucketgcs", gc.name, {"status": {"nextScheduleTime": ago(hours=2)}}, status=True)
    never("a cycle", lambda: hands.jobs(gc.name), 2)
    assert hands.condition(gc.name, "Ready") == ("True", "Suspended")
    hands.request(gc.name)
    hands.finish(gc.name)
    hands.patch("bucketgcs", gc.name, {"spec": {"suspend": False}})
    eventually("it is resumed", lambda: hands.condition(gc.name, "Ready") == ("True", "Scheduled"))
    never("a catch-up of the suspension", lambda: len(hands.jobs(gc.name)) != 1, 2)


def test_a_time_that_could_not_start_within_its_deadline_is_left_out_and_said(hands: Hands) -> None:
    minute = (datetime.now(UTC).minute - 10) % 60
    gc = made(hands, schedule=f"{minute} * * * *", startingDeadlineSeconds=60)
    promised = hands.status(gc.name)["nextScheduleTime"]
    passed = (datetime.fromisoformat(promised) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    hands.patch("bucketgcs", gc.name, {"status": {"nextScheduleTime": passed}}, status=True)
    eventually("the event", lambda: "ScheduleMissed" in hands.events(gc.name))
    eventually("the next promise", lambda: hands.status(gc.name)["nextScheduleTime"] == promised)
    assert hands.jobs(gc.name) == []


def test_a_plan_waits_for_a_person_and_exactly_it_is_approved(hands: Hands) -> None:
    gc = made(hands, approval="Manual", mode="Execute")
    hands.request(gc.name)
    until = (datetime.now(UTC) + timedelta(hours=24)).isoformat()
    plan = {
        "plan_digest": DIGEST,
        "planned_objects": 40,
        "reclaimable_bytes": 4096,
        "approval_expires_at": until,
    }
    hands.finish(gc.name, "AwaitingApproval", **plan)
    pending = hands.status(gc.name)["pendingApproval"]
    assert (pending["planDigest"], pending["objects"], pending["bytes"]) == (DIGEST, 40, 4096)
    assert hands.condition(gc.name, "LastCycleSucceeded") == ("True", "AwaitingApproval")
    hands.annotate(gc.name, approve="cd34" * 16)
    never("a cycle for another plan", lambda: len(hands.jobs(gc.name)) != 1, 2)
    hands.annotate(gc.name, approve=DIGEST)
    job = hands.job(gc.name, 2)
    assert job == f"{gc.name}-a{DIGEST[:8]}"
    (container,) = hands.jobs(gc.name)[-1]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--approve", DIGEST]
    hands.finish(gc.name, number=2, deleted_count=40)
    assert "pendingApproval" not in hands.status(gc.name)


def test_a_guards_no_is_told_with_numbers_and_the_way_on(hands: Hands) -> None:
    gc = made(hands, mode="Execute")
    hands.request(gc.name)
    guard = {"guard": "maxDeletePercent", "subject": "", "value": 31.0, "limit": 10.0, "waivable": True}
    hands.finish(gc.name, "Refused", 3, guards=[guard], plan_digest=DIGEST, planned_objects=31)
    found = next(each for each in hands.status(gc.name)["conditions"] if each["type"] == "LastCycleSucceeded")
    assert (found["status"], found["reason"]) == ("False", "Refused")
    assert "maxDeletePercent: 31, limit 10" in found["message"]
    assert f"s3gc.dev/approve={DIGEST}" in found["message"]
    assert hands.condition(gc.name, "Ready") == ("True", "OnDemand")
    assert len(hands.jobs(gc.name)) == 1, "exit code 3 is not tried again"


# --- faults of a Job


def test_a_process_that_dies_is_tried_again_and_then_failed_with_its_reason(hands: Hands) -> None:
    gc = made(hands)
    hands.request(gc.name)
    job = hands.job(gc.name)
    hands.end(job, "", 137, reason="OOMKilled")
    second = eventually("another pod", lambda: hands.pod(job))
    assert second
    # Kubernetes waits longer before each next one; a person would wait, this test fails it for good.
    hands.end(job, result_of("Failed", errors=["spec.bucket: no such bucket"]), 2)
    cycle = eventually("its result", lambda: hands.status(gc.name).get("lastCycle"))
    assert (cycle["outcome"], cycle["errors"]) == ("Failed", ["spec.bucket: no such bucket"])


def test_a_process_without_last_words_never_succeeds(hands: Hands) -> None:
    gc = made(hands)
    hands.request(gc.name)
    hands.end(hands.job(gc.name), "", 0)
    eventually("unknown", lambda: hands.condition(gc.name, "LastCycleSucceeded") == ("Unknown", "ResultLost"))
    assert hands.status(gc.name)["lastCycle"]["outcome"] == "Unknown"
    assert "lastSuccessTime" not in hands.status(gc.name)


def test_a_pod_that_was_out_of_memory_is_said_by_kubernetes_word(hands: Hands) -> None:
    gc = made(hands)
    hands.request(gc.name)
    job = hands.job(gc.name)
    # Exit code 2 with a message of somebody else's: the Job fails at once, as by the pod failure policy.
    hands.end(job, "the container was killed", 2, reason="OOMKilled")
    cycle = eventually("its result", lambda: hands.status(gc.name).get("lastCycle"))
    assert cycle["outcome"] == "Failed"
    assert "OOMKilled, exit code 2" in cycle["errors"][0]


def test_a_job_that_somebody_deletes_is_unknown_and_the_next_runs(hands: Hands) -> None:
    gc = made(hands)
    hands.request(gc.name)
    job = hands.job(gc.name)
    hands.run(job)
    eventually("it is shown", lambda: hands.status(gc.name).get("active"))
    hands.delete("jobs", job)
    cycle = eventually("its end", lambda: hands.status(gc.name).get("lastCycle"))
    assert cycle["outcome"] == "Unknown"
    assert "is gone and left no result" in cycle["errors"][0]
    assert "CycleResultLost" in eventually("its event", lambda: hands.events(gc.name)[1:])
    hands.request(gc.name, "two")
    eventually("the next", lambda: [each for each in hands.jobs(gc.name) if each["metadata"]["name"] != job])


def test_why_a_pod_does_not_start_is_shown(hands: Hands) -> None:
    gc = made(hands)
    hands.request(gc.name)
    job = hands.job(gc.name)
    hands.waiting(job, "CreateContainerConfigError", 'secret "shop-db" not found')
    found = eventually("the reason", lambda: hands.status(gc.name)["active"].get("message"))
    assert 'secret "shop-db" not found' in found
    eventually("its event", lambda: "PodNotRunning" in hands.events(gc.name))
    hands.finish(gc.name)


def test_a_policy_that_is_deleted_takes_its_job_along(hands: Hands) -> None:
    gc = made(hands)
    hands.request(gc.name)
    job = hands.job(gc.name)
    hands.run(job)
    hands.delete("bucketgcs", gc.name)
    eventually("it is gone", lambda: hands.get("bucketgcs", gc.name) is None)
    eventually("its Job is gone", lambda: hands.get("jobs", job) is None)


# --- what must not be


def test_a_spec_that_cannot_be_used_is_a_condition_with_its_field(hands: Hands) -> None:
    gc = made(hands, schedule="61 2 * * *", timeZone="Europe/Atlantis")
    stalled = next(each for each in hands.status(gc.name)["conditions"] if each["type"] == "Stalled")
    assert stalled["reason"] == "InvalidSpec"
    assert "spec.schedule" in stalled["message"]
    assert "spec.timeZone" in stalled["message"]
    hands.request(gc.name)
    never("a cycle", lambda: hands.jobs(gc.name), 2)
    hands.patch("bucketgcs", gc.name, {"spec": {"schedule": "30 2 * * *", "timeZone": "Europe/Berlin"}})
    eventually("it is used", lambda: hands.condition(gc.name, "Ready") == ("True", "Scheduled"))
    assert hands.condition(gc.name, "Stalled") is None
    assert hands.job(gc.name), "the request that waited"


def test_policies_that_overlap_are_refused_both(hands: Hands) -> None:
    one = made(hands, bucket={"name": "the-same", "prefixes": ["uploads/"]})
    other = made(hands, bucket={"name": "the-same"})
    for name in (one.name, other.name):
        eventually(
            f"{name} is refused", lambda n=name: hands.condition(n, "Stalled") == ("True", "ScopeOverlap")
        )
        hands.request(name)
    never("a cycle", lambda: hands.jobs(one.name) + hands.jobs(other.name), 2)
    hands.patch("bucketgcs", other.name, {"spec": {"bucket": {"prefixes": ["media/"]}}})
    for name in (one.name, other.name):
        eventually(f"{name} is used", lambda n=name: hands.condition(n, "Ready") == ("True", "OnDemand"))
        assert hands.job(name)
    eventually("their event", lambda: "Resumed" in hands.events(one.name))


def test_a_job_that_the_api_server_does_not_take_is_a_condition(hands: Hands) -> None:
    gc = made(hands, job={"affinity": {"nodeAffinity": "somewhere"}})
    hands.request(gc.name)
    eventually("it is said", lambda: hands.condition(gc.name, "Stalled") == ("True", "JobRejected"))
    hands.patch("bucketgcs", gc.name, {"spec": {"job": {"affinity": None}}})
    assert hands.job(gc.name)
    eventually("it is fine", lambda: hands.condition(gc.name, "Stalled") is None)


def test_a_policy_too_large_for_a_process_is_a_condition(hands: Hands) -> None:
    gc = made(
        hands, bucket={"name": "large", "excludePrefixes": [f"{n:04}/" + "x" * 200 for n in range(1000)]}
    )
    assert hands.condition(gc.name, "Stalled") == ("True", "PolicyTooLarge")


def test_a_job_of_somebody_else_with_our_name_is_left_alone(hands: Hands) -> None:
    gc = made(hands)
    other = made(hands)
    hands.request(other.name)
    foreign = hands.jobs(other.name) or [hands.get("jobs", hands.job(other.name))]
    body = json.loads(json.dumps(foreign[0]))
    from s3gc.controller.jobs import cycle_job_name
    from s3gc.controller.observe import Trigger

    name = cycle_job_name(gc.name, Trigger.REQUEST, token="one")
    template = body["spec"]["template"]
    for key in list(template["metadata"]["labels"]):
        if "controller-uid" in key or "job-name" in key:
            del template["metadata"]["labels"][key]
    hands.objects.create_namespaced_custom_object(
        "batch",
        "v1",
        NAMESPACE,
        "jobs",
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "ownerReferences": body["metadata"]["ownerReferences"]},
            "spec": {"template": template, "suspend": True},
        },
    )
    hands.request(gc.name)
    eventually("it is said", lambda: hands.condition(gc.name, "Reconciling") == ("True", "JobNameTaken"))
    assert hands.status(gc.name).get("active") is None
    hands.delete("bucketgcs", other.name)


# --- one vault, one Job


def test_jobs_of_one_vault_never_run_side_by_side(hands: Hands) -> None:
    vault = {"persistentVolumeClaim": {"claimName": "shared-by-two"}}
    one, other = made(hands, vault=vault), made(hands, vault=vault)
    hands.request(one.name)
    first = hands.job(one.name)
    hands.request(other.name)
    eventually(
        "it waits", lambda: hands.condition(other.name, "CycleRunning") == ("False", "WaitingForVault")
    )
    hands.run(first)
    never("a second Job", lambda: hands.jobs(other.name), 2)
    hands.finish(one.name)
    assert hands.job(other.name)
    hands.finish(other.name)


def test_pods_of_a_job_that_was_deleted_hold_the_vault_until_they_are_gone(hands: Hands) -> None:
    vault = {"persistentVolumeClaim": {"claimName": "slow-to-end"}}
    one, other = made(hands, vault=vault), made(hands, vault=vault)
    hands.request(one.name)
    job = hands.job(one.name)
    # On a node, as a pod that runs always is: one that ends and has none, Kubernetes itself would give up for lost.
    hands.core.create_node({"metadata": {"name": "slow"}, "spec": {"unschedulable": True}})
    target = {"apiVersion": "v1", "kind": "Node", "name": "slow"}
    hands.core.create_namespaced_binding(
        NAMESPACE, {"metadata": {"name": hands.pod(job)}, "target": target}, _preload_content=False
    )
    pod = hands.run(job)
    # A pod that ends slowly: as with a kubelet that waits for the process, the object stays for a while.
    keep = {"metadata": {"finalizers": ["tests.s3gc.dev/slow"]}}
    hands.core.patch_namespaced_pod(pod, NAMESPACE, keep)
    hands.delete("jobs", job)
    eventually("the Job is gone", lambda: hands.get("jobs", job) is None)
    hands.request(other.name)
    eventually(
        "it waits", lambda: hands.condition(other.name, "CycleRunning") == ("False", "WaitingForVault")
    )
    never("a Job beside that pod", lambda: hands.jobs(other.name), 3)
    hands.core.patch_namespaced_pod(pod, NAMESPACE, {"metadata": {"finalizers": None}})
    hands.core.delete_namespaced_pod(pod, NAMESPACE, grace_period_seconds=0)
    assert hands.job(other.name)
    hands.core.delete_node("slow")


def test_a_restore_goes_before_the_next_cycle(hands: Hands) -> None:
    vault = {"persistentVolumeClaim": {"claimName": "restore-first"}}
    one, other = made(hands, vault=vault), made(hands, vault=vault)
    hands.request(one.name)
    hands.job(one.name)
    hands.request(other.name)
    restore = f"undo-{one.name}"
    hands.create("gcrestores", restore, {"bucketGCRef": {"name": one.name}, "latest": True})
    eventually(
        "it waits",
        lambda: hands.condition(restore, "Succeeded", "gcrestores") == ("Unknown", "WaitingForVault"),
    )
    hands.finish(one.name)
    job = hands.job(restore)
    eventually(
        "the cycle waits", lambda: hands.condition(other.name, "CycleRunning") == ("False", "WaitingForVault")
    )
    assert hands.jobs(other.name) == []
    hands.run(job)
    hands.end(
        job,
        {
            "operation_id": OPERATION,
            "dry_run": False,
            "restored_count": 4,
            "skipped_count": 1,
            "failed_count": 0,
            "restored_bytes": 9,
            "errors": [],
        },
    )
    eventually(
        "it is done", lambda: hands.condition(restore, "Succeeded", "gcrestores") == ("True", "Restored")
    )
    assert hands.job(other.name)


# --- a restore


def restored(hands: Hands, name: str, gc: Named, **spec: Any) -> str:
    hands.create("gcrestores", name, {"bucketGCRef": {"name": gc.name}, **(spec or {"latest": True})})
    return hands.job(name)


def test_a_restore_from_its_creation_to_what_a_person_waits_for(hands: Hands, plane: Kubernetes) -> None:
    gc = made(hands)
    job = restored(hands, f"r-{gc.name}", gc, operationID=OPERATION, keys=["a.jpg"])
    (container,) = hands.jobs(f"r-{gc.name}")[0]["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["restore", OPERATION, "--no-dry-run"]
    assert "--key=a.jpg" in container["args"]
    hands.run(job)
    hands.end(
        job,
        {
            "operation_id": OPERATION,
            "dry_run": False,
            "restored_count": 1,
            "skipped_count": 0,
            "failed_count": 0,
            "restored_bytes": 9,
            "errors": [],
        },
    )
    plane.kubectl(
        "-n", NAMESPACE, "wait", "--for=condition=Succeeded", f"gcrestore/r-{gc.name}", "--timeout=60s"
    )
    status = hands.status(f"r-{gc.name}", "gcrestores")
    assert (status["restoredCount"], status["operationID"]) == (1, OPERATION)
    assert hands.condition(f"r-{gc.name}", "Ready", "gcrestores") == ("True", "Restored")
    eventually("events", lambda: hands.events(f"r-{gc.name}") == ["RestoreStarted", "RestoreSucceeded"])
    hands.delete("jobs", job)
    never("a second restore", lambda: hands.jobs(f"r-{gc.name}") and hands.get("jobs", job) is None, 2)
    assert hands.condition(f"r-{gc.name}", "Succeeded", "gcrestores") == ("True", "Restored")


def test_a_restore_that_fails_is_stalled(hands: Hands) -> None:
    gc = made(hands)
    job = restored(hands, f"r-{gc.name}", gc)
    said = "nothing to restore: no operation of policy shop.media has deleted anything"
    hands.end(job, {"outcome": "Failed", "reason": "NothingToRestore", "errors": [said]}, 2)
    name = f"r-{gc.name}"
    eventually(
        "it failed", lambda: hands.condition(name, "Succeeded", "gcrestores") == ("False", "NothingToRestore")
    )
    assert hands.condition(name, "Stalled", "gcrestores") == ("True", "NothingToRestore")
    assert hands.status(name, "gcrestores")["errors"] == [said]


def test_a_restore_whose_job_is_deleted_is_no_success(hands: Hands) -> None:
    gc = made(hands)
    name = f"r-{gc.name}"
    job = restored(hands, name, gc)
    eventually("it is shown", lambda: hands.status(name, "gcrestores").get("jobName"))
    hands.delete("jobs", job)
    eventually(
        "unknown", lambda: hands.condition(name, "Succeeded", "gcrestores") == ("False", "ResultUnknown")
    )


def test_a_restore_waits_for_its_policy(hands: Hands) -> None:
    wanted = policy()
    name = f"r-{wanted.name}"
    hands.create("gcrestores", name, {"bucketGCRef": {"name": wanted.name}, "latest": True})
    eventually(
        "it waits", lambda: hands.condition(name, "Reconciling", "gcrestores") == ("True", "BucketGCNotFound")
    )
    hands.create("bucketgcs", wanted.name, wanted.spec)
    assert hands.job(name)


# --- the house


def test_finished_jobs_beyond_the_limits_go(hands: Hands) -> None:
    gc = made(hands, successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    for number in range(1, 4):
        hands.request(gc.name, f"token {number}")
        running = eventually(
            "a Job that runs", lambda: [j for j in hands.jobs(gc.name) if not j["status"].get("conditions")]
        )[0]["metadata"]["name"]
        hands.run(running)
        hands.end(running, result_of("Succeeded" if number < 3 else "Refused"), 0 if number < 3 else 3)
        eventually(
            "its result", lambda r=running: hands.status(gc.name).get("lastCycle", {}).get("jobName") == r
        )
    eventually("one is left", lambda: len(hands.jobs(gc.name)) == 1)
    assert [each["outcome"] for each in hands.status(gc.name)["history"]] == [
        "Refused",
        "Succeeded",
        "Succeeded",
    ]


def test_only_the_status_is_ever_written(hands: Hands, plane: Kubernetes) -> None:
    """No finalizer, no annotation, no field of spec: a GitOps tool sees nothing that is not the user's."""
    wanted = policy(schedule="30 2 * * *")
    manifest = {
        "apiVersion": "s3gc.dev/v1",
        "kind": "BucketGC",
        "metadata": {"name": wanted.name, "namespace": NAMESPACE},
        "spec": wanted.spec,
    }
    plane.kubectl("apply", "--server-side", "--field-manager=user", "-f", "-", text=json.dumps(manifest))
    hands.request(wanted.name)
    hands.finish(wanted.name)
    found = hands.get("bucketgcs", wanted.name)
    assert found is not None
    meta = found["metadata"]
    assert meta["generation"] == 1
    assert "finalizers" not in meta
    assert set(meta["annotations"]) == {"s3gc.dev/run-requested-at"}
    assert "labels" not in meta
    for entry in meta["managedFields"]:
        if entry.get("subresource") != "status":
            assert entry["manager"] != "s3gc-operator"
            continue
        assert set(entry["fieldsV1"]) == {"f:status"}
    same = plane.kubectl(
        "diff", "--server-side", "--field-manager=user", "-f", "-", text=json.dumps(manifest)
    )
    assert same == ""


def test_a_jobs_pod_is_let_into_a_namespace_for_restricted_pods_only(hands: Hands, plane: Kubernetes) -> None:
    gc = made(hands)
    hands.request(gc.name)
    job = hands.get("jobs", hands.job(gc.name))
    assert job is not None
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    with plane.namespace("restricted", restricted) as namespace:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "cycle", "namespace": namespace},
            "spec": job["spec"]["template"]["spec"],
        }
        plane.apply(pod, words=["--dry-run=server"])


def test_the_operators_rights_end_where_the_docs_say(plane: Kubernetes) -> None:
    who = "--as=system:serviceaccount:default:s3gc"
    for verb, resource in (
        ("get", "secrets"),
        ("list", "secrets"),
        ("update", "bucketgcs.s3gc.dev"),
        ("patch", "bucketgcs.s3gc.dev"),
        ("patch", "jobs.batch"),
        ("update", "jobs.batch"),
        ("delete", "pods"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("list", "namespaces"),
        ("get", "customresourcedefinitions"),
        ("create", "configmaps"),
    ):
        said = plane.kubectl("auth", "can-i", verb, resource, who, "-A", check=False)
        assert said.startswith("no"), (verb, resource)
    assert plane.kubectl("auth", "can-i", "create", "jobs.batch", who, "-A").strip() == "yes"


def test_probes_and_metrics(operator: Operator, hands: Hands) -> None:
    assert operator.get("/healthz") == (200, "ok")
    assert operator.get("/readyz") == (200, "ok")
    gc = made(hands, schedule="30 2 * * *")
    hands.request(gc.name)
    hands.finish(gc.name, deleted_count=3, total_scanned=50, metrics={"vault_size_bytes": 77})

    def text() -> str:
        return operator.get("/metrics")[1]

    labels = f'name="{gc.name}",namespace="shop"'
    eventually("the metrics", lambda: f's3gc_cycles_total{{{labels},outcome="Succeeded"}} 1.0' in text())
    assert f's3gc_objects_total{{action="deleted",{labels}}} 3.0' in text()
    assert f"s3gc_vault_size_bytes{{{labels}}} 77.0" in text()
    assert f"s3gc_schedule_expected_interval_seconds{{{labels}}} 86400.0" in text()
    assert f"s3gc_last_success_timestamp_seconds{{{labels}}}" in text()
    hands.delete("bucketgcs", gc.name)
    eventually("they go with it", lambda: gc.name not in text())


def test_a_scheduled_cycle_starts_at_its_minute(hands: Hands, every_minute: tuple[Named, datetime]) -> None:
    gc, promised = every_minute
    (job, *others) = eventually("the Job of the minute", lambda: hands.jobs(gc.name), 90)
    assert job["metadata"]["name"] == f"{gc.name}-{int(promised.timestamp()) // 60}"
    assert job["metadata"]["annotations"]["s3gc.dev/trigger"] == "Schedule"
    made_at = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    assert promised <= made_at <= promised + timedelta(seconds=45)
    assert others == [], "a Job that waits for its pod counts as one that runs"
    # The Job comes first and the status after it, so that a kill in between only has the Job adopted.
    noted = eventually("its time in the status", lambda: hands.status(gc.name).get("lastScheduleTime"), 60)
    assert datetime.fromisoformat(noted) == promised
    hands.delete("bucketgcs", gc.name)
