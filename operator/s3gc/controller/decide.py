"""What to do next: pure decisions from what is there, so that every one of them is a line in a table of tests.

The order of precedence is the promise to a person: nothing new while a Job of the policy runs, nothing while the
vault is taken, a restore before any cycle, an approved plan before a requested cycle before a scheduled one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from s3gc.controller.observe import JobState, JobView, Trigger
from s3gc.controller.resources import GCObject
from s3gc.controller.statuses import BucketGCStatus, PendingApproval
from s3gc.schedule import Verdict

__all__ = [
    "Hold",
    "Start",
    "approved_digest",
    "in_the_way",
    "is_expired",
    "remembered",
    "requested_token",
    "to_account",
    "to_prune",
    "wanted_cycle",
]

#: So many characters of a digest are enough to be meant and not guessed: 64 bits.
_ENOUGH_DIGEST = 16
_LONGEST_TOKEN = 256


@dataclass(frozen=True, slots=True)
class Start:
    """Start a cycle. `token` is the request's, or the whole digest of the approved plan."""

    trigger: Trigger
    token: str = ""
    scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A cycle should start and cannot yet."""

    trigger: Trigger
    reason: str
    message: str


def remembered(token: str) -> str:
    """A token as the status keeps it: as it is, or its hash where it is longer than a status should be."""
    if len(token) <= _LONGEST_TOKEN:
        return token
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def requested_token(gc: GCObject, status: BucketGCStatus) -> str | None:
    """The token of a request that was not acted upon yet."""
    if gc.run_requested is None or remembered(gc.run_requested) == status.last_handled_run_request:
        return None
    return gc.run_requested


def approved_digest(gc: GCObject, status: BucketGCStatus, now: datetime) -> str | None:
    """The digest of the pending plan, if a person has approved exactly it and it is not too old."""
    pending = status.pending_approval
    if gc.approve is None or pending is None or remembered(gc.approve) == status.last_handled_approval:
        return None
    given = gc.approve.lower()
    if len(given) < _ENOUGH_DIGEST or not pending.plan_digest.startswith(given):
        return None
    return None if is_expired(pending, now) else pending.plan_digest


def is_expired(pending: PendingApproval, now: datetime) -> bool:
    return pending.expires_at is not None and pending.expires_at <= now


def wanted_cycle(
    gc: GCObject, status: BucketGCStatus, *, now: datetime, verdict: Verdict | None
) -> Start | None:
    """The cycle that should be started, were nothing in its way."""
    if gc.meta.is_deleting:
        return None
    if (digest := approved_digest(gc, status, now)) is not None:
        return Start(Trigger.APPROVAL, digest)
    if (token := requested_token(gc, status)) is not None:
        return Start(Trigger.REQUEST, token)
    if verdict is not None and verdict.due is not None:
        return Start(Trigger.SCHEDULE, scheduled_at=verdict.due)
    return None


def in_the_way(
    start: Start, *, running: Sequence[JobView], vault_taken_by: str | None, restore_waits: str | None
) -> Hold | None:
    """Why `start` must wait.

    `running` are the policy's own Jobs that are not over; `vault_taken_by` names another Job of the same vault, or
    pods that are not gone; `restore_waits` a GCRestore of that vault that has not ended.
    """
    if running:
        return Hold(start.trigger, "CycleRunning", f"Job {running[0].name} is not over")
    if vault_taken_by is not None:
        return Hold(start.trigger, "WaitingForVault", f"the vault is used by {vault_taken_by}")
    if restore_waits is not None:
        return Hold(start.trigger, "WaitingForRestore", f"GCRestore {restore_waits} goes first")
    return None


def to_account(jobs: Iterable[JobView], status: BucketGCStatus) -> list[JobView]:
    """The finished Jobs whose result is not in the status yet, the oldest first.

    Jobs of one policy never overlap, so whatever was made before the last one that was accounted for has been,
    too. Within the same second, which is all that a creation time tells, the UIDs that the status has decide.
    """
    known = {entry.job_uid for entry in status.history}
    active = status.active.job_uid if status.active is not None else None
    until = status.accounted_until
    found = [
        job
        for job in jobs
        if job.is_finished
        and job.uid not in known
        and (job.uid == active or until is None or job.created >= until)
    ]
    return sorted(found, key=lambda job: job.order)


def to_prune(jobs: Iterable[JobView], *, successful: int, failed: int, keep: Iterable[str]) -> list[JobView]:
    """The finished Jobs beyond the limits of history, the oldest first; never one of the UIDs in `keep`."""
    kept = set(keep)
    surplus: list[JobView] = []
    for state, limit in ((JobState.COMPLETE, successful), (JobState.FAILED, failed)):
        finished = sorted(
            (
                job
                for job in jobs
                if job.state is state
                and not job.is_deleting
                and job.uid not in kept
                and not job.holds_its_vault
            ),
            key=lambda job: job.order,
        )
        surplus += finished[: max(0, len(finished) - limit)]
    return sorted(surplus, key=lambda job: job.order)
