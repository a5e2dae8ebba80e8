"""The status of a GCRestore: it waits, it runs, it has ended for good. Pure, as `status` is for a BucketGC.

`Succeeded` is what a person waits for (`kubectl wait --for=condition=Succeeded`), `Ready` mirrors it for tools
that know no other, and a restore that failed is `Stalled`, since only another GCRestore can try again.
"""

from __future__ import annotations

from datetime import datetime

from s3gc.controller.conditions import Said, Trouble, by_type, merge
from s3gc.controller.observe import JobState, JobView
from s3gc.controller.readings import RestoreReading
from s3gc.controller.statuses import GCRestoreStatus, cut

__all__ = ["gone", "has_ended", "in_trouble", "running", "taken_in", "waiting"]


def has_ended(status: GCRestoreStatus) -> bool:
    """Whether the restore has succeeded or failed: then nothing is ever done for it again."""
    succeeded = by_type(status.conditions).get("Succeeded")
    return succeeded is not None and succeeded.status != "Unknown"


def waiting(
    status: GCRestoreStatus, reason: str, message: str, *, generation: int, now: datetime
) -> GCRestoreStatus:
    return _said(status, "Unknown", reason, message, generation=generation, now=now)


def in_trouble(
    status: GCRestoreStatus, trouble: Trouble, *, generation: int, now: datetime
) -> GCRestoreStatus:
    """It cannot start. A final trouble may end all the same, when what it needs is made; so it has not ended."""
    return _said(
        status,
        "Unknown",
        trouble.reason,
        trouble.message,
        generation=generation,
        now=now,
        also="Stalled" if trouble.is_final else "Reconciling",
    )


def running(
    status: GCRestoreStatus, job: JobView, pod_trouble: str | None, *, generation: int, now: datetime
) -> GCRestoreStatus:
    reason = "Running" if job.state is JobState.RUNNING else "Pending"
    message = f"Job {job.name}"
    if pod_trouble:
        message += f": {pod_trouble}"
    started = status.model_copy(update={"job_name": job.name, "job_uid": job.uid, "start_time": job.created})
    return _said(started, "Unknown", reason, message, generation=generation, now=now)


def taken_in(
    status: GCRestoreStatus, job: JobView, reading: RestoreReading, *, generation: int, now: datetime
) -> GCRestoreStatus:
    ended = status.model_copy(
        update={
            "job_name": job.name,
            "job_uid": job.uid,
            "start_time": job.created,
            "completion_time": job.finished_at or now.replace(microsecond=0),
            "operation_id": reading.operation_id or status.operation_id,
            "restored_count": reading.restored_count,
            "skipped_count": reading.skipped_count,
            "failed_count": reading.failed_count,
            "restored_bytes": reading.restored_bytes,
            "errors": tuple(cut(error) for error in reading.errors),
        }
    )
    return _said(
        ended,
        "True" if reading.succeeded else "False",
        reading.reason,
        reading.message,
        generation=generation,
        now=now,
        also="" if reading.succeeded else "Stalled",
    )


def gone(status: GCRestoreStatus, *, generation: int, now: datetime) -> GCRestoreStatus:
    """Its Job ran and is not there any more. What it brought back is back; what it said is lost."""
    message = (
        f"Job {status.job_name} is gone and left no result. Make another GCRestore: what is back already is "
        "left alone"
    )
    ended = status.model_copy(update={"completion_time": now.replace(microsecond=0), "errors": (message,)})
    return _said(ended, "False", "ResultUnknown", message, generation=generation, now=now, also="Stalled")


def _said(
    status: GCRestoreStatus,
    succeeded: str,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
    also: str = "",
) -> GCRestoreStatus:
    ready = "True" if succeeded == "True" else "False"
    value = "True" if succeeded == "True" else "False" if succeeded == "False" else "Unknown"
    said = [Said("Succeeded", value, reason, message), Said("Ready", ready, reason, message)]  # type: ignore[arg-type]
    if also:
        said.append(Said(also, "True", reason, message))
    return status.model_copy(
        update={
            "conditions": merge(status.conditions, said, generation=generation, now=now),
            "observed_generation": generation,
        }
    )
