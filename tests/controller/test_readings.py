"""What a Job said, and what is made of its silence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.controller.observe import JobState, read_pod
from s3gc.controller.readings import gone_cycle, pod_trouble, read_cycle, read_log, read_restore
from s3gc.results import Outcome
from tests.controller.made import DIGEST, NOW, OPERATION, at, job, pod, short

FAILED = job(state=JobState.FAILED)


# --- a cycle


def test_a_result_is_read_whole() -> None:
    message = short(
        total_scanned=1000,
        candidates_found=50,
        deleted_count=40,
        backed_up_count=41,
        skipped_count=1,
        late_references=2,
        reclaimed_bytes=123456,
        plan_digest=DIGEST,
        verification="query",
        sources=[
            {"name": "shop", "level": "query", "next_step": "ALTER ROLE s3gc REPLICATION"},
            {"name": "blog", "level": "cdc", "reason": "r" * 900, "lag_bytes": 5},
        ],
        metrics={"total_runs": 7, "vault_size_bytes": 99, "avg_compression_ratio": 2.5, "last_run_at": None},
    )
    reading = read_cycle(job(), [pod(message)])
    cycle = reading.cycle
    assert (cycle.outcome, cycle.mode, cycle.operation_id) == (Outcome.SUCCEEDED, "Execute", OPERATION)
    assert (cycle.total_scanned, cycle.deleted_count, cycle.late_references) == (1000, 40, 2)
    assert (cycle.job_name, cycle.job_uid) == ("media-r1", "job-media-r1")
    assert [(one.name, one.level, one.next_step, one.lag_bytes) for one in cycle.sources] == [
        ("shop", "query", "ALTER ROLE s3gc REPLICATION", None),
        ("blog", "cdc", "", 5),
    ]
    assert cycle.duration_seconds == 55.5
    assert cycle.completion_time == at("02:31")
    assert reading.metrics is not None
    assert (reading.metrics.total_runs, reading.metrics.vault_size_bytes) == (7, 99)
    assert reading.pending is None


def test_the_log_adds_coverage_errors_and_the_report() -> None:
    whole = {
        "operation_id": OPERATION,
        "errors": [f"error {n}" for n in range(30)],
        "coverage": [{"source": "shop", "column": f"users.c{n}", "values": n} for n in range(30)],
        "report": "s3://vault/report.html",
        "sources": [{"name": f"s{n}", "level": "rescan"} for n in range(30)],
    }
    log = "not json\n" + json.dumps({"event": "progress", "phase": "Deleting"}) + "\n" + json.dumps(whole)
    cycle = read_cycle(FAILED, [pod(short("PartiallyFailed", errors=["error 0"]), 4)], log).cycle
    assert (len(cycle.coverage), len(cycle.sources)) == (20, 16)
    assert cycle.coverage[3].values == 3
    assert len(cycle.errors) == 10
    assert cycle.report == "s3://vault/report.html"


def test_the_log_of_another_operation_adds_nothing() -> None:
    log = json.dumps({"operation_id": "other", "report": "elsewhere"})
    assert read_cycle(job(), [pod(short())], log).cycle.report is None


def test_a_refusal_shows_the_guards_with_their_numbers() -> None:
    guards = [
        {
            "guard": "maxDeletePercent",
            "subject": "",
            "value": 31.4,
            "limit": 10,
            "waivable": True,
            "waived": False,
        },
        {"guard": "minResolvedPercent", "subject": "users.bio", "value": 0, "limit": 10, "waivable": True},
        {"guard": "maxUnparsedPercent", "subject": "x", "value": 9, "limit": 5, "waived": True},
    ]
    cycle = read_cycle(FAILED, [pod(short("Refused", guards=guards), 3)]).cycle
    assert cycle.guards == (
        "maxDeletePercent: 31.4, limit 10",
        "minResolvedPercent of users.bio: 0, limit 10",
    )


@pytest.mark.parametrize(
    ("outcome", "guards", "is_pending"),
    [
        ("AwaitingApproval", [], True),
        ("Refused", [{"guard": "maxDeletePercent", "waivable": True}], True),
        (
            "Refused",
            [{"guard": "maxDeletePercent", "waivable": True}, {"guard": "minReferences", "waivable": False}],
            False,
        ),
        ("Refused", [], False),  # refused before there was a plan
        ("Succeeded", [], False),
        ("PartiallyFailed", [], False),
    ],
)
def test_a_plan_waits_only_where_an_approval_would_help(
    outcome: str, guards: list[dict[str, Any]], is_pending: bool
) -> None:
    message = short(
        outcome,
        guards=guards,
        plan_digest=DIGEST,
        planned_objects=40,
        reclaimable_bytes=1000,
        approval_expires_at="2026-11-24T02:30:00+00:00",
    )
    state = job() if outcome in ("AwaitingApproval", "Succeeded") else FAILED
    pending = read_cycle(state, [pod(message, 0)]).pending
    assert (pending is not None) == is_pending
    if pending is not None:
        assert (pending.plan_digest, pending.objects, pending.bytes) == (DIGEST, 40, 1000)
        assert pending.expires_at == at("2026-11-24 02:30")


def test_the_last_pod_has_the_last_word() -> None:
    first = pod(short("Failed", errors=["the store did not answer"]), 1, name="a")
    second = pod(short("Succeeded"), 0, name="b", created=at("02:40"))
    assert read_cycle(job(), [second, first]).cycle.outcome == Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("state", "pods", "outcome", "word"),
    [
        (JobState.COMPLETE, [], Outcome.UNKNOWN, "left no result"),
        (JobState.COMPLETE, [pod("")], Outcome.UNKNOWN, "left no result"),
        (JobState.COMPLETE, [pod("all is well")], Outcome.UNKNOWN, "left no result"),
        (JobState.FAILED, [], Outcome.FAILED, "BackoffLimitExceeded"),
        (
            JobState.FAILED,
            [pod("", 137, ended_reason="OOMKilled")],
            Outcome.FAILED,
            "OOMKilled, exit code 137",
        ),
        (JobState.FAILED, [pod("", None, phase="Failed", reason="Evicted")], Outcome.FAILED, "Evicted"),
        (
            JobState.FAILED,
            [pod("Traceback\nMemoryError: no", 1)],
            Outcome.FAILED,
            "its log ends with: MemoryError",
        ),
        # It said so, and then it was ended otherwise than by its own exit.
        (JobState.FAILED, [pod(short("Succeeded"), 137)], Outcome.UNKNOWN, ""),
        (JobState.FAILED, [pod(short("AwaitingApproval"), 1)], Outcome.UNKNOWN, ""),
        (
            JobState.FAILED,
            [pod({"outcome": "Failed", "errors": ["no right"]}, 2)],
            Outcome.FAILED,
            "no right",
        ),
        (JobState.COMPLETE, [pod({"outcome": "Splendid"})], Outcome.UNKNOWN, "left no result"),
    ],
)
def test_silence_is_never_a_success(state: JobState, pods: list[Any], outcome: Outcome, word: str) -> None:
    cycle = read_cycle(job(state=state), pods).cycle
    assert cycle.outcome == outcome
    assert word in " ".join(cycle.errors)


def test_a_job_that_is_gone_is_unknown() -> None:
    cycle = gone_cycle("media-1", "u", NOW, at("03:00"))
    assert cycle.outcome == Outcome.UNKNOWN
    assert "is gone and left no result" in cycle.errors[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *short(),
        "plan_digest",
        "guards",
        "metrics",
        "coverage",
        "sources",
        "approval_expires_at",
        "total_scanned",
    ]
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=12), st.sampled_from(list(JobState)), st.text(max_size=300))
def test_whatever_a_process_writes_makes_a_status_that_the_api_server_takes(
    message: dict[str, Any], state: JobState, log: str
) -> None:
    text = json.dumps(message)
    reading = read_cycle(job(state=state), [pod(text, 1)], log + "\n" + text)
    cycle = type(reading.cycle).model_validate(reading.cycle.model_dump())
    for error in (*cycle.errors, *cycle.guards):
        assert len(error) <= 1024
    if state is not JobState.COMPLETE:
        assert cycle.outcome not in (Outcome.SUCCEEDED, Outcome.AWAITING_APPROVAL)


def test_credentials_in_a_message_are_not_passed_on() -> None:
    message = short("Failed", errors=["postgresql://app:hunter2@db/shop refused"])
    assert "hunter2" not in str(read_cycle(FAILED, [pod(message, 1)]).cycle)
    raw = pod("cannot connect to postgresql://app:hunter2@db/shop", 1)
    assert "hunter2" not in str(read_cycle(FAILED, [raw]).cycle)


# --- a log


def test_progress_is_the_last_line_that_has_some() -> None:
    lines = [
        {"event": "progress", "phase": "Listing", "listed": 10, "operationID": None},
        {"event": "progress", "phase": "Reading", "listed": 10, "references": 5, "operationID": OPERATION},
        {"event": "log", "message": "something"},
    ]
    log = read_log("\n".join(json.dumps(line) for line in lines) + '\n{"event": "progress", "pha')
    assert (log.phase, log.operation_id) == ("Reading", OPERATION)
    assert log.progress is not None
    assert (log.progress.listed, log.progress.references) == (10, 5)
    assert log.result == {}


def test_a_phase_is_one_of_ours() -> None:
    assert read_log('{"event": "progress", "phase": "<script>"}').phase is None


# --- why a pod does not run


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Pending"}, None),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    {"name": "s3gc", "state": {"waiting": {"reason": "ContainerCreating"}}}
                ],
            },
            None,
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    {
                        "name": "s3gc",
                        "state": {
                            "waiting": {
                                "reason": "CreateContainerConfigError",
                                "message": 'secret "shop-db" not found',
                            }
                        },
                    }
                ],
            },
            'pod media-1-x: CreateContainerConfigError: secret "shop-db" not found',
        ),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes",
                    }
                ],
            },
            "pod media-1-x: Unschedulable: 0/1 nodes",
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    {"name": "s3gc", "state": {"running": {"startedAt": "2026-11-23T02:30:00Z"}}}
                ],
            },
            None,
        ),
    ],
)
def test_why_a_pod_does_not_run_is_said(status: dict[str, Any], said: str | None) -> None:
    seen = read_pod({"metadata": {"name": "media-1-x"}, "status": status})
    assert pod_trouble([seen]) == said


# --- a restore


def message_of(**changes: Any) -> dict[str, Any]:
    return {
        "operation_id": OPERATION,
        "dry_run": False,
        "restored_count": 5,
        "skipped_count": 2,
        "failed_count": 0,
        "restored_bytes": 999,
        "errors": [],
        **changes,
    }


@pytest.mark.parametrize(
    ("state", "pods", "succeeded", "reason", "words"),
    [
        (JobState.COMPLETE, [pod(message_of())], True, "Restored", "5 brought back, 2 were there already"),
        (JobState.COMPLETE, [pod(message_of(dry_run=True))], True, "DryRun", "5 would come back"),
        (
            JobState.FAILED,
            [pod(message_of(failed_count=1, errors=["a.jpg: no room"]), 7)],
            False,
            "RestoreFailed",
            "1 failed: a.jpg: no room",
        ),
        (JobState.FAILED, [pod(message_of(), 137)], False, "RestoreFailed", "5 brought back"),
        (
            JobState.FAILED,
            [pod({"outcome": "Failed", "errors": ["no such operation"]}, 7)],
            False,
            "RestoreFailed",
            "no such operation",
        ),
        (JobState.FAILED, [pod("", 137, ended_reason="OOMKilled")], False, "RestoreFailed", "OOMKilled"),
        (JobState.COMPLETE, [], False, "ResultUnknown", "left no result"),
        (JobState.COMPLETE, [pod("")], False, "ResultUnknown", "left no result"),
    ],
)
def test_a_restore_is_read(
    state: JobState, pods: list[Any], succeeded: bool, reason: str, words: str
) -> None:
    reading = read_restore(job(state=state), pods)
    assert (reading.succeeded, reading.reason) == (succeeded, reason)
    assert words in reading.message
