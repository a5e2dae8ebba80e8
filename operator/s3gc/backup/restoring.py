"""One restore while it runs: what is chosen, brought back side by side, overwritten where asked, and
recorded.

`restore.restore_operation` is the door to this; it finds the operation, opens the place and holds the
scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta

import aiosqlite
from ulid import ULID

from s3gc.backup.backup import GroupBackup, back_up
from s3gc.backup.bringing import WHOLE_BYTES, bring_back, write_back
from s3gc.backup.budget import Budget
from s3gc.config import S3GCConfig
from s3gc.exceptions import RestoreError, S3GCError, VaultCorruptedError, VaultError
from s3gc.results import Progress, RestoreResult
from s3gc.store.bucket import Bucket, VersioningStatus
from s3gc.store.clock import StoreClock
from s3gc.store.types import ObjectHead
from s3gc.vault import catalog
from s3gc.vault.lock import ScopeLock
from s3gc.vault.manifest import Outcome
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.records import AuditRecord, BackupEntry, PlannedObject
from s3gc.vault.scopes import Scope
from s3gc.vault.state import HoldBatches, ScopeState
from s3gc.vault.vault import Vault

__all__ = ["Locks", "Restoration"]

_BATCH = 256
_LISTED = 1000
_LISTED_ERRORS = 100
#: Original bytes of small objects in memory at once; larger ones stream.
_IN_FLIGHT = 2 * WHOLE_BYTES
#: Outcomes of objects that this operation backed up and did not delete: they come back only when named.
_NOT_DELETED = ("kept", "would_delete", "removed_marker")


@dataclass(frozen=True, slots=True)
class Locks:
    """The scopes' locks, checked as one."""

    held: Sequence[ScopeLock]

    async def check(self) -> None:
        for lock in self.held:
            await lock.check()


@dataclass(slots=True)
class Restoration:
    """One restore while it runs. `prefix` is None at the original place, else what is put before each key."""

    vault: Vault
    operation: Operation
    config: S3GCConfig
    filters: dict[str, Sequence[str] | None]
    named: frozenset[str]
    skip_existing: bool
    dry_run: bool
    prefix: str | None
    progress: Callable[[Progress], None] | None
    vault_db: aiosqlite.Connection | None
    clock: StoreClock = field(default_factory=StoreClock.local)
    versioning: VersioningStatus = "Off"
    problems: list[str] = field(default_factory=list)  # damage that something else made up for
    lost: list[str] = field(default_factory=list)  # damage that nothing made up for
    notes: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"restored": 0, "skipped": 0, "failed": 0})
    restored_bytes: int = 0
    overwriting: _Overwriting | None = None
    packs: dict[int, int] = field(
        default_factory=dict
    )  # number -> size, of the packs a dry run has looked at

    async def chosen(self) -> AsyncGenerator[tuple[BackupEntry, Outcome], None]:
        """What is to come back: every chosen object that this operation deleted, or may have deleted."""
        async with aclosing(self.operation.outcomes(**self.filters, problems=self.problems)) as rows:
            async for entry, outcome in rows:
                if outcome.action not in _NOT_DELETED or entry.key in self.named:
                    yield entry, outcome

    async def hold_keys(self, scopes: Sequence[Scope]) -> None:
        """Let every key that is about to come back count as referenced, durably, before the first one
        does."""
        if not self.config.restore_hold_days:
            return
        now = self.clock.now()
        until = now + timedelta(days=self.config.restore_hold_days)
        holds = HoldBatches(until, self.operation.id, "restored")
        noted = len(self.problems)
        try:
            async with aclosing(self.chosen()) as rows:
                async for entry, _ in rows:
                    holds.add(entry.key)
        except VaultCorruptedError:
            pass  # every entry that can be read came first; `run` reports what cannot
        del self.problems[noted:]
        for scope in scopes:
            await ScopeState(self.vault, scope).add_hold_table(holds.table(), now)

    async def run(self, bucket: Bucket, locks: Locks | None) -> None:
        batch: list[tuple[BackupEntry, Outcome]] = []
        unmet = set(self.named)
        try:
            async with aclosing(self.chosen()) as rows:
                async for row in rows:
                    unmet.discard(row[0].key)
                    batch.append(row)
                    if len(batch) >= _BATCH:
                        await self._batch(bucket, locks, batch)
                        batch = []
        except VaultCorruptedError as error:
            self.lost.append(error.message)
        if batch:
            await self._batch(bucket, locks, batch)
        # A misspelled key would otherwise end as a restore of nothing that succeeded.
        self.notes += [f"operation {self.operation.id} has no backup of key {key!r}" for key in sorted(unmet)]

    async def _batch(
        self, bucket: Bucket, locks: Locks | None, batch: Sequence[tuple[BackupEntry, Outcome]]
    ) -> None:
        if locks is not None:
            await locks.check()
        budget = Budget(_IN_FLIGHT)
        at_once = asyncio.Semaphore(self.config.concurrency)
        back: list[tuple[BackupEntry, str]] = []
        present: list[tuple[BackupEntry, ObjectHead]] = []

        async def one(entry: BackupEntry, outcome: Outcome) -> None:
            cost = min(entry.size, WHOLE_BYTES)
            async with at_once:
                await budget.take(cost)
                try:
                    how = await self._one(bucket, entry, outcome, present)
                except S3GCError as error:
                    self._fail(entry.key, error.message)
                    how = "failed"
                finally:
                    budget.give(cost)
            if how in ("restored", "restored_marker"):
                back.append((entry, how))
            elif how == "present":
                self._count("skipped", entry.key)

        tasks = [asyncio.create_task(one(entry, outcome)) for entry, outcome in batch]
        try:
            await asyncio.gather(*tasks)
            if present:
                back.extend(await self._overwrite(bucket, present))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._record(back)  # also when the restore is cancelled: what came back is on record
        if self.progress is not None:
            self.progress(Progress("Restoring", restored=self.counts["restored"]))

    async def _one(
        self,
        bucket: Bucket,
        entry: BackupEntry,
        outcome: Outcome,
        present: list[tuple[BackupEntry, ObjectHead]],
    ) -> str:
        place = entry.key if self.prefix is None else self.prefix + entry.key
        if self.dry_run or not self.skip_existing:
            head = await bucket.head(place)
            if head is not None:
                if not self.skip_existing and (head.etag, head.size) != (entry.etag, entry.size):
                    if not self.dry_run:
                        present.append((entry, head))
                        return "overwrite"
                    return await self._would(entry)
                return "present"
            if self.dry_run:
                return await self._would(entry)
        return await bring_back(
            bucket,
            self.vault,
            entry,
            versioning=self.versioning,
            marker_version_id=outcome.marker_version_id if outcome.action == "deleted" else None,
            key=None if self.prefix is None else place,
            notes=self.notes,
        )

    async def _would(self, entry: BackupEntry) -> str:
        """A dry run looks whether the bytes are there, so that a missing pack is known before it is
        needed."""
        for part in entry.parts:
            if part.pack not in self.packs:
                path = self.operation.pack_path(part.pack)
                try:
                    self.packs[part.pack] = await self.vault.storage.size(path)
                except FileNotFoundError:
                    self.packs[part.pack] = -1
            if part.offset + part.length > self.packs[part.pack]:
                what = "is missing" if self.packs[part.pack] < 0 else "was cut off"
                raise VaultCorruptedError(
                    f"pack {self.operation.pack_path(part.pack)} of the vault {self.vault.location} {what}",
                    details={"path": self.operation.pack_path(part.pack)},
                )
        return "restored"

    async def _overwrite(
        self, bucket: Bucket, present: Sequence[tuple[BackupEntry, ObjectHead]]
    ) -> list[tuple[BackupEntry, str]]:
        """Replace what is there, each only if its backup is proven and it is still that object."""
        if self.overwriting is None:
            self.overwriting = await _Overwriting.begin(self.vault, self.operation, bucket, self.clock)
        try:
            saved = await self.overwriting.save(bucket, [head for _, head in present], self.config)
        except S3GCError as error:
            for entry, _ in present:
                self._fail(entry.key, f"what is there now could not be backed up first: {error.message}")
            return []
        back: list[tuple[BackupEntry, str]] = []
        for entry, _ in present:
            try:
                if entry.key not in saved.entries:
                    reason, detail = saved.skipped.get(entry.key, ("failed", "no backup of it came back"))
                    raise RestoreError(f"what is there now could not be backed up first ({reason}: {detail})")
                is_written = await write_back(
                    bucket, self.vault, entry, entry.key,
                    create_only=False, is_original=True, notes=self.notes, if_match=saved.entries[entry.key].etag,
                )  # fmt: skip
                if is_written is None:
                    raise RestoreError(
                        "it was replaced again while it was restored; what is there now was left"
                    )
                back.append(
                    (entry, f"restored over the present object, which is in operation {self.overwriting.id}")
                )
            except S3GCError as error:
                self._fail(entry.key, error.message)
        return back

    async def _record(self, back: Sequence[tuple[BackupEntry, str]]) -> None:
        """Count what came back, audit it in the operation's own groups, and note it in the catalog."""
        now = self.clock.now()
        by_group: dict[int, list[AuditRecord]] = {}
        for entry, how in back:
            self._count("restored", entry.key, entry.size)
            where = "" if self.prefix is None else f" to {self.prefix}{entry.key}"
            record = AuditRecord(
                at=now, operation_id=self.operation.id, key=entry.key, action="restored", reason="restore_operation",
                detail=how + where, etag=entry.etag, size=entry.size, version_id=entry.version_id,
            )  # fmt: skip
            by_group.setdefault(entry.group, []).append(record)
        if self.dry_run or self.prefix is not None:
            return
        for group, records in by_group.items():
            await self.operation.append_audit(group, records)
        await self._count_in_record(len(back))
        if self.vault_db is not None and back:
            await catalog.ensure_schema(self.vault_db)
            await catalog.mark_restored(
                self.vault_db, self.operation.id, (entry.key for entry, _ in back), now
            )

    async def _count_in_record(self, restored: int) -> None:
        """Where the metrics find it. A record that is damaged must not stop a restore."""
        if not restored:
            return
        try:
            extra = (await self.operation.record()).extra
            total = int(extra.get("restored_count", 0)) + restored
            await self.operation.update(extra={**extra, "restored_count": total})
        except (VaultCorruptedError, FileNotFoundError) as error:
            self.problems.append(f"what was restored could not be counted: {error}")

    async def finish(self) -> None:
        """Bring the manifest up to what came back, so that a rebuilt catalog knows it too."""
        if self.overwriting is not None:
            await self.overwriting.end()
        if self.counts["restored"]:
            try:
                await self.operation.write_manifest()
            except (VaultError, FileNotFoundError) as error:
                self.problems.append(f"the manifest could not be brought up to date: {error}")

    def _count(self, what: str, key: str, size: int = 0) -> None:
        self.counts[what] += 1
        self.restored_bytes += size
        listed = self.restored if what == "restored" else self.skipped
        if len(listed) < _LISTED:
            listed.append(key)

    def _fail(self, key: str, reason: str) -> None:
        self.counts["failed"] += 1
        if len(self.failed) < _LISTED:
            self.failed[key] = reason

    def result(self, operation_id: str, seconds: float) -> RestoreResult:
        return RestoreResult(
            operation_id=operation_id,
            dry_run=self.dry_run,
            restored_count=self.counts["restored"],
            skipped_count=self.counts["skipped"],
            failed_count=self.counts["failed"],
            restored_bytes=self.restored_bytes,
            restored_keys=self.restored,
            skipped_keys=self.skipped,
            failed_keys=self.failed,
            errors=_shortened(self.lost),
            warnings=_shortened([*dict.fromkeys(self.problems), *self.notes]),
            duration_seconds=seconds,
        )


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _LISTED_ERRORS:
        return lines
    return [*lines[:_LISTED_ERRORS], f"… and {len(lines) - _LISTED_ERRORS} more"]


@dataclass(slots=True)
class _Overwriting:
    """The operation of its own under which a restore keeps what it replaces."""

    vault: Vault
    operation: Operation
    clock: StoreClock
    group: int = 0

    @property
    def id(self) -> str:
        return self.operation.id

    @classmethod
    async def begin(cls, vault: Vault, of: Operation, bucket: Bucket, clock: StoreClock) -> _Overwriting:
        try:
            scope = (await of.record()).scope
        except (VaultCorruptedError, FileNotFoundError):
            scope = ""
        operation = vault.operation(str(ULID()))
        record = OperationRecord(operation.id, scope, bucket.name, "restore", clock.now())
        await operation.create(replace(record, extra={"restore_of": of.id}))
        return cls(vault, operation, clock)

    async def save(self, bucket: Bucket, heads: Sequence[ObjectHead], config: S3GCConfig) -> GroupBackup:
        self.group += 1
        objects = [
            PlannedObject(head.key, head.etag, head.size, head.last_modified, head.storage_class)
            for head in heads
        ]
        saved = await back_up(bucket, self.vault, self.operation, self.group, objects, config)
        if saved.entries:
            await self.operation.append_journal(self.group, list(saved.entries.values()))
        return saved

    async def end(self) -> None:
        await self.operation.write_manifest()
        # Nothing was deleted here, so its journal stays "none": healing must not take these copies for the
        # last ones.
        await self.operation.update(completed_at=self.clock.now(), outcome="Succeeded")
