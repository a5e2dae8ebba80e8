"""Deletion in a versioned bucket: a delete marker, and the proof of what lies directly below it.

Why nothing newer than what was backed up is lost: a DELETE without a version id destroys no bytes while versioning is
Enabled. Whatever version lies directly below our marker is what we hid. If it is not the one that was backed up, the
marker is removed at once and the newer data is back. What is directly below a marker never changes afterwards, so a
list of versions that shows our marker (by the id that the DELETE was answered) above the planned version is a proof
whenever it was made; anything else is judged by a list of that key alone, asked for then.

How long newer data can be hidden: an upload between the backup and our DELETE stays hidden until its proof. Objects go
in batches of neighbours: all DELETEs of a batch side by side, then its proofs, before that worker begins another one.
So the bound is the DELETEs of at most `SIDE_BY_SIDE * BATCH` keys and their lists, well under a second on the stores
that were measured; where the store honours If-Match, only an upload of the very same bytes can be hidden at all.

Killed in between, the markers that are not proven yet are those of at most `SIDE_BY_SIDE * BATCH` keys, all in the
journal, which was durable before the first DELETE: `sweep.recover` looks at every one of them. The same is done within
the cycle when a proof could not be had (`SweepResult.unproven`).

Where somebody suspends versioning under the sweep a DELETE does destroy the null version. The answer shows it (no
marker with an id of its own): no further DELETE is sent, the sweep ends, and the object comes back from the vault
(`sweep.undo`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from s3gc.backup.bringing import is_recorded_version
from s3gc.exceptions import AccessDeniedError, S3GCError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.store.keys import key_bytes
from s3gc.store.neighbours import VersionsOfMany
from s3gc.store.types import DeleteAnswer, ObjectVersion
from s3gc.sweep.outcomes import NO_VERSION, Deleted, Deletion, Denied, Kept, Unversioned
from s3gc.vault.records import BackupEntry

__all__ = ["BATCH", "SIDE_BY_SIDE", "Markers", "Settle", "hidden_by_marker"]

#: Keys whose markers are proven together.
BATCH = 128
#: Batches at once: one is being proven while the other is being deleted.
SIDE_BY_SIDE = 2
#: How much older than the group's beginning a marker may be to be taken for ours: clocks within a store differ.
MARKER_GRACE = timedelta(seconds=60)

_T = TypeVar("_T")
#: Called once for each object that was tried; an error means that nobody knows what is left of it.
Settle = Callable[[BackupEntry, Deletion | S3GCError], None]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A DELETE that may have left a marker; `answer` is None where nobody knows what it did."""

    entry: BackupEntry
    answer: DeleteAnswer | None

    @property
    def marker(self) -> str | None:
        """The id of our marker as it was answered; None where it was not, or is none of its own."""
        if self.answer is None or self.answer.version_id in NO_VERSION:
            return None
        return self.answer.version_id


class Markers:
    """The markers of one sweep. `conditional`: the store was seen to honour If-Match. For one event loop."""

    def __init__(self, bucket: Bucket, *, conditional: bool, concurrency: int) -> None:
        self._bucket = bucket
        self._conditional = conditional
        self._concurrency = concurrency
        self._versions = VersionsOfMany(bucket)
        self._answers_name_markers = True
        self._is_switched_off = False

    async def delete(
        self,
        entries: Sequence[BackupEntry],
        fence_time: datetime,
        settle: Settle,
        goes_on: Callable[[], bool],
    ) -> None:
        """Delete `entries` and prove each. `fence_time` is the store's own time from before the first DELETE; once
        `goes_on` says no, no further DELETE is sent, and what was sent is still proven."""
        batches = _batches(sorted(entries, key=lambda entry: key_bytes(entry.key)))

        async def work() -> None:
            for batch in batches:
                if not goes_on():
                    return
                await self._batch(batch, fence_time, settle, goes_on)

        await asyncio.gather(*(work() for _ in range(SIDE_BY_SIDE)))

    async def _batch(
        self,
        batch: Sequence[BackupEntry],
        fence_time: datetime,
        settle: Settle,
        goes_on: Callable[[], bool],
    ) -> None:
        sent: dict[str, _Sent] = {}

        async def send(entry: BackupEntry) -> None:
            if self._is_switched_off or not goes_on():
                return
            outcome = await self._send(entry)
            if isinstance(outcome, _Sent):
                sent[entry.key] = outcome
            else:
                settle(entry, outcome)

        async def judge(one: _Sent) -> None:
            try:
                settle(one.entry, await self._judge(one, fence_time))
            except S3GCError as error:
                settle(one.entry, error)

        await self._side_by_side(send, batch)
        shown = await self._versions.of([e.key for e in batch if e.key in sent and sent[e.key].marker])
        left: list[_Sent] = []
        for one in sent.values():
            if _is_proven(one, shown.get(one.entry.key, ()), fence_time):
                settle(one.entry, Deleted(one.marker))
            else:
                left.append(one)
        await self._side_by_side(judge, left)

    async def _side_by_side(self, act: Callable[[_T], Awaitable[None]], items: Sequence[_T]) -> None:
        queue = iter(items)

        async def work() -> None:
            for item in queue:
                await act(item)

        await asyncio.gather(*(work() for _ in range(min(self._concurrency, len(items)))))

    async def _send(self, entry: BackupEntry) -> _Sent | Kept | Denied | S3GCError:
        try:
            # Without a condition it is sent once; with one it may be repeated by the transport. Either only adds a
            # marker here.
            answer = await self._bucket.delete(entry.key, if_match=entry.etag if self._conditional else None)
        except AccessDeniedError as error:
            return Denied(error)
        except StoreError as error:
            if error.details.get("status") in (400, 405):
                return Kept("refused by the store", error.message)
            return _Sent(entry, None)  # the answer was lost or the store stumbled: the versions decide
        except S3GCError as error:
            return error
        if answer.status in (404, 412):
            if answer.is_repeated:
                return _Sent(
                    entry, None
                )  # it may be our own first attempt, whose answer was lost, that is seen here
            return Kept(
                "missing" if answer.status == 404 else "replaced", f"the store answered {answer.status}"
            )
        if answer.version_id in NO_VERSION and self._answers_name_markers:
            return await self._without_marker(entry, answer)
        return _Sent(entry, answer)

    async def _without_marker(self, entry: BackupEntry, answer: DeleteAnswer) -> _Sent:
        """Before the next DELETE: is this a store that names no markers, or a bucket that makes none any more?"""
        try:
            is_enabled = (await self._bucket.versioning()).status == "Enabled"
        except S3GCError:
            is_enabled = False
        if is_enabled:
            self._answers_name_markers = False
        else:
            self._is_switched_off = True
        return _Sent(entry, answer)

    async def _judge(self, sent: _Sent, fence_time: datetime) -> Deletion:
        """What became of one object, by the versions of its key alone; a marker of ours above anything else than the
        planned version is removed."""
        entry, answer = sent.entry, sent.answer
        versions = await self._bucket.versions(entry.key)
        hidden = hidden_by_marker(versions)
        if hidden is not None and hidden[0].version_id in NO_VERSION:
            # Only a bucket whose versioning is suspended makes a marker without an id of its own, and such a marker
            # replaces the null version, bytes and all.
            return Unversioned("the delete left a null marker")
        if hidden is None:
            if (
                answer is not None
                and answer.version_id in NO_VERSION
                and (status := (await self._bucket.versioning()).status) != "Enabled"
            ):
                return Unversioned(f"the delete left no marker: versioning is {status} now")
            if sent.marker and any(v.is_marker and v.version_id == sent.marker for v in versions):
                # Our marker is there, no longer latest: somebody uploaded above it. That upload is visible and
                # untouched.
                return Kept("replaced", "uploaded again just after the marker")
            return Kept("missing" if not versions else "still there", "no delete marker is latest")
        marker, below = hidden
        is_ours = marker.version_id == sent.marker
        if _is_older(marker, entry, fence_time):
            return Kept("missing", "deleted by somebody else before this group")
        if below is not None and is_recorded_version(entry, below):
            return Deleted(marker.version_id if is_ours else None)
        if is_ours or answer is None:
            # Newer data lies below a marker of ours. Removing exactly that marker brings it back; nothing else
            # changes.
            await self._bucket.delete(entry.key, version_id=marker.version_id)
            return Kept("replaced", "a newer version was below our marker; the marker was removed at once")
        return Kept("replaced", "the version below the latest marker is not the one that was planned")


def hidden_by_marker(
    versions: Sequence[ObjectVersion],
) -> tuple[ObjectVersion, ObjectVersion | None] | None:
    """The delete marker that is latest, and the version directly below it; None when no marker is latest."""
    if not versions or not versions[0].is_marker:
        return None
    return versions[0], versions[1] if len(versions) > 1 else None


def _is_proven(sent: _Sent, versions: Sequence[ObjectVersion], fence_time: datetime) -> bool:
    """Whether `versions` show our own marker, of this group, directly above the planned version."""
    hidden = hidden_by_marker(versions)
    if hidden is None or sent.marker is None:
        return False
    marker, below = hidden
    return (
        marker.version_id == sent.marker
        and not _is_older(marker, sent.entry, fence_time)
        and below is not None
        and is_recorded_version(sent.entry, below)
    )


def _is_older(marker: ObjectVersion, entry: BackupEntry, fence_time: datetime) -> bool:
    """Whether `marker` was there before this group's deletes, so that it is somebody else's.

    Some stores answer a second delete with the marker that was there already: that one is not ours. Taking a marker of
    the last minute for ours only means that a restore would also undo somebody else's deletion of the same,
    unreferenced version. versitygw gives a marker the time of the object that it hides, which says nothing about the
    deletion; but there a second delete leaves a second marker, and then the version is not directly below.
    """
    tells_its_time = marker.last_modified.replace(microsecond=0) - entry.last_modified > timedelta(seconds=1)
    return tells_its_time and marker.last_modified < fence_time - MARKER_GRACE


def _batches(entries: Sequence[BackupEntry]) -> Iterator[Sequence[BackupEntry]]:
    for start in range(0, len(entries), BATCH):
        yield entries[start : start + BATCH]
