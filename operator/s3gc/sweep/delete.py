"""Delete one object so that it can come back, or leave it: one function a kind of bucket.

Stores differ and some lie (they accept a condition on DELETE and delete anyway), so the way is chosen from what the
probe saw with its own objects, and each deletion is judged by what is left afterwards, never by the status code.

Why each way loses nothing newer than what was backed up:

* ``marker`` (versioning Enabled): a DELETE without a version id destroys no bytes. Whatever version lies directly below
  our marker is what we hid; if it is not the one that was backed up, the marker is removed at once and the newer data
  is back. A crash between the two is repaired from the journal, which was durable before the DELETE.
* ``conditional`` (unversioned, If-Match honoured by a probe with a positive control): the store itself compares. What
  remains is the same bytes uploaded again (the same ETag): the backup holds exactly those bytes, and the check brings
  them back if a row names them.
* ``best_effort`` (unversioned, condition ignored): only where the policy says so. HEAD immediately before; an upload
  between HEAD and DELETE is lost, and docs/safety.md says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from s3gc.config import DeletionCondition, S3GCConfig
from s3gc.exceptions import RefusedError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.store.probe import Capabilities
from s3gc.store.types import ObjectVersion
from s3gc.vault.records import BackupEntry

__all__ = [
    "Deleted",
    "Deletion",
    "Kept",
    "Method",
    "choose_method",
    "delete_object",
    "hidden_by_marker",
    "is_version",
]


class Method(StrEnum):
    MARKER_CONDITIONAL = "marker, If-Match"
    MARKER = "marker"
    CONDITIONAL = "If-Match"
    BEST_EFFORT = "best effort"


@dataclass(frozen=True, slots=True)
class Deleted:
    """The object is gone from view. `marker_version_id` is our delete marker, where the bucket is versioned."""

    marker_version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """The object (or what replaced it) is there; `reason` is a short fixed phrase."""

    reason: str
    detail: str = ""


Deletion = Deleted | Kept


def choose_method(capabilities: Capabilities, config: S3GCConfig) -> Method:
    """Choose how to delete in this bucket, from what its store was seen to do.

    Raises RefusedError, with both ways out, where no way is safe enough for the policy.
    """
    honoured = capabilities.delete_if_match == "honoured"
    status = capabilities.versioning.status
    where = f"bucket {config.bucket!r}"
    if status == "Suspended":
        raise _refused(
            f"{where} has versioning Suspended: a delete there destroys the current (null) version at once",
            "enable versioning on the bucket",
        )
    if status == "Enabled":
        if honoured:
            return Method.MARKER_CONDITIONAL
        if not capabilities.remove_version:
            raise _refused(
                f"{where} is versioned, but its store ignores If-Match on DELETE and these credentials may not remove "
                "a delete marker again, so a newer upload hidden by mistake could not be uncovered",
                "grant s3:DeleteObjectVersion (used only on our own markers)",
            )
        return Method.MARKER
    if honoured:
        return Method.CONDITIONAL
    if config.deletion.condition is DeletionCondition.BEST_EFFORT:
        return Method.BEST_EFFORT
    seen = {"ignored": "ignores", "refused": "refuses"}.get(
        capabilities.delete_if_match, "was not seen to honour"
    )
    raise _refused(
        f"{where} is not versioned and its store {seen} If-Match on DELETE, so an upload that replaces an object just "
        "before its deletion would be destroyed",
        "enable versioning on the bucket (recommended), or accept that race with deletion: {condition: BestEffort}",
    )


def _refused(what: str, way_on: str) -> RefusedError:
    return RefusedError(f"{what}. The way on: {way_on}.", details={"guard": "deletion", "way_on": way_on})


async def delete_object(
    bucket: Bucket, entry: BackupEntry, method: Method, *, fence_time: datetime
) -> Deletion:
    """Delete `entry`'s object by `method`. `fence_time` is the store's own time from before this group's deletes."""
    ways: dict[Method, Callable[[Bucket, BackupEntry, datetime], Awaitable[Deletion]]] = {
        Method.MARKER_CONDITIONAL: lambda b, e, t: _by_marker(b, e, t, conditional=True),
        Method.MARKER: lambda b, e, t: _by_marker(b, e, t, conditional=False),
        Method.CONDITIONAL: _by_condition,
        Method.BEST_EFFORT: _by_head,
    }
    return await ways[method](bucket, entry, fence_time)


def is_version(entry: BackupEntry, version: ObjectVersion) -> bool:
    """Whether `version` is the version that was backed up. A version id is an identity where the store gave one; the
    version of before versioning was enabled is called "null" in listings and nothing in HEAD."""
    if version.is_marker or version.etag != entry.etag or version.size != entry.size:
        return False
    if entry.version_id is None or entry.version_id == "null":
        same_second = version.last_modified.replace(microsecond=0) == entry.last_modified.replace(
            microsecond=0
        )
        return version.version_id in ("", "null") and same_second
    return version.version_id == entry.version_id


def hidden_by_marker(versions: list[ObjectVersion]) -> tuple[ObjectVersion, ObjectVersion | None] | None:
    """The delete marker that is latest, and the version directly below it; None when no marker is latest."""
    if not versions or not versions[0].is_marker:
        return None
    return versions[0], versions[1] if len(versions) > 1 else None


async def _by_marker(
    bucket: Bucket, entry: BackupEntry, fence_time: datetime, *, conditional: bool
) -> Deletion:
    try:
        # Conditional or not, a DELETE without a version id only adds a marker here: repeating the *question* below is
        # safe, repeating the DELETE is not needed, because the versions tell what happened.
        answer = await bucket.delete(entry.key, if_match=entry.etag if conditional else None)
    except StoreError as error:
        if error.details.get("status") in (400, 403, 405):
            return Kept("refused by the store", error.message)
        answer = None  # the answer was lost or the store stumbled: the versions decide
    if answer is not None and answer.status in (404, 412):
        return Kept("missing" if answer.status == 404 else "replaced", f"the store answered {answer.status}")
    versions = await bucket.versions(entry.key)
    hidden = hidden_by_marker(versions)
    if hidden is None:
        if (
            answer is not None
            and answer.version_id
            and any(v.is_marker and v.version_id == answer.version_id for v in versions)
        ):
            # Our marker is there, no longer latest: somebody uploaded above it. That upload is visible and untouched.
            return Kept("replaced", "uploaded again just after the marker")
        return Kept("missing" if not versions else "still there", "no delete marker is latest")
    marker, below = hidden
    ours = answer is not None and answer.version_id is not None and marker.version_id == answer.version_id
    # Some stores answer a second delete with the marker that was there already: that one is not ours. The times of
    # markers are off by seconds on some; taking a marker of the last minute for ours only means that a restore would
    # also undo somebody else's deletion of the same, unreferenced version.
    if marker.last_modified < fence_time - timedelta(seconds=60):
        return Kept("missing", "deleted by somebody else before this group")
    if below is not None and is_version(entry, below):
        return Deleted(marker.version_id)
    if ours or answer is None:
        # Newer data lies below a marker of ours. Removing exactly that marker brings it back; nothing else changes.
        await bucket.delete(entry.key, version_id=marker.version_id)
        return Kept("replaced", "a newer version was below our marker; the marker was removed at once")
    return Kept("replaced", "the version below the latest marker is not the one that was planned")


async def _by_condition(bucket: Bucket, entry: BackupEntry, _fence_time: datetime) -> Deletion:
    try:
        answer = await bucket.delete(entry.key, if_match=entry.etag)
    except StoreError as error:
        if error.details.get("status") in (400, 403, 405):
            return Kept("refused by the store", error.message)
        answer = None
    head = await bucket.head(entry.key)
    if head is None:
        if answer is not None and answer.status == 404:
            return Kept("missing", "deleted by somebody else before this group")
        return Deleted()
    if head.etag != entry.etag:
        return Kept("replaced", "another object is at this key")
    return Kept("still there", f"the store answered {answer.status if answer else 'nothing'}")


async def _by_head(bucket: Bucket, entry: BackupEntry, _fence_time: datetime) -> Deletion:
    head = await bucket.head(entry.key)
    if head is None:
        return Kept("missing", "deleted by somebody else before this group")
    same_second = head.last_modified.replace(microsecond=0) == entry.last_modified.replace(microsecond=0)
    if head.etag != entry.etag or head.size != entry.size or not same_second:
        return Kept("replaced", "another object is at this key")
    try:
        await bucket.delete(entry.key)  # never repeated: a second one could hit a newer object
    except StoreError as error:
        if error.details.get("status") in (400, 403, 405):
            return Kept("refused by the store", error.message)
    return (
        Deleted()
        if await bucket.head(entry.key) is None
        else Kept("still there", "uploaded again, or not deleted")
    )
