"""Statuses, conditions and events of both kinds: what is said, and that nothing is said twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from s3gc.controller import restores
from s3gc.controller.conditions import Said, Trouble, by_type, cycle_said, merge
from s3gc.controller.decide import Hold
from s3gc.controller.events import cycle_events, restore_events
from s3gc.controller.observe import JobState, Trigger
from s3gc.controller.readings import LogReading, RestoreReading, gone_cycle, read_cycle
from s3gc.controller.resources import GCObject, read_bucketgc
from s3gc.controller.status import active_of, said_of, take_in, with_conditions, without_old_approval
from s3gc.controller.statuses import (
    BucketGCStatus,
    GCRestoreStatus,
    PendingApproval,
    ProgressCounts,
    VaultMetrics,
)
from s3gc.results import Outcome
from tests.controller.made import (
    DIGEST,
    NOW,
    OPERATION,
    at,
    bucketgc,
    bucketgc_body,
    gcrestore,
    job,
    pod,
    short,
)

LATER = NOW + timedelta(minutes=5)


def told(gc: GCObject, status: BucketGCStatus, **world: Any) -> dict[str, tuple[str, str]]:
    world = {"trouble": None, "hold": None, **world}
    return {each.type: (each.status, each.reason) for each in said_of(gc, status, **world)}


# --- conditions


def test_a_transition_time_moves_with_the_status_alone() -> None:
    first = merge((), [Said("Ready", "True", "Scheduled", "a")], generation=1, now=NOW)
    same = merge(first, [Said("Ready", "True", "Suspended", "b")], generation=2, now=LATER)
    assert same[0].last_transition_time == NOW
    assert (same[0].reason, same[0].observed_generation) == ("Suspended", 2)
    other = merge(same, [Said("Ready", "False", "InvalidSpec", "c")], generation=3, now=LATER)
    assert other[0].last_transition_time == LATER


@pytest.mark.parametrize(
    ("spec", "world", "expected"),
    [
        ({}, {}, {"Ready": ("True", "OnDemand"), "CycleRunning": ("False", "Idle")}),
        ({"schedule": "30 2 * * *"}, {}, {"Ready": ("True", "Scheduled")}),
        ({"schedule": "30 2 * * *", "suspend": True}, {}, {"Ready": ("True", "Suspended")}),
        (
            {},
            {"trouble": Trouble("ScopeOverlap", "both")},
            {"Ready": ("False", "ScopeOverlap"), "Stalled": ("True", "ScopeOverlap")},
        ),
        (
            {},
            {"trouble": Trouble("JobForbidden", "quota", is_final=False)},
            {"Ready": ("False", "JobForbidden"), "Reconciling": ("True", "JobForbidden")},
        ),
        (
            {},
            {"hold": Hold(Trigger.REQUEST, "WaitingForVault", "by another")},
            {"CycleRunning": ("False", "WaitingForVault"), "Ready": ("True", "OnDemand")},
        ),
    ],
)
def test_what_the_conditions_say(
    spec: dict[str, Any], world: dict[str, Any], expected: dict[str, tuple[str, str]]
) -> None:
    found = told(bucketgc(**spec), BucketGCStatus(), **world)
    assert expected.items() <= found.items()
    trouble = world.get("trouble")
    assert ("Stalled" in found) == (trouble is not None and trouble.is_final)
    assert ("Reconciling" in found) == (trouble is not None and not trouble.is_final)
    assert found["LastCycleSucceeded"] == ("Unknown", "NoCycleYet")


@pytest.mark.parametrize(
    ("outcome", "code", "status", "reason"),
    [
        ("Succeeded", 0, "True", "Succeeded"),
        ("AwaitingApproval", 0, "True", "AwaitingApproval"),
        ("PartiallyFailed", 4, "False", "PartiallyFailed"),
        ("Refused", 3, "False", "Refused"),
        ("Failed", 1, "False", "Failed"),
        ("Unknown", 0, "Unknown", "ResultLost"),
    ],
)
def test_a_failed_cycle_leaves_ready_true(outcome: str, code: int, status: str, reason: str) -> None:
    state = JobState.COMPLETE if code == 0 else JobState.FAILED
    reading = read_cycle(job(state=state), [pod(short(outcome, errors=["why"]), code)])
    found = told(bucketgc(), take_in(BucketGCStatus(), reading, NOW))
    assert found["LastCycleSucceeded"] == (status, reason)
    assert found["Ready"] == ("True", "OnDemand")


def test_a_refusal_says_its_number_or_its_sentence_and_a_dry_run_what_an_execute_would_meet() -> None:
    sentence = "bucket 'shop-media' is not versioned and its store ignores If-Match on DELETE. The way on: enable versioning"
    bare = short("Refused", guards=[{"guard": "deletion"}], errors=[sentence])
    assert (
        cycle_said(read_cycle(job(state=JobState.FAILED), [pod(bare, 3)]).cycle, None).message
        == f"refused: {sentence}"
    )
    guards = [{"guard": "maxDeletePercent", "value": 63.5, "limit": 10}]
    counted = short("Refused", guards=guards, errors=["why"])
    said = cycle_said(read_cycle(job(state=JobState.FAILED), [pod(counted, 3)]).cycle, None)
    assert said.message == "refused: maxDeletePercent: 63.5, limit 10"
    dry = short(
        "Succeeded", mode="dry_run", total_scanned=9, verified_orphans=4, deletion="Execute would be refused"
    )
    said = cycle_said(read_cycle(job(), [pod(dry)]).cycle, None)
    assert said.message == "4 of 9 objects would go; Execute would be refused"


def test_a_plan_that_waits_says_how_to_approve_it() -> None:
    message = short("AwaitingApproval", plan_digest=DIGEST, planned_objects=1234)
    reading = read_cycle(job(), [pod(message)])
    said = cycle_said(reading.cycle, reading.pending)
    assert f"s3gc.dev/approve={DIGEST}" in said.message
    assert "1,234 objects" in said.message


# --- a cycle is taken in


def test_a_cycle_is_taken_in_with_everything_that_follows() -> None:
    running = BucketGCStatus(active=active_of(None, job(state=JobState.RUNNING), None, None))
    message = short(deleted_count=3, reclaimed_bytes=9, metrics={"total_runs": 4})
    status = take_in(running, read_cycle(job(), [pod(message)]), NOW)
    assert status.active is None
    assert status.last_cycle is not None
    assert status.last_cycle.deleted_count == 3
    assert status.last_success_time == at("02:31")
    assert status.accounted_until == NOW
    assert status.metrics is not None
    assert (status.history[0].operation_id, status.history[0].deleted_count) == (OPERATION, 3)


def test_a_failed_cycle_leaves_the_last_success_and_the_numbers() -> None:
    metrics = VaultMetrics(total_runs=3)
    before = BucketGCStatus(last_success_time=at("01:00"), metrics=metrics)
    after = take_in(before, read_cycle(job(state=JobState.FAILED), []), NOW)
    assert (after.last_success_time, after.metrics) == (at("01:00"), metrics)


def test_history_holds_ten_the_newest_first() -> None:
    status = BucketGCStatus()
    for number in range(15):
        status = take_in(status, read_cycle(job(f"j{number}", minutes=number), [pod(short())]), NOW)
    assert [each.job_uid for each in status.history] == [f"job-j{number}" for number in range(14, 4, -1)]


PENDING = BucketGCStatus(pending_approval=PendingApproval(plan_digest=DIGEST, expires_at=at("03:00")))


@pytest.mark.parametrize(
    ("outcome", "stays"),
    [("Failed", True), ("Succeeded", False), ("PartiallyFailed", False)],
)
def test_a_plan_waits_through_a_cycle_that_made_none(outcome: str, stays: bool) -> None:
    state = JobState.COMPLETE if outcome == "Succeeded" else JobState.FAILED
    after = take_in(PENDING, read_cycle(job(state=state), [pod(short(outcome), 1)]), NOW)
    assert (after.pending_approval is not None) == stays


def test_a_plan_waits_through_a_lost_result_and_ends_with_its_time() -> None:
    lost = take_in(PENDING, read_cycle(job(), []), NOW)
    assert lost.pending_approval is not None
    assert without_old_approval(lost, at("02:59")) == lost
    assert without_old_approval(lost, at("03:00")).pending_approval is None


def test_progress_that_was_seen_stays_until_there_is_more() -> None:
    running = job(state=JobState.RUNNING)
    log = LogReading("Listing", OPERATION, ProgressCounts(listed=7))
    first = active_of(None, running, log, None)
    assert (first.phase, first.operation_id) == ("Listing", OPERATION)
    assert active_of(first, running, None, None) == first
    assert active_of(first, running, LogReading(), None) == first
    assert active_of(None, running, None, None).phase == "Starting"
    assert active_of(None, job(state=JobState.PENDING), None, "no node").message == "no node"
    assert active_of(first, job("other", JobState.RUNNING), None, None).progress is None


def test_a_status_survives_the_way_to_the_api_server_and_back() -> None:
    reading = read_cycle(job(), [pod(short("AwaitingApproval", plan_digest=DIGEST, errors=["x"]))])
    status = take_in(BucketGCStatus(next_schedule_time=LATER), reading, NOW)
    said = said_of(bucketgc(), status, trouble=None, hold=None)
    status = with_conditions(status, said, generation=3, now=NOW)
    plain = status.to_json()
    assert plain["nextScheduleTime"] == "2026-11-23T02:35:00Z"
    assert "active" not in plain
    back = read_bucketgc(bucketgc_body(status=plain)).status
    assert back.to_json() == plain
    # What is the same is equal, so that nothing is written for it.
    again = with_conditions(back, said, generation=3, now=LATER)
    assert again == back


@pytest.mark.parametrize(
    "status",
    [
        None,
        "text",
        {"conditions": "none"},
        {"lastCycle": {"outcome": "Splendid"}, "lastHandledRunRequest": "one"},
        {"somethingNew": 1, "lastHandledRunRequest": "one"},
    ],
)
def test_a_status_of_another_version_is_read_as_far_as_it_is_understood(status: Any) -> None:
    found = BucketGCStatus.read(status)
    assert found.last_cycle is None
    if isinstance(status, dict) and "lastHandledRunRequest" in status:
        assert found.last_handled_run_request == "one"


# --- events


def reasons(before: BucketGCStatus, after: BucketGCStatus, **more: Any) -> list[str]:
    return [event.reason for event in cycle_events(before, after, ended=more.pop("ended", []), **more)]


def test_events_come_with_transitions_and_never_again() -> None:
    idle = BucketGCStatus()
    started = BucketGCStatus(active=active_of(None, job(state=JobState.PENDING), None, None))
    assert reasons(idle, started) == ["CycleStarted"]
    assert reasons(started, started) == []
    stuck = started.model_copy(
        update={"active": active_of(started.active, job(state=JobState.PENDING), None, "no node")}
    )
    assert reasons(started, stuck) == ["PodNotRunning"]
    assert reasons(stuck, stuck) == []


@pytest.mark.parametrize(
    ("outcome", "reason", "kind"),
    [
        (Outcome.SUCCEEDED, "CycleSucceeded", "Normal"),
        (Outcome.AWAITING_APPROVAL, "CycleAwaitsApproval", "Normal"),
        (Outcome.REFUSED, "CycleRefused", "Warning"),
        (Outcome.PARTIALLY_FAILED, "CyclePartiallyFailed", "Warning"),
        (Outcome.FAILED, "CycleFailed", "Warning"),
        (Outcome.UNKNOWN, "CycleResultLost", "Warning"),
    ],
)
def test_every_end_has_its_event(outcome: Outcome, reason: str, kind: str) -> None:
    cycle = gone_cycle("j", "u", NOW, NOW).model_copy(update={"outcome": outcome})
    (event,) = cycle_events(BucketGCStatus(), BucketGCStatus(), ended=[(cycle, None)])
    assert (event.reason, event.type) == (reason, kind)


def test_what_came_to_be_referenced_has_an_event_of_its_own() -> None:
    cycle = read_cycle(job(), [pod(short(late_references=2))]).cycle
    assert reasons(BucketGCStatus(), BucketGCStatus(), ended=[(cycle, None)]) == [
        "CycleSucceeded",
        "LateReferences",
    ]


def test_trouble_comes_and_goes_with_an_event() -> None:
    def status(trouble: Trouble | None) -> BucketGCStatus:
        said = said_of(bucketgc(), BucketGCStatus(), trouble=trouble, hold=None)
        return with_conditions(BucketGCStatus(), said, generation=1, now=NOW)

    fine, stalled = status(None), status(Trouble("InvalidSpec", "spec.schedule: no"))
    assert reasons(fine, stalled) == ["InvalidSpec"]
    assert reasons(stalled, stalled) == []
    assert reasons(stalled, status(Trouble("InvalidSpec", "spec.timeZone: no"))) == ["InvalidSpec"]
    assert reasons(stalled, fine) == ["Resumed"]


def test_a_missed_time_has_an_event() -> None:
    assert reasons(BucketGCStatus(), BucketGCStatus(), too_late=NOW) == ["ScheduleMissed"]


# --- a restore


def conditions(status: GCRestoreStatus) -> dict[str, tuple[str, str]]:
    return {name: (each.status, each.reason) for name, each in by_type(status.conditions).items()}


def ended(**changes: Any) -> GCRestoreStatus:
    reading = RestoreReading(
        **{"succeeded": True, "reason": "Restored", "message": "5", "restored_count": 5, **changes}
    )
    return restores.taken_in(
        gcrestore().status, job("undo-restore", owner=gcrestore()), reading, generation=1, now=NOW
    )


def test_a_restore_that_waits_or_runs_has_not_ended() -> None:
    none = GCRestoreStatus()
    waits = restores.waiting(none, "WaitingForVault", "by a cycle", generation=1, now=NOW)
    assert conditions(waits) == {
        "Succeeded": ("Unknown", "WaitingForVault"),
        "Ready": ("False", "WaitingForVault"),
    }
    runs = restores.running(waits, job("undo-restore", JobState.RUNNING), None, generation=1, now=LATER)
    assert conditions(runs)["Succeeded"] == ("Unknown", "Running")
    assert (runs.job_name, runs.start_time) == ("undo-restore", NOW)
    assert not restores.has_ended(none)
    assert not restores.has_ended(waits)
    assert not restores.has_ended(runs)


def test_a_restore_that_succeeded_is_what_a_person_waits_for() -> None:
    status = ended(operation_id=OPERATION)
    assert conditions(status) == {"Succeeded": ("True", "Restored"), "Ready": ("True", "Restored")}
    assert (status.restored_count, status.operation_id) == (5, OPERATION)
    assert restores.has_ended(status)


@pytest.mark.parametrize(
    "status",
    [
        ended(succeeded=False, reason="RestoreFailed", message="no room"),
        restores.gone(GCRestoreStatus(job_name="undo-restore"), generation=1, now=NOW),
    ],
)
def test_a_restore_that_failed_is_stalled_and_over(status: GCRestoreStatus) -> None:
    found = conditions(status)
    assert found["Succeeded"][0] == "False"
    assert found["Stalled"][0] == "True"
    assert restores.has_ended(status)


def test_a_restore_without_its_policy_may_still_get_one() -> None:
    trouble = Trouble("BucketGCNotFound", "no such", is_final=False)
    status = restores.in_trouble(GCRestoreStatus(), trouble, generation=1, now=NOW)
    assert conditions(status)["Reconciling"] == ("True", "BucketGCNotFound")
    assert not restores.has_ended(status)


def test_events_of_a_restore() -> None:
    none = GCRestoreStatus()
    runs = restores.running(none, job("undo-restore", JobState.RUNNING), None, generation=1, now=NOW)
    assert [each.reason for each in restore_events(none, runs)] == ["RestoreStarted"]
    assert [each.reason for each in restore_events(runs, runs)] == []
    assert [each.reason for each in restore_events(ended(), ended())] == []
    fine = ended()
    assert [each.reason for each in restore_events(fine.model_copy(update={"conditions": ()}), fine)] == [
        "RestoreSucceeded"
    ]
    failed = ended(succeeded=False, reason="RestoreFailed")
    assert [each.reason for each in restore_events(fine.model_copy(update={"conditions": ()}), failed)] == [
        "RestoreFailed"
    ]
