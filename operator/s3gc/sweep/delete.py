"""How objects of a bucket are deleted: the choice, and the ways of buckets without versions, one object at a time.

Stores differ and some lie (they accept a condition on DELETE and delete anyway), so the way is chosen from what the
probe saw with its own objects, and each deletion is judged by what is left afterwards, never by the status code.

Why each way loses nothing newer than what was backed up:

* ``marker`` (versioning Enabled): see `sweep.markers`.
* ``conditional`` (unversioned, If-Match honoured by a probe with a positive control): the store itself compares. The
  same bytes uploaded again have the same ETag, and may have other metadata and a writer who is about to reference
  them; a group can be minutes old by now, so HEAD immediately before compares the time as well. What remains is such
  an upload between HEAD and DELETE: the backup holds those bytes, and the check brings them back if a row names them.
* ``best_effort`` (unversioned, condition ignored): only where the policy says so. HEAD immediately before; an upload
  between HEAD and DELETE is lost, and docs/safety.md says so.
"""

from __future__ import annotations

from enum import StrEnum

from s3gc.config import DeletionCondition, S3GCConfig
from s3gc.exceptions import AccessDeniedError, RefusedError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.store.probe import Capabilities
from s3gc.store.types import DeleteAnswer
from s3gc.sweep.outcomes import NO_VERSION, Deleted, Deletion, Denied, Kept
from s3gc.vault.records import BackupEntry

__all__ = ["Method", "choose_method", "delete_object", "foreseen"]


class Method(StrEnum):
    MARKER_CONDITIONAL = "marker, If-Match"
    MARKER = "marker"
    CONDITIONAL = "If-Match"
    BEST_EFFORT = "best effort"


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


async def foreseen(bucket: Bucket, config: S3GCConfig) -> str:
    """Say what an Execute would meet in this bucket, as far as looking tells; "" when nothing, or nothing may be asked.

    For the modes that delete nothing: what the store really honours only an Execute can try.
    """
    try:
        status = (await bucket.versioning()).status
    except (AccessDeniedError, StoreError):
        return ""
    if status == "Suspended":
        return "Execute would be refused: versioning is Suspended; enable it on the bucket"
    if status == "Off" and config.deletion.condition is DeletionCondition.REQUIRED:
        return (
            "Execute would be refused unless the store honours If-Match on DELETE, since the bucket is not versioned: "
            "enable versioning (recommended), or accept the race with deletion: {condition: BestEffort}"
        )
    return ""


def _refused(what: str, way_on: str) -> RefusedError:
    return RefusedError(f"{what}. The way on: {way_on}.", details={"guard": "deletion", "way_on": way_on})


async def delete_object(bucket: Bucket, entry: BackupEntry, *, conditional: bool) -> Deletion:
    """Delete `entry`'s object of a bucket without versions: under If-Match, or else directly after a HEAD.

    A denial is an answer about this one object: a bucket policy may deny single keys, and the others can go.
    """
    try:
        return await (_by_condition if conditional else _by_head)(bucket, entry)
    except AccessDeniedError as error:
        if error.details.get("action") != "s3:DeleteObject":
            raise  # what is left cannot be seen: that is about all of them
        return Denied(error)


async def _planned_no_more(bucket: Bucket, entry: BackupEntry) -> Kept | None:
    """Why the object at this key is not the planned one any more; None while it is, as far as HEAD can tell."""
    head = await bucket.head(entry.key)
    if head is None:
        return Kept("missing", "deleted by somebody else before this group")
    same_second = head.last_modified.replace(microsecond=0) == entry.last_modified.replace(microsecond=0)
    if head.etag != entry.etag or head.size != entry.size or not same_second:
        return Kept("replaced", "another object is at this key")
    return None


async def _by_condition(bucket: Bucket, entry: BackupEntry) -> Deletion:
    if (kept := await _planned_no_more(bucket, entry)) is not None:
        return kept
    try:
        answer = await bucket.delete(entry.key, if_match=entry.etag)
    except StoreError as error:
        if error.details.get("status") in (400, 405):
            return Kept("refused by the store", error.message)
        answer = None
    if answer is not None and answer.status in (404, 412) and answer.is_repeated:
        answer = None  # it may be our own first attempt, whose answer was lost, that is seen here
    head = await bucket.head(entry.key)
    if head is None:
        if answer is not None and answer.status == 404:
            return Kept("missing", "deleted by somebody else before this group")
        return _gone(answer)
    if head.etag != entry.etag:
        return Kept("replaced", "another object is at this key")
    return Kept("still there", f"the store answered {answer.status if answer else 'nothing'}")


async def _by_head(bucket: Bucket, entry: BackupEntry) -> Deletion:
    if (kept := await _planned_no_more(bucket, entry)) is not None:
        return kept
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
        return Deleted(None if marker in NO_VERSION else marker)
    return Deleted(freed=True)
