"""Delete one object so that it can come back, or leave it: one function a kind of bucket.

Stores differ and some lie (they accept a condition on DELETE and delete anyway), so the way is chosen from what the
probe saw with its own objects, and each deletion is judged by what is left afterwards, never by the status code.

Why each way loses nothing newer than what was backed up:

* ``marker`` (versioning Enabled): a DELETE without a version id destroys no bytes. Whatever version lies directly below
  our marker is what we hid; if it is not the one that was backed up, the marker is removed at once and the newer data
  is back. A crash between the two is repaired from the journal, which was durable before the DELETE. Where somebody
  suspends versioning under the sweep a DELETE does destroy the null version; the answer shows it (a marker without an
  id of its own), the sweep ends at once, and the object comes back from the vault (`sweep.undo`).
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

from s3gc.backup.bringing import is_recorded_version
from s3gc.config import DeletionCondition, S3GCConfig
from s3gc.exceptions import AccessDeniedError, RefusedError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.store.probe import Capabilities
from s3gc.store.types import DeleteAnswer, ObjectVersion
from s3gc.vault.records import BackupEntry

__all__ = [
    "FREED",
    "Deleted",
    "Deletion",
    "Denied",
    "Kept",
    "Method",
    "Unversioned",
    "choose_method",
    "delete_object",
    "hidden_by_marker",
]

#: How much older than the group's beginning a marker may be to be taken for ours: clocks within a store differ.
MARKER_GRACE = timedelta(seconds=60)
#: How stores name the version of a bucket that has none: not at all, or "null".
_NO_VERSION = (None, "", "null")


#: The audit's detail of a deletion that left no version: what a cut-off run reclaimed is told from it.
FREED = "no version of it is left"


class Method(StrEnum):
    MARKER_CONDITIONAL = "marker, If-Match"
    MARKER = "marker"
    CONDITIONAL = "If-Match"
    BEST_EFFORT = "best effort"


@dataclass(frozen=True, slots=True)
class Deleted:
    """The object is gone from view. `marker_version_id` is the delete marker above it, where that is provably ours
    (None: unversioned, or the answer that named it was lost). `freed` says that no version of it is left."""

    marker_version_id: str | None = None
    freed: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """The object (or what replaced it) is there; `reason` is a short fixed phrase."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Denied:
    """The object is there: these credentials may not delete it."""

    error: AccessDeniedError


@dataclass(frozen=True, slots=True)
class Unversioned:
    """Versioning is not Enabled any more: what was to be hidden may be destroyed. Nothing more may be deleted, and
    the object must come back from the vault."""

    detail: str


Deletion = Deleted | Kept | Denied | Unversioned


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
    """Delete `entry`'s object by `method`. `fence_time` is the store's own time from before this group's deletes.

    A denial is an answer about this one object: a bucket policy may deny single keys, and the others can go.
    """
    ways: dict[Method, Callable[[Bucket, BackupEntry, datetime], Awaitable[Deletion]]] = {
        Method.MARKER_CONDITIONAL: lambda b, e, t: _by_marker(b, e, t, conditional=True),
        Method.MARKER: lambda b, e, t: _by_marker(b, e, t, conditional=False),
        Method.CONDITIONAL: _by_condition,
        Method.BEST_EFFORT: _by_head,
    }
    try:
        return await ways[method](bucket, entry, fence_time)
    except AccessDeniedError as error:
        if error.details.get("action") != "s3:DeleteObject":
            raise  # what is left cannot be seen, or a marker of ours not removed: that is about all of them
        return Denied(error)


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
        if error.details.get("status") in (400, 405):
            return Kept("refused by the store", error.message)
        answer = None  # the answer was lost or the store stumbled: the versions decide
    if answer is not None and answer.status in (404, 412):
        return Kept("missing" if answer.status == 404 else "replaced", f"the store answered {answer.status}")
    versions = await bucket.versions(entry.key)
    hidden = hidden_by_marker(versions)
    if hidden is not None and hidden[0].version_id in _NO_VERSION:
        # Only a bucket whose versioning is suspended makes a marker without an id of its own, and such a marker
        # replaces the null version, bytes and all.
        return Unversioned("the delete left a null marker")
    if hidden is None:
        if (
            answer is not None
            and answer.version_id in _NO_VERSION
            and (status := (await bucket.versioning()).status) != "Enabled"
        ):
            return Unversioned(f"the delete left no marker: versioning is {status} now")
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
    # Some stores answer a second delete with the marker that was there already: that one is not ours. Taking a marker
    # of the last minute for ours only means that a restore would also undo somebody else's deletion of the same,
    # unreferenced version. versitygw gives a marker the time of the object that it hides, which says nothing about the
    # deletion; but there a second delete leaves a second marker, and then the version is not directly below.
    tells_its_time = marker.last_modified.replace(microsecond=0) - entry.last_modified > timedelta(seconds=1)
    if tells_its_time and marker.last_modified < fence_time - MARKER_GRACE:
        return Kept("missing", "deleted by somebody else before this group")
    if below is not None and is_recorded_version(entry, below):
        return Deleted(marker.version_id if ours else None)
    if ours or answer is None:
        # Newer data lies below a marker of ours. Removing exactly that marker brings it back; nothing else changes.
        await bucket.delete(entry.key, version_id=marker.version_id)
        return Kept("replaced", "a newer version was below our marker; the marker was removed at once")
    return Kept("replaced", "the version below the latest marker is not the one that was planned")


async def _by_condition(bucket: Bucket, entry: BackupEntry, _fence_time: datetime) -> Deletion:
    try:
        answer = await bucket.delete(entry.key, if_match=entry.etag)
    except StoreError as error:
        if error.details.get("status") in (400, 405):
            return Kept("refused by the store", error.message)
        answer = None
    head = await bucket.head(entry.key)
    if head is None:
        if answer is not None and answer.status == 404:
            return Kept("missing", "deleted by somebody else before this group")
        return _gone(answer)
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
        answer = await bucket.delete(entry.key)  # never repeated: a second one could hit a newer object
    except StoreError as error:
        if error.details.get("status") in (400, 405):
            return Kept("refused by the store", error.message)
        answer = None
    if await bucket.head(entry.key) is None:
        return _gone(answer)
    return Kept("still there", "uploaded again, or not deleted")


def _gone(answer: DeleteAnswer | None) -> Deleted:
    """What a delete without a version id did in a bucket that was not versioned when the cycle began. Where versioning
    was enabled since, it left a marker and freed nothing; after a lost answer nobody knows, and nothing is claimed."""
    if answer is None or answer.is_marker:
        marker = answer.version_id if answer is not None else None
        return Deleted(None if marker in _NO_VERSION else marker)
    return Deleted(freed=True)
