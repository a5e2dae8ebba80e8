"""Reading the objects of a group: only what is still the planned object, may be touched, and can come back
exactly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from s3gc.exceptions import AccessDeniedError, BackupError, StoreError, ThrottledError
from s3gc.store.bucket import Bucket
from s3gc.store.errors import ArchivedError, ObjectChangedError
from s3gc.store.headers import unsendable
from s3gc.store.types import ObjectHead
from s3gc.vault.records import BackupEntry, PlannedObject

__all__ = ["Fetcher", "Skip", "reason_to_skip", "why_locked"]

#: Storage classes whose bytes cannot be read at once.
_ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_ATTEMPTS = 3
#: So many objects one after another that fail for no reason of their own: then it is not the objects.
_FAILURES_IN_A_ROW = 20
#: So many answers that there are no ACLs make a store one that has none.
_ACL_SAMPLE = 3
#: So many objects without a count of tags are asked for them: AWS leaves the count out where we may not read tags, and
#: a store that never sends it must not be taken for one without tags.
_UNTAGGED_SAMPLE = 3

#: (reason, detail)
Skip = tuple[str, str]
_T = TypeVar("_T")
_MISSING: Skip = ("missing", "it is not there any more")


class Fetcher:
    """Opens the objects of one group and keeps the reasons of those that are skipped. Make it with `open`."""

    def __init__(
        self,
        bucket: Bucket,
        operation_id: str,
        group: int,
        *,
        has_locks: bool,
        locked_by_default: timedelta | None,
        now: datetime,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._bucket = bucket
        self._operation_id = operation_id
        self._group = group
        self._has_locks = has_locks
        self._locked_by_default = locked_by_default
        self._now = now
        self._acl = _AclPolicy(bucket)
        self._untagged = 0
        self._counts_tags = True
        self._progress = progress
        self._failures = 0
        self._done = 0
        self.skipped: dict[str, Skip] = {}

    @classmethod
    async def open(
        cls, bucket: Bucket, operation_id: str, group: int, progress: Callable[[int], None] | None = None
    ) -> Fetcher:
        """Ask the bucket for its locks and its time first."""
        lock = await bucket.lock_configuration()
        default = timedelta(days=lock.default_days) if lock.default_mode and lock.default_days else None
        now = await bucket.server_time()
        return cls(
            bucket,
            operation_id,
            group,
            has_locks=lock.enabled,
            locked_by_default=default,
            now=now,
            progress=progress,
        )

    def finished(self, count: int) -> None:
        """So many more objects are done with."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done)

    def skip(self, key: str, reason: str, detail: str) -> None:
        """Note why an object is left alone. Raises BackupError when too many fail in a row."""
        self.skipped[key] = (reason, detail)
        if reason in ("failed", "denied"):
            self._failures += 1
            if self._failures >= _FAILURES_IN_A_ROW:
                raise BackupError(
                    f"{self._failures} objects of bucket {self._bucket.name!r} one after another could not "
                    "be read, the "
                    f"last because: {detail} Nothing of this group was deleted"
                )
        else:
            self._failures = 0
        self.finished(1)

    async def attempt(self, planned: PlannedObject, read: Callable[[], Awaitable[_T]]) -> _T | None:
        """Read with a few repeats; None with the reason noted. What says that the whole store is in
        trouble is raised."""
        reason = detail = ""
        for attempt in range(_ATTEMPTS):
            try:
                result = await read()
            except ObjectChangedError:
                reason, detail = "replaced", "its ETag is not the planned one any more"
            except ArchivedError as error:
                reason, detail = "archived", error.message
            except AccessDeniedError as error:
                reason, detail = "denied", error.message
            except ThrottledError:
                raise
            except StoreError as error:
                reason, detail = "failed", f"{error.message} (tried {attempt + 1} times)"
                if error.details.get("status") == 400:
                    # The only way in which a GET of a key that exists is a bad request: its encryption key is
                    # missing.
                    reason, detail = "sse_c", f"encrypted with a key of the customer's own: {error.message}"
            else:
                if result is not None:
                    self._failures = 0
                return result
            if reason != "failed":
                break
            await asyncio.sleep(0.2 * 2**attempt)
        self.skip(planned.key, reason, detail)
        return None

    @contextlib.asynccontextmanager
    async def opened(
        self, planned: PlannedObject
    ) -> AsyncIterator[tuple[ObjectHead, AsyncIterator[bytes]] | None]:
        """The object as it is now, if it is the planned one and may be touched; else None with the reason
        noted."""
        if planned.storage_class in _ARCHIVED:
            self.skip(planned.key, "archived", f"its storage class is {planned.storage_class}")
            yield None
            return
        if self._has_locks:
            # versitygw shows an object's lock in the answer to HEAD and not in that to GET.
            reason = self._why_not(planned, await self._bucket.head(planned.key))
            if reason is not None:
                self.skip(planned.key, *reason)
                yield None
                return
        async with self._bucket.get(planned.key, if_match=planned.etag) as download:
            reason = self._why_not(planned, download.head if download is not None else None)
            if reason is not None or download is None:
                self.skip(planned.key, *(reason or _MISSING))
                yield None
                return
            yield download.head, download.chunks

    def _why_not(self, planned: PlannedObject, head: ObjectHead | None) -> Skip | None:
        if head is None:
            return _MISSING
        return reason_to_skip(planned, head, now=self._now, locked_by_default=self._locked_by_default)

    async def draft(self, planned: PlannedObject, head: ObjectHead) -> BackupEntry:
        """All that must come back with the object but its bytes."""
        tags: tuple[tuple[str, str], ...] | None = ()
        if head.headers.get("x-amz-tagging-count", "0") not in ("", "0"):
            tags = await self._bucket.tags(planned.key, version_id=head.version_id)
        elif self._untagged < _UNTAGGED_SAMPLE or not self._counts_tags:
            self._untagged += 1
            try:
                tags = await self._bucket.tags(planned.key, version_id=head.version_id)
            except AccessDeniedError:
                self._untagged -= 1  # this object is kept, and the next one is asked as well
                raise
            self._counts_tags = self._counts_tags and not tags
        return BackupEntry(
            operation_id=self._operation_id,
            group=self._group,
            key=planned.key,
            etag=head.etag,
            size=head.size,
            last_modified=head.last_modified,
            version_id=head.version_id,
            storage_class=head.storage_class,
            sha256="",
            headers=dict(head.headers),
            tags=tags,
            acl=await self._acl.read(planned.key, head.version_id),
            parts=(),
        )


def reason_to_skip(
    planned: PlannedObject, head: ObjectHead, *, now: datetime, locked_by_default: timedelta | None
) -> Skip | None:
    """Why this object must not be deleted, as (reason, detail), or None. `now` is the store's own time.

    Times are compared in whole seconds: HEAD has no more, where a listing may have milliseconds.
    """
    was, is_now = planned.last_modified.replace(microsecond=0), head.last_modified.replace(microsecond=0)
    if head.etag != planned.etag or head.size != planned.size or was != is_now:
        return "replaced", f"planned {planned.size} bytes of {was:%FT%TZ}, now {head.size} of {is_now:%FT%TZ}"
    headers = head.headers
    if lock := why_locked(head, now=now, locked_by_default=locked_by_default):
        return "locked", lock
    if headers.get("x-amz-server-side-encryption-customer-algorithm"):
        return "sse_c", "encrypted with a key of the customer's own"
    if headers.get("x-amz-missing-meta", "0") not in ("", "0"):
        return (
            "unreadable_metadata",
            f"{headers['x-amz-missing-meta']} of its metadata cannot be read (x-amz-missing-meta)",
        )
    if (name := unsendable(headers)) is not None:
        return "unreadable_metadata", f"its header {name} has bytes that could not be sent back exactly"
    return None


def why_locked(head: ObjectHead, *, now: datetime, locked_by_default: timedelta | None) -> str | None:
    """What protects this version (legal hold, or a retention and its date), as far as HEAD shows it; None: nothing."""
    headers = head.headers
    if headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON":
        return "under legal hold"
    until = headers.get("x-amz-object-lock-retain-until-date")
    if until is not None:
        mode = headers.get("x-amz-object-lock-mode", "retention")
        try:
            is_over = datetime.fromisoformat(until).astimezone(UTC) <= now
        except ValueError:
            is_over = False
        return None if is_over else f"{mode} until {until}"
    if locked_by_default is not None and head.last_modified + locked_by_default > now:
        # Some stores enforce a bucket's default retention and do not show it on the object.
        return f"default retention of the bucket until {head.last_modified + locked_by_default:%FT%TZ}"
    return None


class _AclPolicy:
    """Asks every object for its ACL, as most have the default one and any may be public; but not where the store says
    that it has none, since the question costs as much as the object."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._without = 0
        self._denied = False

    async def read(self, key: str, version_id: str | None) -> str | None:
        if self._denied or self._without >= _ACL_SAMPLE:
            return None
        try:
            acl = await self._bucket.acl(key, version_id=version_id)
        except AccessDeniedError:  # without s3:GetObjectAcl objects come back with the bucket's default ACL
            self._denied = True
            return None
        self._without = 0 if self._bucket.has_acls else self._without + 1
        return acl
