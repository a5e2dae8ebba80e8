"""Jobs and pods as they are seen: the few facts that decisions need, read from what the API server says.

A Job that the operator keeps in memory is this view and not its body: the body carries the whole policy, and a
thousand policies have thousands of Jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from s3gc.controller import labels
from s3gc.controller.resources import Owner, moment, read_meta

__all__ = ["JobState", "JobView", "PodView", "Trigger", "last_pod", "read_job", "read_pod"]


class Trigger(StrEnum):
    """Why a Job runs."""

    SCHEDULE = "Schedule"
    REQUEST = "Request"
    APPROVAL = "Approval"
    RESTORE = "Restore"


class JobState(StrEnum):
    PENDING = "Pending"  # no pod runs yet
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class JobView:
    """A Job. `reason` and `message` are those of its failure; `terminating` counts pods that are still ending."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner: Owner | None
    vault: str
    trigger: str
    scheduled_at: datetime | None
    created: datetime
    finished_at: datetime | None
    state: JobState
    reason: str
    message: str
    terminating: int
    is_deleting: bool

    @property
    def is_finished(self) -> bool:
        return self.state in (JobState.COMPLETE, JobState.FAILED)

    @property
    def holds_its_vault(self) -> bool:
        """Whether a pod of it works, may still work, or may yet be made."""
        return not self.is_finished or self.terminating > 0

    @property
    def order(self) -> tuple[datetime, str]:
        return self.created, self.name


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of a Job, and how its one container ended, where it did."""

    name: str
    created: datetime
    phase: str
    reason: str
    message: str
    waiting_reason: str
    waiting_message: str
    exit_code: int | None
    ended_reason: str
    ended_message: str
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


def read_job(body: Mapping[str, Any]) -> JobView:
    meta = read_meta(body)
    raw = body.get("metadata") or {}
    own_labels, notes = raw.get("labels") or {}, raw.get("annotations") or {}
    status = body.get("status") or {}
    state, reason, message, finished = JobState.PENDING, "", "", None
    if status.get("active"):
        state = JobState.RUNNING if status.get("ready") else JobState.PENDING
    for condition in status.get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            state = JobState(condition["type"])
            finished = moment(condition.get("lastTransitionTime"))
            reason, message = str(condition.get("reason") or ""), str(condition.get("message") or "")
    return JobView(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        owner=_owner(raw.get("ownerReferences") or ()),
        vault=str(own_labels.get(labels.VAULT, "")),
        trigger=str(notes.get(labels.TRIGGER, "")),
        scheduled_at=moment(notes.get(labels.SCHEDULED_AT)),
        created=meta.created,
        finished_at=moment(status.get("completionTime")) or finished,
        state=state,
        reason=reason,
        message=message,
        terminating=int(status.get("terminating") or 0),
        is_deleting=meta.is_deleting,
    )


def _owner(references: Iterable[Mapping[str, Any]]) -> Owner | None:
    for reference in references:
        if reference.get("controller"):
            return Owner(
                kind=str(reference.get("kind", "")),
                name=str(reference.get("name", "")),
                uid=str(reference.get("uid", "")),
            )
    return None


def read_pod(body: Mapping[str, Any]) -> PodView:
    status = body.get("status") or {}
    state: Mapping[str, Any] = {}
    for container in status.get("containerStatuses") or ():
        if container.get("name") == labels.CONTAINER:
            state = container.get("state") or {}
    ended, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    for condition in status.get("conditions") or ():
        is_stuck = condition.get("type") == "PodScheduled" and condition.get("status") == "False"
        if is_stuck and not reason:
            reason, message = str(condition.get("reason") or ""), str(condition.get("message") or "")
    return PodView(
        name=str((body.get("metadata") or {}).get("name", "")),
        created=read_meta(body).created,
        phase=str(status.get("phase") or "Pending"),
        reason=reason,
        message=message,
        waiting_reason=str(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or ""),
        exit_code=int(ended["exitCode"]) if "exitCode" in ended else None,
        ended_reason=str(ended.get("reason") or ""),
        ended_message=str(ended.get("message") or ""),
        started_at=moment((state.get("running") or {}).get("startedAt") or ended.get("startedAt")),
        ended_at=moment(ended.get("finishedAt")),
    )


def last_pod(pods: Iterable[PodView]) -> PodView | None:
    """The newest: a Job makes another pod only after the one before is over, so its word is the last."""
    return max(pods, key=lambda pod: (pod.created, pod.name), default=None)
