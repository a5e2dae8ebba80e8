"""The status of a BucketGC, composed step by step: a cycle that ended is taken in, then what is now is said.

Pure: a status goes in, a status comes out, and a status that did not change is equal to what was there, so that nothing
is written for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from s3gc.controller.conditions import Said, Trouble, cycle_said, merge
from s3gc.controller.decide import Hold, is_expired
from s3gc.controller.observe import JobState, JobView
from s3gc.controller.readings import CycleReading, LogReading
from s3gc.controller.resources import GCObject
from s3gc.controller.statuses import (
    MAX_HISTORY,
    Active,
    BucketGCStatus,
    HistoryEntry,
    PendingApproval,
)
from s3gc.results import Outcome

__all__ = ["active_of", "said_of", "take_in", "with_conditions", "without_old_approval"]

_SUCCESS = (Outcome.SUCCEEDED, Outcome.AWAITING_APPROVAL)


def take_in(status: BucketGCStatus, reading: CycleReading, created: datetime | None) -> BucketGCStatus:
    """The status after a cycle. `created` is when its Job was made, as far as that is known."""
    cycle = reading.cycle
    entry = HistoryEntry(
        operation_id=cycle.operation_id,
        job_uid=cycle.job_uid,
        mode=cycle.mode,
        outcome=cycle.outcome,
        completion_time=cycle.completion_time,
        deleted_count=cycle.deleted_count,
        reclaimed_bytes=cycle.reclaimed_bytes,
    )
    is_active = status.active is not None and status.active.job_uid == cycle.job_uid
    times = [time for time in (status.accounted_until, created) if time is not None]
    return status.model_copy(
        update={
            "active": None if is_active else status.active,
            "last_cycle": cycle,
            "history": (entry, *status.history)[:MAX_HISTORY],
            "accounted_until": max(times, default=None),
            "last_success_time": (
                cycle.completion_time if cycle.outcome in _SUCCESS else status.last_success_time
            ),
            "pending_approval": _pending(status.pending_approval, reading),
            "metrics": reading.metrics or status.metrics,
        }
    )


def _pending(before: PendingApproval | None, reading: CycleReading) -> PendingApproval | None:
    """A cycle that made no plan of its own, because it failed or was lost, leaves the plan that waits."""
    if reading.cycle.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
        return before
    return reading.pending


def without_old_approval(status: BucketGCStatus, now: datetime) -> BucketGCStatus:
    """The status without a plan that is too old to be approved."""
    pending = status.pending_approval
    if pending is None or not is_expired(pending, now):
        return status
    return status.model_copy(update={"pending_approval": None})


def active_of(before: Active | None, job: JobView, log: LogReading | None, trouble: str | None) -> Active:
    """What to say of the Job that runs. Without a new log what was known of its progress stays."""
    same = before if before is not None and before.job_uid == job.uid else None
    phase = "Pending"
    if job.state is JobState.RUNNING:
        phase = "Starting"
        if same is not None and same.phase != "Pending":
            phase = same.phase
        if log is not None and log.phase is not None:
            phase = log.phase
    if job.is_deleting:
        phase = "Ending"
    return Active(
        job_name=job.name,
        job_uid=job.uid,
        trigger=job.trigger,
        operation_id=(log.operation_id if log else None) or (same.operation_id if same else None),
        start_time=job.created,
        phase=phase,
        message=trouble,
        progress=(log.progress if log else None) or (same.progress if same else None),
    )


def said_of(
    gc: GCObject,
    status: BucketGCStatus,
    *,
    trouble: Trouble | None,
    hold: Hold | None,
    pod_trouble: str | None = None,
) -> Sequence[Said]:
    """What the conditions should say."""
    said = [_ready(gc, trouble), _running(status.active, hold, pod_trouble)]
    said.append(cycle_said(status.last_cycle, status.pending_approval))
    if trouble is not None:
        said.append(
            Said("Stalled" if trouble.is_final else "Reconciling", "True", trouble.reason, trouble.message)
        )
    return said


def _ready(gc: GCObject, trouble: Trouble | None) -> Said:
    if trouble is not None:
        return Said("Ready", "False", trouble.reason, trouble.message)
    spec = gc.spec
    if spec is None or spec.schedule is None:
        return Said("Ready", "True", "OnDemand", "cycles run when s3gc.dev/run-requested-at asks for them")
    when = f"{spec.schedule} ({spec.time_zone})"
    if spec.suspend:
        return Said("Ready", "True", "Suspended", f"the schedule {when} is suspended")
    return Said("Ready", "True", "Scheduled", f"cycles run at {when}")


def _running(active: Active | None, hold: Hold | None, pod_trouble: str | None) -> Said:
    name = "CycleRunning"
    if active is None:
        if hold is not None:
            return Said(name, "False", hold.reason, f"a cycle is due and waits: {hold.message}")
        return Said(name, "False", "Idle", "no cycle runs")
    text = f"Job {active.job_name}, by {active.trigger or 'an unknown trigger'}"
    if active.phase == "Pending":
        return Said(name, "True", "Pending", f"{text}: {pod_trouble or active.message or 'its pod starts'}")
    if active.phase == "Ending":
        return Said(name, "True", "Ending", f"{text}: it was deleted and ends")
    return Said(name, "True", "Running", text)


def with_conditions(
    status: BucketGCStatus, said: Sequence[Said], *, generation: int, now: datetime
) -> BucketGCStatus:
    return status.model_copy(
        update={
            "conditions": merge(status.conditions, said, generation=generation, now=now),
            "observed_generation": generation,
        }
    )
