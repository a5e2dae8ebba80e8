"""Close what an earlier run left open: a journal whose deletions were never checked to the end.

A run that is killed leaves, at worst, (a) an intent with no deletion, (b) a deletion with no audit, (c) a delete marker
above a version that was not planned, (d) deletions that nobody verified. The journal names every key that any of these
can concern, because it was durable before the first DELETE of its group. (c) is undone first and needs no database;
(a) and (b) are told apart and put on record (`backup.settle`); then the ordinary check of `sweep.check` does the rest.
Doing all this twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from s3gc.backup.bringing import is_recorded_version
from s3gc.backup.settle import account, settle
from s3gc.exceptions import RefusedError, VaultCorruptedError
from s3gc.results import Outcome
from s3gc.store.bucket import Bucket, VersioningStatus
from s3gc.store.keys import key_bytes
from s3gc.store.neighbours import VersionsOfMany
from s3gc.store.types import ObjectVersion
from s3gc.sweep.check import CheckResult, check_operation
from s3gc.sweep.markers import BATCH, hidden_by_marker
from s3gc.sweep.verify import Verifier
from s3gc.vault.operations import Operation
from s3gc.vault.records import AuditRecord, BackupEntry
from s3gc.vault.vault import Scope, Vault

__all__ = ["close_operation", "open_operations", "refuse_lost_records", "uncover_newer_versions"]


async def open_operations(vault: Vault, scope: Scope) -> list[Operation]:
    """Operations of this scope whose journal is open, oldest first."""
    records = await vault.operations(scope_id=scope.id)
    return [vault.operation(record.id) for record in reversed(records) if record.journal == "open"]


async def refuse_lost_records(vault: Vault, scope: Scope) -> None:
    """Raise VaultCorruptedError, with the way on, for deletions of which nobody can say whether they were checked."""
    for record in await vault.operations(scope_id=scope.id):
        if not record.problem or record.journal != "open":
            continue
        operation = vault.operation(record.id)
        raise VaultCorruptedError(
            f"{operation.path('operation.json')} of the vault {vault.location} is damaged or missing, so nobody can "
            f"say whether the deletions of operation {record.id} were checked; nothing is deleted before that is "
            "settled. Bring the file back from a copy of the vault. Where there is none: its journals and packs "
            f"are enough for `s3gc restore {record.id}`; once what is needed of it is back, move the folder "
            f"{operation.path('journal/')} out of the vault, and the next cycle goes on without it",
            details={"path": operation.path("operation.json"), "operation": record.id},
        )


async def uncover_newer_versions(
    bucket: Bucket,
    vault: Vault,
    scope: Scope,
    operation: Operation,
    *,
    versioning: VersioningStatus = "Enabled",
) -> int:
    """In a versioned bucket: remove each delete marker of ours that hides a version which was not planned.

    Only markers younger than the operation count, so an application's own earlier deletion is left alone. A version
    that a later operation of this scope backed up was planned there, and that operation's journal answers for it: its
    marker stays, else each cycle would uncover what the one before had deleted, and count it twice. Raises
    RefusedError where that marker has no id of its own and versioning is Suspended: an upload at the same moment would
    have the same id, and be what is removed.
    """
    record = await operation.record()
    oldest = record.started_at - timedelta(
        minutes=5
    )  # the store's clock against ours: generous, it only looks wider
    many = VersionsOfMany(bucket)
    removed: list[AuditRecord] = []
    for group in await operation.journal_groups():
        entries = sorted(await operation.read_journal(group), key=lambda entry: key_bytes(entry.key))
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            shown = await many.of([entry.key for entry in batch])
            # A page is believed where nothing is to be done; before anything is removed the key is asked for alone.
            left = [e for e in batch if e.key not in shown or _to_remove(e, shown[e.key], oldest)]
            alone = await asyncio.gather(*(bucket.versions(entry.key) for entry in left))
            covering = {
                entry.key: (entry, marker, versions)
                for entry, versions in zip(left, alone, strict=True)
                if (marker := _to_remove(entry, versions, oldest)) is not None
            }
            for key in await _planned_later(vault, scope, operation, {k: v[2] for k, v in covering.items()}):
                del covering[key]
            for entry, marker, _ in covering.values():
                if marker.version_id == "null" and versioning == "Suspended":
                    raise RefusedError(
                        f"bucket {bucket.name!r}: a null delete marker hides newer data at key {entry.key!r} since "
                        f"operation {operation.id} was cut off. It cannot be removed safely while versioning is "
                        "Suspended: enable versioning, and the next cycle removes it",
                        details={"guard": "versioning", "bucket": bucket.name, "key": entry.key},
                    )
                await bucket.delete(entry.key, version_id=marker.version_id)
                removed.append(
                    AuditRecord(
                        at=datetime.now(UTC),
                        operation_id=operation.id,
                        key=entry.key,
                        action="removed_marker",
                        reason="newer version below our marker",
                        etag=entry.etag,
                        size=entry.size,
                        version_id=entry.version_id,
                        marker_version_id=marker.version_id,
                    )
                )
    if removed:
        await operation.append_audit(await operation.next_group(), removed)
    return len(removed)


def _to_remove(
    entry: BackupEntry, versions: Sequence[ObjectVersion], oldest: datetime
) -> ObjectVersion | None:
    """The marker of ours that hides a version which was not planned; None where there is none."""
    hidden = hidden_by_marker(versions)
    if hidden is None:
        return None
    marker, below = hidden
    is_as_meant = below is None or is_recorded_version(entry, below)
    return None if is_as_meant or marker.last_modified < oldest else marker


async def _planned_later(
    vault: Vault, scope: Scope, operation: Operation, hidden: Mapping[str, Sequence[ObjectVersion]]
) -> set[str]:
    """The keys of which a later operation of this scope backed up the very version that is hidden now.

    Where that operation's records are damaged the version counts as not planned: it is uncovered, and kept.
    """
    planned: set[str] = set()
    if not hidden:
        return planned
    for record in await vault.operations(scope_id=scope.id):
        if record.id <= operation.id or record.journal == "none":
            continue
        with contextlib.suppress(VaultCorruptedError):
            async for entry in vault.operation(record.id).entries(keys=hidden):
                below = hidden[entry.key][1]
                if is_recorded_version(entry, below):
                    planned.add(entry.key)
    return planned


async def close_operation(
    bucket: Bucket,
    vault: Vault,
    operation: Operation,
    verifier: Verifier,
    *,
    versioning: VersioningStatus,
    create_only: str,
    barrier_timeout_seconds: float,
    progress: Callable[[int], None] | None = None,
) -> CheckResult:
    """Check everything that `operation` intended to delete; close its journal when all of it is verified."""
    is_cut_off = bool(await settle(bucket, operation, versioning=versioning))
    written = await account(operation, is_cut_off=is_cut_off)
    result = await check_operation(
        bucket,
        vault,
        operation,
        verifier,
        versioning=versioning,
        create_only=create_only,
        barrier_timeout_seconds=barrier_timeout_seconds,
        progress=progress,
    )
    if not result.verified:
        return result
    if written is not None and result.rewritten_bytes:
        freed = max(written.reclaimed_bytes - result.rewritten_bytes, 0)
        await operation.write_result(written.model_copy(update={"reclaimed_bytes": freed}))
    record = await operation.record()
    await operation.write_manifest()
    outcome = written.outcome if written is not None else record.outcome or Outcome.PARTIALLY_FAILED
    await operation.update(
        journal="closed", outcome=str(outcome), completed_at=record.completed_at or datetime.now(UTC)
    )
    return result
