"""The events that a person sees in `kubectl describe`: fixed reasons, on transitions only.

They come from the difference between the status that was and the status that is, so that looking again at what did not
change says nothing, whoever looks, and an operator that starts does not tell everything anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from s3gc.controller.conditions import by_type, cycle_said
from s3gc.controller.statuses import (
    BucketGCStatus,
    Condition,
    Cycle,
    GCRestoreStatus,
    PendingApproval,
    cut,
)
from s3gc.results import Outcome

__all__ = ["Event", "cycle_events", "restore_events"]

_CYCLE_REASONS = {
    Outcome.SUCCEEDED: "CycleSucceeded",
    Outcome.PARTIALLY_FAILED: "CyclePartiallyFailed",
    Outcome.REFUSED: "CycleRefused",
    Outcome.AWAITING_APPROVAL: "CycleAwaitsApproval",
    Outcome.FAILED: "CycleFailed",
    Outcome.UNKNOWN: "CycleResultLost",
}
_FINE = (Outcome.SUCCEEDED, Outcome.AWAITING_APPROVAL)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. The API server takes a message of at most 1,024 characters."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def cycle_events(
    before: BucketGCStatus,
    after: BucketGCStatus,
    *,
    ended: Sequence[tuple[Cycle, PendingApproval | None]],
    too_late: datetime | None = None,
) -> Iterator[Event]:
    """Events of a BucketGC. `ended` are the cycles that were taken in, the oldest first."""
    for cycle, pending in ended:
        kind: Literal["Normal", "Warning"] = "Normal" if cycle.outcome in _FINE else "Warning"
        yield _event(kind, _CYCLE_REASONS[cycle.outcome], cycle_said(cycle, pending).message)
        if cycle.late_references:
            yield _event(
                "Warning",
                "LateReferences",
                f"{cycle.late_references:,} objects came to be referenced while they were deleted, and were restored",
            )
    if too_late is not None:
        yield _event(
            "Warning",
            "ScheduleMissed",
            f"the cycle of {too_late:%Y-%m-%d %H:%M} UTC could not start within startingDeadlineSeconds",
        )
    if after.active is not None and (before.active is None or before.active.job_uid != after.active.job_uid):
        yield _event(
            "Normal", "CycleStarted", f"Job {after.active.job_name}, by {after.active.trigger or 'hand'}"
        )
    if (
        after.active is not None
        and after.active.message
        and (before.active is None or before.active.message != after.active.message)
    ):
        yield _event("Warning", "PodNotRunning", after.active.message)
    yield from _troubles(before.conditions, after.conditions)


def restore_events(before: GCRestoreStatus, after: GCRestoreStatus) -> Iterator[Event]:
    """Events of a GCRestore."""
    if after.job_uid and after.job_uid != before.job_uid:
        yield _event("Normal", "RestoreStarted", f"Job {after.job_name}")
    was = by_type(before.conditions).get("Succeeded")
    now = by_type(after.conditions).get("Succeeded")
    if now is not None and now.status != "Unknown" and (was is None or was.status != now.status):
        if now.status == "True":
            yield _event("Normal", "RestoreSucceeded", now.message)
        else:
            yield _event("Warning", "RestoreFailed", now.message)
        return
    yield from _troubles(before.conditions, after.conditions)


def _troubles(before: Sequence[Condition], after: Sequence[Condition]) -> Iterator[Event]:
    was, now = by_type(before), by_type(after)
    for name in ("Stalled", "Reconciling"):
        old, new = was.get(name), now.get(name)
        if new is not None and (old is None or (old.reason, old.message) != (new.reason, new.message)):
            yield _event("Warning", new.reason, new.message)
    if "Stalled" in was and "Stalled" not in now:
        yield _event("Normal", "Resumed", "what stopped it is gone")


def _event(kind: Literal["Normal", "Warning"], reason: str, message: str) -> Event:
    return Event(kind, reason, cut(message, 1000))
