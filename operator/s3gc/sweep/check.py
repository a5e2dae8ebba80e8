"""Wait out the writers, ask again, and bring back what turned out to be referenced.

Why this makes a deletion safe: a transaction that wrote a reference before the deletion either had committed when the
group was verified (then the key was not deleted) or was still open. The barrier waits until every transaction that was
writing the watched tables is over; what it committed is then visible to a fresh read, and each deleted key is asked for
once more. So a key that any of them references is found here, and it is back before the cycle ends. Change capture
finds it sooner, not more surely. What stays open is a writer that looked at the object before the deletion and
begins its transaction after the barrier; later cycles heal that (`sweep.heal`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from s3gc.backup.bringing import bring_back
from s3gc.exceptions import S3GCError
from s3gc.store.bucket import Bucket, VersioningStatus
from s3gc.sweep.verify import Verifier
from s3gc.vault.operations import Operation
from s3gc.vault.records import AuditRecord, BackupEntry
from s3gc.vault.vault import Vault

__all__ = ["CheckResult", "bring_back_all", "check_operation"]

#: Keys asked for at once: bounds the memory of the matcher, and how often a `rescan` source is read again.
CHUNK_KEYS = 100_000


@dataclass(slots=True)
class CheckResult:
    """`verified` is False when the barrier timed out or an answer could not be had: the journal then stays open."""

    verified: bool = True
    checked: int = 0
    late: dict[str, str] = field(default_factory=dict)  # key that was gone -> column that references it
    restored: list[str] = field(default_factory=list)
    rewritten_bytes: int = 0  # of those: written again from the vault (the others were only hidden)
    failed: dict[str, str] = field(default_factory=dict)  # key -> why it could not be brought back
    errors: list[str] = field(default_factory=list)


async def check_operation(
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
    """Check every intended deletion of `operation` (its whole journal, this run's and a cut-off run's alike)."""
    result = CheckResult()
    groups = await operation.journal_groups()
    if not groups:
        return result
    for name, barrier in await verifier.barrier(barrier_timeout_seconds):
        if not barrier.passed:
            result.verified = False
            result.errors.append(
                f"source {name!r}: transactions that may reference deleted objects were still open after "
                f"{barrier.waited_seconds:.0f} s ({barrier.detail or 'no detail'}); the deletions stay recorded as "
                "unverified and the next cycle checks them again"
            )
    # Even after a barrier that timed out the keys are asked for: what is visible now can be brought back now.
    async for chunk in _chunks(operation, groups):
        entries = {entry.key: entry for entry in chunk}
        try:
            late = await verifier.referenced(list(entries), is_check=True)
        except S3GCError as error:
            result.verified = False
            result.errors.append(f"the check after the deletions could not be finished: {error.message}")
            break
        result.checked += len(entries)
        found = [entries[key] for key in late]
        await bring_back_all(
            bucket,
            vault,
            operation,
            found,
            result,
            reasons=late,
            versioning=versioning,
            create_only=create_only,
        )
        if progress is not None:
            progress(result.checked)
    return result


async def bring_back_all(
    bucket: Bucket,
    vault: Vault,
    operation: Operation,
    entries: Sequence[BackupEntry],
    result: CheckResult,
    *,
    reasons: dict[str, str],
    versioning: VersioningStatus,
    create_only: str,
) -> None:
    """Bring back `entries`, each on its own: one that fails must not keep the others away. Audited in `operation`."""
    records: list[AuditRecord] = []
    for entry in entries:
        reason = f"referenced by {reasons.get(entry.key, 'a source')}"
        try:
            how = await bring_back(bucket, vault, entry, versioning=versioning, create_only=create_only)
        except S3GCError as error:
            result.late[entry.key] = reasons.get(entry.key, "")
            result.failed[entry.key] = error.message
            result.verified = False  # the journal must stay open until this key is back
            result.errors.append(f"{entry.key!r} is {reason} and could not be brought back: {error.message}")
            records.append(_record(entry, operation.id, "failed", reason, error.message))
            continue
        if how != "present":  # what was never deleted, or is there again, is nobody's loss
            result.late[entry.key] = reasons.get(entry.key, "")
            result.restored.append(entry.key)
            result.rewritten_bytes += entry.size if how == "restored" else 0
            records.append(_record(entry, operation.id, "restored", reason, how))
    if records:
        await operation.append_audit(await operation.next_group(), records)


def _record(entry: BackupEntry, operation_id: str, action: str, reason: str, detail: str) -> AuditRecord:
    return AuditRecord(
        at=datetime.now(UTC),
        operation_id=operation_id,
        key=entry.key,
        action=action,
        reason=reason,
        detail=detail,
        etag=entry.etag,
        size=entry.size,
        version_id=entry.version_id,
    )


async def _chunks(operation: Operation, groups: Sequence[int]) -> AsyncIterator[list[BackupEntry]]:
    chunk: list[BackupEntry] = []
    for group in groups:
        chunk.extend(await operation.read_journal(group))
        if len(chunk) >= CHUNK_KEYS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
