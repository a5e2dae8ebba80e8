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
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from s3gc.backup.budget import Budget
from s3gc.backup.fetching import Fetcher, Skip, reason_to_skip
from s3gc.backup.packs import PackWriter, compress, compress_all
from s3gc.backup.reading import read_object
from s3gc.config import S3GCConfig
from s3gc.exceptions import StoreError
from s3gc.store.bucket import Bucket
from s3gc.vault.operations import Operation
from s3gc.vault.records import BackupEntry, PackPart, PlannedObject
from s3gc.vault.vault import Vault

__all__ = ["GroupBackup", "back_up", "read_object", "reason_to_skip"]

#: Original bytes of small objects that are in memory at once.
_IN_FLIGHT = 16 * 1024 * 1024
#: What a request costs beside its bytes, so that a million empty objects are not free.
_OVERHEAD = 8 * 1024
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_OBJECTS = 512


@dataclass(frozen=True, slots=True)
class GroupBackup:
    """What came of a group: `entries` are proven, `skipped` maps a key to (reason, detail) and must not be
    deleted.

    Reasons: replaced, missing, locked, archived, sse_c, unreadable_metadata, denied, failed.
    """

    entries: dict[str, BackupEntry]
    skipped: dict[str, Skip]
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

    fetcher: Fetcher
    writer: PackWriter
    entries: dict[str, BackupEntry] = field(default_factory=dict)

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
    state = _Group(
        fetcher=await Fetcher.open(bucket, operation.id, group, progress),
        writer=await PackWriter.open(
            operation, level=config.compression_level, pack_size=config.pack_size_bytes
        ),
    )
    small = [planned for planned in objects if planned.size <= state.writer.part_bytes()]
    large = [planned for planned in objects if planned.size > state.writer.part_bytes()]
    await _back_up_small(state, small, config.concurrency)
    for planned in large:
        await _back_up_large(state, planned)
    await state.seal()
    return GroupBackup(state.entries, state.fetcher.skipped, state.writer.sealed_bytes)


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
    state.fetcher.finished(len(batch))


async def _fetch(state: _Group, planned: PlannedObject, cost: int) -> _Fetched | None:
    """The whole object, or None with the reason noted."""

    async def read() -> _Fetched | None:
        async with state.fetcher.opened(planned) as opened:
            if opened is None:
                return None
            head, chunks = opened
            content = b"".join([chunk async for chunk in chunks])
        if len(content) != planned.size:
            raise StoreError(f"key {planned.key!r}: {len(content)} of {planned.size} bytes arrived")
        return _Fetched(await state.fetcher.draft(planned, head), content, cost)

    return await state.fetcher.attempt(planned, read)


# --- large objects: one at a time, in parts


async def _back_up_large(state: _Group, planned: PlannedObject) -> None:
    async def read() -> bool | None:
        async with state.fetcher.opened(planned) as opened:
            if opened is None:
                return None
            head, chunks = opened
            draft = await state.fetcher.draft(planned, head)
            await _pack_stream(state, draft, chunks)
        return True

    if await state.fetcher.attempt(planned, read):
        state.fetcher.finished(1)


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


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of tasks that is not merely the others being cancelled."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return errors.exceptions[0]
