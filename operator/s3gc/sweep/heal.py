"""Test what was deleted in earlier cycles against this cycle's reading, and bring back what has come to be referenced.

No order of steps can see an application that checked an old object and writes its row later. The journals are kept as
long as the vault keeps the bytes, so every later cycle looks again: the object is back at most one cycle after its row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pyarrow.parquet as pq

from s3gc.exceptions import VaultCorruptedError
from s3gc.references.matcher import Matcher
from s3gc.references.reader import ReadColumn
from s3gc.references.types import PrefixReference
from s3gc.store.bucket import Bucket, VersioningStatus
from s3gc.sweep.check import CheckResult, bring_back_all
from s3gc.vault.operation_record import OWES, OperationRecord
from s3gc.vault.operations import Operation
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Scope, Vault

__all__ = ["heal"]

log = logging.getLogger(__name__)

#: Deleted keys held at once; one pass over the references is read for each so many.
CHUNK_KEYS = 250_000


async def heal(
    bucket: Bucket | None,
    vault: Vault,
    scope: Scope,
    columns: Sequence[ReadColumn],
    *,
    versioning: VersioningStatus,
    create_only: str,
    except_operation: str = "",
) -> CheckResult:
    """Bring back (or, with `bucket` None, only report in `late`) deleted keys that the read references name."""
    result = CheckResult()
    owing: set[str] = set()
    async for owners in _deleted_keys(vault, scope, except_operation):
        matcher = Matcher(owners, [column.spec for column in columns])
        for column in columns:
            async for values in read_values(column):
                await asyncio.to_thread(matcher.feed, column.spec, values)
        result.checked += len(owners)
        if not matcher.referenced:
            continue
        reasons = {key: hit.column.label for key, hit in matcher.referenced.items()}
        result.late.update(reasons)  # all of them: what is back already is referenced as well
        if bucket is None:
            continue
        by_operation: dict[str, list[str]] = {}
        for key in reasons:
            if key in result.failed:
                continue  # of a newer operation: its copy is the last that was there, and this one an older
            by_operation.setdefault(owners[key], []).append(key)
        for operation_id, keys in by_operation.items():
            operation = vault.operation(operation_id)
            entries = [entry async for entry in operation.entries(keys=keys)]
            await bring_back_all(
                bucket,
                vault,
                operation,
                entries,
                result,
                reasons=reasons,
                versioning=versioning,
                create_only=create_only,
            )
            if not result.failed.keys().isdisjoint(keys):
                owing.add(operation_id)
    if bucket is not None:
        await _note_owing(vault, scope, owing)
    return result


async def _note_owing(vault: Vault, scope: Scope, owing: set[str]) -> None:
    """Note which operations have the only copy of an object that is referenced and could not be brought back, and of
    which that is over: such a backup must not expire, however old it is."""
    for record in await vault.operations(scope_id=scope.id):
        if not record.problem and bool(record.extra.get(OWES)) is not (record.id in owing):
            extra = {name: value for name, value in record.extra.items() if name != OWES}
            await vault.operation(record.id).update(
                extra={**extra, OWES: True} if record.id in owing else extra
            )


async def _deleted_keys(vault: Vault, scope: Scope, except_operation: str) -> AsyncIterator[dict[str, str]]:
    """Yield bounded maps of deleted key -> newest operation that deleted it."""
    owners: dict[str, str] = {}
    for record in await vault.operations(
        scope_id=scope.id
    ):  # newest first: its copy is the last that was there
        if record.journal == "none" or record.id == except_operation:
            continue
        async for entry in _entries(vault.operation(record.id), record):
            owners.setdefault(entry.key, record.id)
            if len(owners) >= CHUNK_KEYS:
                yield owners
                owners = {}
    if owners:
        yield owners


async def _entries(operation: Operation, record: OperationRecord) -> AsyncIterator[BackupEntry]:
    """What it meant to delete, by its journals; where one of them is not there any more, by whatever is left."""
    read = 0
    for group in await operation.journal_groups():
        for entry in await operation.read_journal(group):
            read += 1
            yield entry
    if read < int((record.manifest or {}).get("rows", 0)):
        try:
            async for entry in operation.entries():
                yield entry
        except VaultCorruptedError as error:  # after all that there is
            log.warning(
                "not everything that operation %s deleted can be healed: %s", record.id, error.message
            )


async def read_values(column: ReadColumn) -> AsyncIterator[list[object]]:
    """Yield a read column's texts in batches, prefix references as such."""
    for path in column.files:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=20_000, columns=["value", "is_prefix"])
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                values = batch.column(0).to_pylist()
                if batch.column(1).true_count:
                    flags = batch.column(1).to_pylist()
                    values = [
                        PrefixReference(v) if flag else v for v, flag in zip(values, flags, strict=True)
                    ]
                yield values
