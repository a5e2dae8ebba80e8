"""Say what a killed run did, where it could not say so itself, so that every deletion is on record once.

A group's audit is written after its deletes. Killed between the two, a run leaves objects that its journal names and no
audit speaks of: some are gone by its hand, some were never touched. Which is which stands in the bucket, and nowhere
else. So whoever holds the scope next looks, writes the audit that is missing, and gives the operation the result that
it did not live to write. Nothing here deletes or restores anything, and doing it twice writes nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from s3gc.backup.bringing import is_recorded_version
from s3gc.results import GCResult, Outcome
from s3gc.store.bucket import Bucket, VersioningStatus
from s3gc.vault.operations import Operation
from s3gc.vault.records import FREED, AuditRecord, BackupEntry
from s3gc.vault.vault import Scope, Vault

__all__ = ["Tally", "account", "close_abandoned", "settle", "tally", "write_cut_off_result"]

#: Actions that say what became of an object: after one of these nobody needs to look.
_SAID = frozenset({"deleted", "kept", "restored", "removed_marker"})
_AT_ONCE = 256
#: A marker may be so much older than the operation by the store's clock and still be ours: generous.
_CLOCKS_DIFFER = timedelta(minutes=5)
_FOUND = "the run was cut off, and a later one found it"
_MODES = ("dry_run", "audit_only", "execute")
_BEFORE_DELETING = (Outcome.AWAITING_APPROVAL, Outcome.REFUSED)


@dataclass(frozen=True, slots=True)
class Tally:
    """What an operation did, by its journals and audits. Sizes are bytes."""

    deleted: int = 0
    freed_bytes: int = 0
    kept: Counter[str] = field(default_factory=Counter)  # by reason
    backed_up: int = 0
    backed_up_bytes: int = 0
    vault_bytes: int = 0


async def settle(bucket: Bucket, operation: Operation, *, versioning: VersioningStatus) -> int:
    """Look after every journaled object that no audit speaks of, and write what became of it; return how many."""
    since = (await operation.record()).started_at - _CLOCKS_DIFFER
    settled = 0
    for group in await operation.journal_groups():
        said = {record.key for record in await operation.audit_of(group) if record.action in _SAID}
        unsaid = [entry for entry in await operation.read_journal(group) if entry.key not in said]
        for start in range(0, len(unsaid), _AT_ONCE):
            part = unsaid[start : start + _AT_ONCE]
            looks = (_look(bucket, entry, versioning, since) for entry in part)
            await operation.append_audit(group, await asyncio.gather(*looks))
            settled += len(part)
    return settled


async def _look(
    bucket: Bucket, entry: BackupEntry, versioning: VersioningStatus, since: datetime
) -> AuditRecord:
    """What became of one object. Where somebody else removed it in the very minutes before, it counts as ours: then a
    restore brings back that as well."""
    if versioning == "Enabled":
        versions = await bucket.versions(entry.key)
        place = next((n for n, version in enumerate(versions) if is_recorded_version(entry, version)), None)
        if place is None:
            return _record(entry, "kept", "missing" if not versions else "replaced")
        if place == 0:
            return _record(entry, "kept", "cut off before its deletion")
        above = versions[place - 1]
        # versitygw gives a marker the time of the object that it hides, which says nothing about the deletion.
        tells_its_time = above.last_modified.replace(microsecond=0) - entry.last_modified > timedelta(
            seconds=1
        )
        if above.is_marker and (above.last_modified >= since or not tells_its_time):
            # The marker is not named: that it is ours is likely, and not proven.
            return _deleted(entry, _FOUND)
        return _record(entry, "kept", "missing" if above.is_marker else "replaced")
    head = await bucket.head(entry.key)
    if head is None:
        return _deleted(entry, f"{FREED}; {_FOUND}" if versioning == "Off" else _FOUND)
    is_same_time = head.last_modified.replace(microsecond=0) == entry.last_modified.replace(microsecond=0)
    is_same = head.etag == entry.etag and head.size == entry.size and is_same_time
    return _record(entry, "kept", "cut off before its deletion" if is_same else "replaced")


def _deleted(entry: BackupEntry, detail: str) -> AuditRecord:
    return _record(entry, "deleted", "unreferenced", detail)


def _record(entry: BackupEntry, action: str, reason: str, detail: str = "") -> AuditRecord:
    return AuditRecord(
        at=datetime.now(UTC),
        operation_id=entry.operation_id,
        key=entry.key,
        action=action,
        reason=reason,
        detail=detail,
        etag=entry.etag,
        size=entry.size,
        version_id=entry.version_id,
    )


async def account(operation: Operation, *, is_cut_off: bool) -> GCResult | None:
    """Write the result of a settled operation whose own one is missing, or is from before its last run was killed;
    None when its own one is right."""
    result = await operation.result()
    if (
        result is not None
        and not is_cut_off
        and result.outcome not in _BEFORE_DELETING
        and result.deleted_count >= (await tally(operation)).deleted
    ):
        return None
    return await write_cut_off_result(operation)


async def tally(operation: Operation) -> Tally:
    """Count what a settled operation did, group by group."""
    deleted = freed = count = size = stored = 0
    kept: Counter[str] = Counter()
    async for record in operation.read_audit():
        if record.action == "deleted":
            deleted += 1
            freed += record.size if record.detail.startswith(FREED) else 0
        elif record.action == "kept":
            kept[record.reason] += 1
    for group in await operation.journal_groups():
        entries = await operation.read_journal(group)
        count += len(entries)
        size += sum(entry.size for entry in entries)
        stored += sum(part.length for entry in entries for part in entry.parts)
    return Tally(deleted, freed, kept, count, size, stored)


async def close_abandoned(vault: Vault, scope: Scope, *, except_operation: str) -> list[Operation]:
    """Give a result to each operation of `scope` that was killed without one and has no open journal; return them.

    Called by whoever holds the scope: nobody else can be working on them. (What has an open journal of deletions or
    purges has to be checked first, and gets its result there.)
    """
    closed: list[Operation] = []
    for record in await vault.operations(scope_id=scope.id):
        if (
            record.outcome is not None
            or record.journal == "open"
            or record.extra.get("purge") == "open"
            or record.id == except_operation
            or record.mode not in _MODES
            or record.problem
        ):
            continue
        operation = vault.operation(record.id)
        result = await operation.result()  # killed after it was written, and before it was noted
        if result is None:
            result = await write_cut_off_result(operation)
        await operation.update(outcome=str(result.outcome), completed_at=result.completed_at)
        closed.append(operation)
    return closed


async def write_cut_off_result(operation: Operation, *, purged: int = 0) -> GCResult:
    """Write the result of an operation whose run was killed, with its numbers from its journals and audits.

    What an earlier run of the same operation had found (it waited for approval, say) stays in it.
    """
    record = await operation.record()
    done = await tally(operation)
    before = await operation.result() or GCResult(
        operation_id=operation.id, scope=record.scope, bucket=record.bucket, started_at=record.started_at
    )
    did_something = bool(done.backed_up or purged)
    what = "its numbers are from its journals and audits" if did_something else "nothing was deleted"
    result = before.model_copy(
        update={
            "mode": record.mode,
            "outcome": Outcome.PARTIALLY_FAILED if did_something else Outcome.FAILED,
            "completed_at": datetime.now(UTC),
            "deleted_count": done.deleted,
            "verified_orphans": done.backed_up,
            "backed_up_count": done.backed_up,
            "backed_up_bytes": done.backed_up_bytes,
            "vault_bytes_written": done.vault_bytes,
            "reclaimed_bytes": done.freed_bytes,
            "skipped_count": sum(done.kept.values()),
            "skipped": dict(done.kept),
            "errors": [*before.errors, f"the run was cut off; {what}"],
        }
    )
    await operation.write_result(result)
    return result
