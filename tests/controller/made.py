"""Objects for tests, with what a test does not care about filled in."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from s3gc.controller import labels
from s3gc.controller.observe import JobState, JobView, PodView, Trigger
from s3gc.controller.resources import GCObject, Owner, RestoreObject, read_bucketgc, read_gcrestore

NOW = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
DIGEST = "ab12" * 16
OPERATION = "01HX3K9V7QW2M4N8R5T6Y0ZABC"


def at(text: str) -> datetime:
    """``2026-11-23 02:30`` or ``02:30`` of that day, in UTC."""
    if len(text) == 5:
        text = f"2026-11-23 {text}"
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def bucketgc_body(name: str = "media", namespace: str = "shop", **changes: Any) -> dict[str, Any]:
    """`changes` are fields of spec; `status`, `annotations`, `uid` and `generation` are the object's."""
    meta = {
        "name": name,
        "namespace": namespace,
        "uid": changes.pop("uid", f"uid-{namespace}-{name}"),
        "generation": changes.pop("generation", 1),
        "resourceVersion": changes.pop("version", "10"),
        "creationTimestamp": "2026-11-20T10:00:00Z",
        "annotations": changes.pop("annotations", {}),
    }
    if changes.pop("deleting", False):
        meta["deletionTimestamp"] = "2026-11-23T00:00:00Z"
    status = changes.pop("status", None)
    spec = {
        "bucket": {"name": "shop-media"},
        "references": [
            {
                "name": "shop",
                "database": {"urlSecretRef": {"name": "shop-db", "key": "url"}},
                "tables": [{"table": "users", "columns": [{"name": "avatar_url"}]}],
            }
        ],
        "vault": {"persistentVolumeClaim": {"claimName": "vault"}},
        **changes,
    }
    body = {"apiVersion": "s3gc.dev/v1", "kind": "BucketGC", "metadata": meta, "spec": spec}
    return {**body, "status": status} if status is not None else body


def bucketgc(name: str = "media", namespace: str = "shop", **changes: Any) -> GCObject:
    return read_bucketgc(bucketgc_body(name, namespace, **changes))


def gcrestore(name: str = "undo", namespace: str = "shop", **spec: Any) -> RestoreObject:
    status = spec.pop("status", None)
    body: dict[str, Any] = {
        "apiVersion": "s3gc.dev/v1",
        "kind": "GCRestore",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}",
            "generation": 1,
            "resourceVersion": "10",
            "creationTimestamp": "2026-11-23T02:00:00Z",
        },
        "spec": {"bucketGCRef": {"name": "media"}, **(spec or {"latest": True})},
    }
    if status is not None:
        body["status"] = status
    return read_gcrestore(body)


def job(
    name: str = "media-r1",
    state: JobState = JobState.COMPLETE,
    *,
    minutes: float = 0,
    owner: GCObject | RestoreObject | None = None,
    **changes: Any,
) -> JobView:
    """A Job made `minutes` after NOW; a finished one ended a minute later."""
    made = NOW + timedelta(minutes=minutes)
    finished = state in (JobState.COMPLETE, JobState.FAILED)
    meta = (owner or bucketgc()).meta
    view = JobView(
        namespace="shop",
        name=name,
        uid=f"job-{name}",
        resource_version="20",
        owner=Owner("GCRestore" if isinstance(owner, RestoreObject) else "BucketGC", meta.name, meta.uid),
        vault="v1",
        trigger=str(Trigger.REQUEST),
        scheduled_at=None,
        created=made,
        finished_at=made + timedelta(minutes=1) if finished else None,
        state=state,
        reason="BackoffLimitExceeded" if state is JobState.FAILED else "",
        message="",
        terminating=0,
        is_deleting=False,
    )
    return replace(view, **changes)


def pod(message: str | dict[str, Any] = "", exit_code: int | None = 0, **changes: Any) -> PodView:
    """A pod that has ended, unless `exit_code` is None."""
    ended = exit_code is not None
    view = PodView(
        name="media-r1-abcde",
        created=NOW,
        phase=("Succeeded" if exit_code == 0 else "Failed") if ended else "Running",
        reason="",
        message="",
        waiting_reason="",
        waiting_message="",
        exit_code=exit_code,
        ended_reason=("Completed" if exit_code == 0 else "Error") if ended else "",
        ended_message=message if isinstance(message, str) else json.dumps(message),
        started_at=NOW,
        ended_at=NOW + timedelta(minutes=1) if ended else None,
    )
    return replace(view, **changes)


def short(outcome: str = "Succeeded", **changes: Any) -> dict[str, Any]:
    """A termination message, as the engine writes one."""
    return {
        "operation_id": OPERATION,
        "mode": "execute",
        "outcome": outcome,
        "started_at": "2026-11-23T02:30:05.123456+00:00",
        "completed_at": "2026-11-23T02:31:00+00:00",
        "duration_seconds": 55.5,
        "guards": [],
        "errors": [],
        **changes,
    }


def job_body(view: JobView) -> dict[str, Any]:
    """The body of a Job that reads as `view`."""
    assert view.owner is not None
    status: dict[str, Any] = {"terminating": view.terminating}
    if view.state is JobState.RUNNING:
        status |= {"active": 1, "ready": 1}
    if view.is_finished:
        assert view.finished_at is not None
        status["conditions"] = [
            {
                "type": str(view.state),
                "status": "True",
                "reason": view.reason,
                "message": view.message,
                "lastTransitionTime": f"{view.finished_at:%Y-%m-%dT%H:%M:%SZ}",
            }
        ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": view.name,
            "namespace": view.namespace,
            "uid": view.uid,
            "resourceVersion": view.resource_version,
            "creationTimestamp": f"{view.created:%Y-%m-%dT%H:%M:%SZ}",
            "labels": {labels.MANAGED_BY: labels.MANAGER, labels.VAULT: view.vault},
            "annotations": {labels.TRIGGER: view.trigger},
            "ownerReferences": [
                {
                    "apiVersion": "s3gc.dev/v1",
                    "kind": view.owner.kind,
                    "name": view.owner.name,
                    "uid": view.owner.uid,
                    "controller": True,
                }
            ],
        },
        "status": status,
    }
