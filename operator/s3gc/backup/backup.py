"""Back up one group: fetch side by side, compare with the plan, pack, seal, read back.

An object gets an entry only if it is, at this moment, the object that was planned (ETag, size and time),
can come back exactly (its metadata is readable and sendable, its class is not an archive, it is not
encrypted with a key of the customer's), is not under a lock, and its bytes came back from the vault with
the right SHA-256. Everything else is skipped with a reason, and what is skipped is not deleted.

Memory is bounded whatever the objects' sizes: small ones are fetched under a budget of bytes in flight,
large ones one at a time in parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from s3gc.backup.budget import Budget
from s3gc.backup.packs import PackWriter, compress, compress_all
from s3gc.backup.reading import read_object
from s3gc.config import S3GCConfig
from s3gc.exceptions import AccessDeniedError, BackupError, StoreError, ThrottledError
from s3gc.store.bucket import Bucket
from s3gc.store.errors import ArchivedError, ObjectChangedError
from s3gc.store.headers import unsendable
from s3gc.store.types import ObjectHead
from s3gc.vault.operations import Operation
from s3gc.vault.records import BackupEntry, PackPart, PlannedObject
from s3gc.vault.vault import Vault

__all__ = ["GroupBackup", "back_up", "read_object", "reason_to_skip"]

#: Storage classes whose bytes cannot be read at once.
_ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
#: Original bytes of small objects that are in memory at once.
_IN_FLIGHT = 16 * 1024 * 1024
#: What a request costs beside its bytes, so that a million empty objects are not free.
_OVERHEAD = 8 * 1024
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_OBJECTS = 512
_ATTEMPTS = 3
#: So many objects one after another that fail for no reason of their own: then it is not the objects.
_FAILURES_IN_A_ROW = 20
#: How many objects are asked for their ACL before a store other than AWS is taken to have none.
_ACL_SAMPLE = 3

_Skip = tuple[str, str]
_MISSING: _Skip = ("missing", "it is not there any more")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class GroupBackup:
    """What came of a group: `entries` are proven, `skipped` maps a key to (reason, detail) and must not be
    deleted.

    Reasons: replaced, missing, locked, archived, sse_c, unreadable_metadata, denied, failed.
    """

    entries: dict[str, BackupEntry]
    skipped: dict[str, _Skip]
    packed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A small object, whole; `draft` lacks the SHA-256 and the parts."""

    draft: BackupEntry
    content: bytes
    cost: int


@dataclass(slots=True)
class _Group:
    """What the steps of one group share."""

    bucket: Bucket
    writer: PackWriter
    operation_id: str
    number: int
    has_locks: bool
    locked_by_default: timedelta | None
    now: datetime
    acl: _AclPolicy
    progress: Callable[[int], None] | None
    entries: dict[str, BackupEntry] = field(default_factory=dict)
    skipped: dict[str, _Skip] = field(default_factory=dict)
    failures: int = 0
    done: int = 0

    def finished(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done)

    def skip(self, key: str, reason: str, detail: str) -> None:
        self.skipped[key] = (reason, detail)
        if reason in ("failed", "denied"):
            self.failures += 1
            if self.failures >= _FAILURES_IN_A_ROW:
                raise BackupError(
                    f"{self.failures} objects of bucket {self.bucket.name!r} one after another could not be "
                    "read, the last "
                    f"because: {detail} Nothing of this group was deleted"
                )
        else:
            self.failures = 0
        self.finished(1)

    async def seal(self) -> None:
        for entry in await self.writer.seal():
            self.entries[entry.key] = entry


async def back_up(
    bucket: Bucket,
    vault: Vault,
    operation: Operation,
    group: int,
    objects: Sequence[PlannedObject],
    config: S3GCConfig,
    *,
    progress: Callable[[int], None] | None = None,
) -> GroupBackup:
    """Back up `objects` as group `group` of `operation` and prove it; see `GroupBackup`.

    `progress` is called with the number of objects done so far. Raises BackupError when the vault does not
    give back what was written or objects fail in a row, VaultError when it cannot be written. Nothing may
    be deleted then.
    """
    lock = await bucket.lock_configuration()
    default = timedelta(days=lock.default_days) if lock.default_mode and lock.default_days else None
    state = _Group(
        bucket=bucket,
        writer=await PackWriter.open(
            operation, level=config.compression_level, pack_size=config.pack_size_bytes
        ),
        operation_id=operation.id,
        number=group,
        has_locks=lock.enabled,
        locked_by_default=default,
        now=await bucket.server_time(),
        acl=_AclPolicy(bucket),
        progress=progress,
    )
    small = [planned for planned in objects if planned.size <= state.writer.part_bytes()]
    large = [planned for planned in objects if planned.size > state.writer.part_bytes()]
    await _back_up_small(state, small, config.concurrency)
    for planned in large:
        await _back_up_large(state, planned)
    await state.seal()
    return GroupBackup(state.entries, state.skipped, state.writer.sealed_bytes)


# --- small objects: side by side, packed in batches


async def _back_up_small(state: _Group, objects: Sequence[PlannedObject], concurrency: int) -> None:
    budget = Budget(_IN_FLIGHT)
    fetched: asyncio.Queue[_Fetched | None] = asyncio.Queue()  # bounded by the budget
    waiting = iter(objects)

    async def fetch_all() -> None:
        async with asyncio.TaskGroup() as fetchers:
            for _ in range(min(concurrency, len(objects))):
                fetchers.create_task(fetch(waiting))
        fetched.put_nowait(None)

    async def fetch(mine: Iterator[PlannedObject]) -> None:
        for planned in mine:
            cost = planned.size + _OVERHEAD
            await budget.take(cost)
            item = None
            try:
                item = await _fetch(state, planned, cost)
            finally:
                if item is None:
                    budget.give(cost)
            if item is not None:
                fetched.put_nowait(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fetch_all())
            is_over = False
            while not is_over:
                batch, is_over = await _next_batch(fetched)
                if batch:
                    await _pack(state, batch)
                    budget.give(sum(item.cost for item in batch))
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors


async def _next_batch(queue: asyncio.Queue[_Fetched | None]) -> tuple[list[_Fetched], bool]:
    """At least one object, and as many more as are there and fit; True when there are no more to come."""
    batch: list[_Fetched] = []
    size = 0
    item = await queue.get()
    while item is not None:
        batch.append(item)
        size += len(item.content)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_OBJECTS or queue.empty():
            return batch, False
        item = queue.get_nowait()
    return batch, True


async def _pack(state: _Group, batch: Sequence[_Fetched]) -> None:
    frames = await asyncio.to_thread(compress_all, [item.content for item in batch], state.writer.level)
    for item, frame in zip(batch, frames, strict=True):
        part = state.writer.place(frame)
        entry = replace(item.draft, sha256=frame.raw_sha256, parts=(part,))
        state.writer.describe(entry.key, 0, frame, part, entry)
        if state.writer.is_full:
            await state.seal()
    state.finished(len(batch))


async def _fetch(state: _Group, planned: PlannedObject, cost: int) -> _Fetched | None:
    """The whole object, or None with the reason noted."""

    async def read() -> _Fetched | None:
        async with _opened(state, planned) as opened:
            if opened is None:
                return None
            head, chunks = opened
            content = b"".join([chunk async for chunk in chunks])
        if len(content) != planned.size:
            raise StoreError(f"key {planned.key!r}: {len(content)} of {planned.size} bytes arrived")
        return _Fetched(await _draft(state, planned, head), content, cost)

    return await _attempt(state, planned, read)


# --- large objects: one at a time, in parts


async def _back_up_large(state: _Group, planned: PlannedObject) -> None:
    async def read() -> bool | None:
        async with _opened(state, planned) as opened:
            if opened is None:
                return None
            head, chunks = opened
            draft = await _draft(state, planned, head)
            await _pack_stream(state, draft, chunks)
        return True

    if await _attempt(state, planned, read):
        state.finished(1)


async def _pack_stream(state: _Group, draft: BackupEntry, chunks: AsyncIterator[bytes]) -> None:
    """Cut the stream into parts and pack each. A stream that breaks leaves parts without an entry: garbage
    in a pack, never an entry without its bytes."""
    digest = hashlib.sha256()
    parts: list[PackPart] = []
    total = 0
    async for raw, is_last in _in_parts(chunks, state.writer.part_bytes(draft.size), draft.size):
        total += len(raw)
        await asyncio.to_thread(digest.update, raw)
        frame = await asyncio.to_thread(compress, raw, state.writer.level)
        part = state.writer.place(frame)
        parts.append(part)
        entry = replace(draft, sha256=digest.hexdigest(), parts=tuple(parts)) if is_last else None
        state.writer.describe(draft.key, len(parts) - 1, frame, part, entry)
        if state.writer.is_full:
            await state.seal()
    if total != draft.size:
        raise StoreError(f"key {draft.key!r}: {total} of {draft.size} bytes arrived")


async def _in_parts(chunks: AsyncIterator[bytes], size: int, total: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Parts of exactly `size` bytes, the last one shorter; True with the part that completes `total`
    bytes."""
    buffer = bytearray()
    seen = 0
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= size:
            part = bytes(memoryview(buffer)[:size])
            del buffer[:size]
            seen += len(part)
            yield part, seen == total
    if buffer:
        seen += len(buffer)
        yield bytes(buffer), seen == total


# --- what both share


async def _attempt(state: _Group, planned: PlannedObject, read: Callable[[], Awaitable[_T]]) -> _T | None:
    """Read with a few repeats; None with the reason noted. What says that the whole store is in trouble is
    raised."""
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
                state.failures = 0
            return result
        if reason != "failed":
            break
        await asyncio.sleep(0.2 * 2**attempt)
    state.skip(planned.key, reason, detail)
    return None


@contextlib.asynccontextmanager
async def _opened(
    state: _Group, planned: PlannedObject
) -> AsyncIterator[tuple[ObjectHead, AsyncIterator[bytes]] | None]:
    """The object as it is now, if it is the planned one and may be touched; else None with the reason
    noted."""
    if planned.storage_class in _ARCHIVED:
        state.skip(planned.key, "archived", f"its storage class is {planned.storage_class}")
        yield None
        return
    if state.has_locks:
        # versitygw shows an object's lock in the answer to HEAD and not in that to GET.
        reason = _why_not(state, planned, await state.bucket.head(planned.key))
        if reason is not None:
            state.skip(planned.key, *reason)
            yield None
            return
    async with state.bucket.get(planned.key, if_match=planned.etag) as download:
        reason = _why_not(state, planned, download.head if download is not None else None)
        if reason is not None or download is None:
            state.skip(planned.key, *(reason or _MISSING))
            yield None
            return
        yield download.head, download.chunks


def _why_not(state: _Group, planned: PlannedObject, head: ObjectHead | None) -> _Skip | None:
    if head is None:
        return _MISSING
    return reason_to_skip(planned, head, now=state.now, locked_by_default=state.locked_by_default)


def reason_to_skip(
    planned: PlannedObject, head: ObjectHead, *, now: datetime, locked_by_default: timedelta | None
) -> _Skip | None:
    """Why this object must not be deleted, as (reason, detail), or None. `now` is the store's own time.

    Times are compared in whole seconds: HEAD has no more, where a listing may have milliseconds.
    """
    was, is_now = planned.last_modified.replace(microsecond=0), head.last_modified.replace(microsecond=0)
    if head.etag != planned.etag or head.size != planned.size or was != is_now:
        return "replaced", f"planned {planned.size} bytes of {was:%FT%TZ}, now {head.size} of {is_now:%FT%TZ}"
    headers = head.headers
    if headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON":
        return "locked", "under legal hold"
    until = headers.get("x-amz-object-lock-retain-until-date")
    if until is not None:
        mode = headers.get("x-amz-object-lock-mode", "retention")
        try:
            is_over = datetime.fromisoformat(until).astimezone(UTC) <= now
        except ValueError:
            is_over = False
        if not is_over:
            return "locked", f"{mode} until {until}"
    elif locked_by_default is not None and head.last_modified + locked_by_default > now:
        # Some stores enforce a bucket's default retention and do not show it on the object.
        return (
            "locked",
            f"default retention of the bucket until {head.last_modified + locked_by_default:%FT%TZ}",
        )
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


async def _draft(state: _Group, planned: PlannedObject, head: ObjectHead) -> BackupEntry:
    """All that must come back with the object but its bytes."""
    tags: tuple[tuple[str, str], ...] | None = ()
    if head.headers.get("x-amz-tagging-count", "0") not in ("", "0"):
        tags = await state.bucket.tags(planned.key, version_id=head.version_id)
    return BackupEntry(
        operation_id=state.operation_id,
        group=state.number,
        key=planned.key,
        etag=head.etag,
        size=head.size,
        last_modified=head.last_modified,
        version_id=head.version_id,
        storage_class=head.storage_class,
        sha256="",
        headers=dict(head.headers),
        tags=tags,
        acl=await state.acl.read(planned.key, head.version_id),
        parts=(),
    )


class _AclPolicy:
    """Asks for ACLs where there may be any. AWS is always asked; another store only while it shows that it
    has them, as most have none and the question costs as much as the object."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._always = ".amazonaws.com" in bucket.endpoint
        self._asked = 0
        self._found = False
        self._denied = False

    async def read(self, key: str, version_id: str | None) -> str | None:
        if self._denied or (not self._always and not self._found and self._asked >= _ACL_SAMPLE):
            return None
        self._asked += 1
        try:
            acl = await self._bucket.acl(key, version_id=version_id)
        except AccessDeniedError:  # without s3:GetObjectAcl objects come back with the bucket's default ACL
            self._denied = True
            return None
        self._found = self._found or acl is not None
        return acl


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of tasks that is not merely the others being cancelled."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return errors.exceptions[0]
