"""What is done next: every decision a line."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from s3gc.controller.decide import (
    Hold,
    Start,
    approved_digest,
    in_the_way,
    remembered,
    requested_token,
    to_account,
    to_prune,
    wanted_cycle,
)
from s3gc.controller.observe import JobState, JobView, Trigger
from s3gc.controller.statuses import Active, BucketGCStatus, HistoryEntry, PendingApproval
from s3gc.results import Outcome
from s3gc.schedule import Verdict
from tests.controller.made import DIGEST, NOW, bucketgc, job

RUN = "s3gc.dev/run-requested-at"
APPROVE = "s3gc.dev/approve"
DUE = Verdict(promised=NOW, upcoming=NOW + timedelta(days=1), due=NOW)
NOT_DUE = Verdict(promised=NOW + timedelta(days=1), upcoming=NOW + timedelta(days=1))
PENDING = BucketGCStatus(
    pending_approval=PendingApproval(plan_digest=DIGEST, expires_at=NOW + timedelta(hours=1))
)


def decide(
    annotations: dict[str, str] | None = None,
    status: BucketGCStatus | None = None,
    verdict: Verdict | None = NOT_DUE,
    *,
    deleting: bool = False,
    **world: Any,
) -> Start | Hold | None:
    gc = bucketgc(annotations=annotations or {}, deleting=deleting)
    start = wanted_cycle(gc, status or BucketGCStatus(), now=NOW, verdict=verdict)
    if start is None:
        return None
    return (
        in_the_way(start, **{"running": [], "vault_taken_by": None, "restore_waits": None, **world}) or start
    )


def test_nothing_is_wanted() -> None:
    assert decide() is None
    assert decide(verdict=None) is None


def test_a_schedule_starts_with_its_scheduled_time() -> None:
    assert decide(verdict=DUE) == Start(Trigger.SCHEDULE, scheduled_at=NOW)


def test_a_request_starts_once() -> None:
    assert decide({RUN: "one"}) == Start(Trigger.REQUEST, "one")
    assert decide({RUN: "one"}, BucketGCStatus(last_handled_run_request="one")) is None
    assert decide({RUN: "two"}, BucketGCStatus(last_handled_run_request="one")) == Start(
        Trigger.REQUEST, "two"
    )


def test_an_approved_plan_goes_before_a_request_before_the_schedule() -> None:
    both = {APPROVE: DIGEST, RUN: "one"}
    assert decide(both, PENDING, DUE) == Start(Trigger.APPROVAL, DIGEST)
    assert decide({RUN: "one"}, PENDING, DUE) == Start(Trigger.REQUEST, "one")


@pytest.mark.parametrize(
    ("annotation", "handled", "wanted"),
    [
        (DIGEST, None, DIGEST),
        (DIGEST[:16], None, DIGEST),
        (DIGEST.upper(), None, DIGEST),
        (DIGEST[:15], None, None),  # could be guessed
        ("cd34" * 16, None, None),  # another plan
        (DIGEST, DIGEST, None),  # done already
        ("yes", None, None),
    ],
)
def test_an_approval_counts_for_exactly_the_plan_that_waits(
    annotation: str, handled: str | None, wanted: str | None
) -> None:
    status = PENDING.model_copy(update={"last_handled_approval": handled})
    assert approved_digest(bucketgc(annotations={APPROVE: annotation}), status, NOW) == wanted


def test_a_plan_that_is_too_old_is_not_swept() -> None:
    gc = bucketgc(annotations={APPROVE: DIGEST})
    assert approved_digest(gc, PENDING, NOW + timedelta(minutes=59)) == DIGEST
    assert approved_digest(gc, PENDING, NOW + timedelta(hours=1)) is None
    assert approved_digest(gc, BucketGCStatus(), NOW) is None


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        ({"running": [job(state=JobState.PENDING)]}, "CycleRunning"),
        ({"vault_taken_by": "Job shop/other-1"}, "WaitingForVault"),
        ({"restore_waits": "shop/undo"}, "WaitingForRestore"),
    ],
)
@pytest.mark.parametrize("annotations", [{}, {RUN: "one"}, {APPROVE: DIGEST}])
def test_nothing_starts_beside_another_job_of_the_vault(
    annotations: dict[str, str], world: dict[str, Any], reason: str
) -> None:
    held = decide(annotations, PENDING, DUE, **world)
    assert isinstance(held, Hold)
    assert held.reason == reason


def test_nothing_starts_for_what_is_being_deleted() -> None:
    assert decide({RUN: "one"}, verdict=DUE, deleting=True) is None


def test_a_token_longer_than_a_status_should_be_is_remembered_by_its_hash() -> None:
    long = "x" * 100_000
    gc = bucketgc(annotations={RUN: long})
    assert requested_token(gc, BucketGCStatus()) == long
    assert len(remembered(long)) < 100
    assert requested_token(gc, BucketGCStatus(last_handled_run_request=remembered(long))) is None


# --- what was not accounted for yet


def entry(of: JobView) -> HistoryEntry:
    return HistoryEntry(job_uid=of.uid, outcome=Outcome.SUCCEEDED)


def test_finished_jobs_are_accounted_for_in_their_order() -> None:
    jobs = [
        job("c", minutes=20),
        job("a"),
        job("b", JobState.FAILED, minutes=10),
        job("d", JobState.RUNNING, minutes=30),
    ]
    assert [each.name for each in to_account(jobs, BucketGCStatus())] == ["a", "b", "c"]


def test_what_the_status_has_is_not_counted_again() -> None:
    a, b, c = job("a"), job("b", minutes=10), job("c", minutes=20)
    status = BucketGCStatus(history=(entry(b), entry(a)), accounted_until=b.created)
    assert to_account([a, b, c], status) == [c]


def test_jobs_older_than_the_history_are_not_counted_again() -> None:
    old = [job(f"j{number}", minutes=number) for number in range(30)]
    status = BucketGCStatus(history=(entry(old[-1]),), accounted_until=old[-1].created)
    assert to_account(old, status) == []


def test_two_jobs_of_one_second_are_told_apart() -> None:
    a, b = job("a"), job("b")
    status = BucketGCStatus(history=(entry(a),), accounted_until=a.created)
    assert to_account([a, b], status) == [b]


def test_the_active_job_is_accounted_for_whatever_its_time_says() -> None:
    late, early = job("late", minutes=10), job("early")
    status = BucketGCStatus(
        active=Active(job_name=early.name, job_uid=early.uid),
        history=(entry(late),),
        accounted_until=late.created,
    )
    assert to_account([early, late], status) == [early]


# --- history


@pytest.mark.parametrize(
    ("successful", "failed", "gone"),
    [
        (3, 3, ["s0", "f1", "s2", "f3"]),
        (0, 0, ["s0", "f1", "s2", "f3", "s4", "f5", "s6", "f7", "s8", "f9"]),
        (5, 5, []),
        (100, 1, ["f1", "f3", "f5", "f7"]),
    ],
)
def test_the_oldest_go_beyond_each_limit(successful: int, failed: int, gone: list[str]) -> None:
    jobs = [
        job(f"{'f' if n % 2 else 's'}{n}", JobState.FAILED if n % 2 else JobState.COMPLETE, minutes=n)
        for n in range(10)
    ]
    assert [each.name for each in to_prune(jobs, successful=successful, failed=failed, keep=[])] == gone


def test_no_job_goes_that_runs_is_going_or_is_not_accounted_for() -> None:
    jobs = [
        job("running", JobState.RUNNING),
        job("pending", JobState.PENDING),
        job("going", is_deleting=True),
        job("ending", terminating=1),
        job("unread"),
        job("old"),
    ]
    assert [each.name for each in to_prune(jobs, successful=0, failed=0, keep=["job-unread"])] == ["old"]
