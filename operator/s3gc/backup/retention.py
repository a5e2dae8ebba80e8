"""The end of what is old, and the vault's own health: `expire`, `verify`, `reindex`.

An operation expires as a whole, or not at all. It goes in an order in which every instant is honest: first
its record says that it is expiring, then a line in ``expired/<month>.jsonl`` says so for good, then its
files go, its record last. A run that is killed in between is finished by the next one. What may still be
needed never expires: an open journal, a hold, a record that cannot be read, the only copy of a referenced object that
the last healing could not bring back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiosqlite

from s3gc.backup.verifying import VaultProblem, VerifyReport, verify
from s3gc.config import S3GCConfig
from s3gc.exceptions import LockedError, VaultCorruptedError, VaultError
from s3gc.vault import catalog, layout
from s3gc.vault.codec import dump_line
from s3gc.vault.lock import ScopeLock
from s3gc.vault.operation_record import OWES
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.vault import Vault

__all__ = ["Expired", "VaultProblem", "VerifyReport", "expire", "is_expired", "reindex", "verify"]

log = logging.getLogger(__name__)

_SWAP_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Expired:
    """What an expiry did: operations, and the bytes that their files had in the vault."""

    operations: tuple[str, ...] = ()
    freed_bytes: int = 0


def is_expired(record: OperationRecord, *, now: datetime, retention_days: float, is_held: bool) -> bool:
    """Whether an operation has had its time. An operation that never ended counts from its beginning; one whose
    versions were purged from the bucket counts from then on, because the vault has the only copy since."""
    if record.extra.get("expiring"):
        return True  # begun; there is no way back
    if is_held or record.problem or record.journal == "open" or record.extra.get(OWES):
        return False
    since = record.completed_at or record.started_at
    if only_copy := record.extra.get("only_copy_since"):
        since = max(since, datetime.fromisoformat(str(only_copy)))
    return since + timedelta(days=retention_days) < now


async def expire(
    vault: Vault,
    config: S3GCConfig,
    *,
    now: datetime,
    scope_id: str | None = None,
    lock: ScopeLock | None = None,
    keep: frozenset[str] = frozenset(),
    vault_db: aiosqlite.Connection | None = None,
) -> Expired:
    """Remove the operations of a scope that are older than ``vault_retention_days``, except those in
    `keep`.

    Call it under the scope's lock, which is checked before each operation. `now` is the caller's clock:
    give the bucket's own time (`Bucket.server_time`). One that fails is left for the next time. Raises
    LockedError when the lock is lost.
    """
    gone: list[str] = []
    freed = 0
    for record in reversed(await vault.operations(scope_id=scope_id)):
        operation = vault.operation(record.id)
        if record.id in keep or record.problem:
            continue
        if not is_expired(
            record, now=now, retention_days=config.vault_retention_days, is_held=await operation.is_held()
        ):
            continue
        if lock is not None:
            await lock.check()
        try:
            freed += await _remove(vault, operation, record, now, config.vault_retention_days)
        except LockedError:
            raise
        except VaultError as error:
            log.warning("operation %s could not expire, the next cycle tries again: %s", record.id, error)
            continue
        gone.append(record.id)
        if vault_db is not None:
            await catalog.ensure_schema(vault_db)
            await catalog.forget(vault_db, record.id)
    return Expired(tuple(gone), freed)


async def reindex(vault: Vault, progress: Callable[[int], None] | None = None) -> int:
    """Make the catalog anew from the vault's own files; return how many operations it has."""
    db = await catalog.open_catalog(vault.catalog_path)
    try:
        return await catalog.rebuild(db, vault, progress)
    finally:
        await db.close()


async def _remove(
    vault: Vault, operation: Operation, record: OperationRecord, now: datetime, days: float
) -> int:
    await operation.update(extra={**record.extra, "expiring": True})
    files = [file async for file in vault.storage.list(operation.path())]
    size = sum(file.size for file in files)
    only_copies = await _only_copies(operation) if record.extra.get("only_copy_since") else {}
    if only_copies.get("purged_objects"):
        log.warning(
            "operation %s expires, its last purge is older than vault.retentionDays (%g): with it goes the only copy "
            "of %d purged objects (%d bytes)", record.id, days, *only_copies.values(),
        )  # fmt: skip
    await _note(vault, record, now, days, size, only_copies)
    last = operation.path("operation.json")
    # What makes the others readable goes after them: packs, journals, manifest, and the record at the very
    # end.
    for file in sorted(files, key=lambda file: (file.path == last, "/packs/" not in file.path, file.path)):
        await vault.storage.delete(file.path)
    return size


async def _only_copies(operation: Operation) -> dict[str, int]:
    """The objects of an operation that are nowhere but in the vault; empty where its record of them is damaged."""
    count = size = 0
    try:
        async with aclosing(operation.outcomes()) as rows:
            async for entry, outcome in rows:
                if outcome.action == "purged":
                    count, size = count + 1, size + entry.size
    except VaultCorruptedError:
        return {}
    return {"purged_objects": count, "purged_bytes": size}


async def _note(
    vault: Vault,
    record: OperationRecord,
    now: datetime,
    days: float,
    size: int,
    only_copies: Mapping[str, int],
) -> None:
    """Write one line about the operation into this month's file, once."""
    path = f"{layout.EXPIRED}{now.astimezone(UTC):%Y-%m}.jsonl"
    line = dump_line(
        {
            "at": now.astimezone(UTC).isoformat(),
            "action": "expired",
            "reason": f"older than vault.retentionDays ({days:g})",
            "operation_id": record.id,
            "scope": record.scope,
            "bucket": record.bucket,
            "mode": record.mode,
            "outcome": record.outcome,
            "started_at": record.started_at.isoformat(),
            "completed_at": record.completed_at.isoformat() if record.completed_at else None,
            "bytes": size,
            **only_copies,
        }
    )
    for _ in range(_SWAP_ATTEMPTS):
        try:
            before = await vault.storage.read(path)
        except FileNotFoundError:
            if await vault.storage.create(path, line):
                return
            continue
        if any(_is_about(known, record.id) for known in before.splitlines()):
            return
        if await vault.storage.replace(path, before + line, expected=before):
            return
    raise VaultError(
        f"{path} of the vault {vault.location} kept changing while a line was added; the next cycle tries "
        "again"
    )


def _is_about(line: bytes, operation_id: str) -> bool:
    try:
        return bool(json.loads(line)["operation_id"] == operation_id)
    except (ValueError, KeyError, TypeError):
        return False
