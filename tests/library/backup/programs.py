"""Programs of the tests that need a process of their own, to kill it or to measure it.

`python -m tests.library.backup.programs sweep|memory <endpoint> <bucket> <vault> [operation]`, with the
credentials in the environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite
from ulid import ULID

from s3gc.backup.backup import back_up
from s3gc.backup.restore import restore_operation
from s3gc.builder import create_config
from s3gc.store.bucket import Bucket
from s3gc.vault.lock import hold_scope
from s3gc.vault.operations import OperationRecord
from s3gc.vault.records import AuditRecord, PlannedObject
from s3gc.vault.vault import Vault


async def _planned(bucket: Bucket) -> list[PlannedObject]:
    found: list[PlannedObject] = []
    async for page in bucket.list_pages(""):
        found.extend(
            PlannedObject(row["key"], row["etag"], row["size"], row["last_modified"])
            for row in page.rows.to_pylist()
            if not row["key"].startswith(".s3gc/")
        )
    return found


async def sweep(bucket: Bucket, vault: Vault, config: Any, operation_id: str) -> None:
    """Groups of five: back up, journal, delete, audit; whoever comes after a kill goes on with what is
    left."""
    scope = await vault.scope(config)
    async with hold_scope(vault, scope, wait_seconds=5) as lock:
        operation = vault.operation(operation_id)
        if not await operation.exists():
            record = OperationRecord(
                operation_id, scope.id, bucket.name, "execute", datetime.now(UTC), journal="open"
            )
            await operation.create(record)
        objects = await _planned(bucket)
        print("started", flush=True)
        for start in range(0, len(objects), 5):
            await lock.check()
            group = await operation.next_group()
            backup = await back_up(bucket, vault, operation, group, objects[start : start + 5], config)
            await operation.append_journal(group, list(backup.entries.values()))
            audit = []
            for entry in backup.entries.values():
                await bucket.delete(entry.key)
                audit.append(
                    AuditRecord(datetime.now(UTC), operation_id, entry.key, "deleted", "unreferenced")
                )
            await operation.append_audit(group, audit)
        await operation.write_manifest()
        await operation.update(journal="closed", completed_at=datetime.now(UTC))
    print("done", flush=True)


def _memory_mib() -> float:
    """The peak so far. Not getrusage's: that one is inherited from the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def memory(bucket: Bucket, vault: Vault, config: Any) -> None:
    """Back up and restore everything in the bucket; print how far the peak of memory grew in each.

    One small object goes the whole way first: libraries and their pools are not what is measured.
    """
    scope = await vault.scope(config)
    await bucket.put("warm", b"x", size=1)
    objects = await _planned(bucket)
    peaks = [_memory_mib()]
    for chosen in ([o for o in objects if o.key == "warm"], [o for o in objects if o.key != "warm"]):
        operation = vault.operation(str(ULID()))
        await operation.create(
            OperationRecord(operation.id, scope.id, bucket.name, "execute", datetime.now(UTC))
        )
        peaks = [_memory_mib()]
        backup = await back_up(bucket, vault, operation, 1, chosen, config)
        peaks.append(_memory_mib())
        await operation.append_journal(1, list(backup.entries.values()))
        for entry in backup.entries.values():
            await bucket.delete(entry.key)
        state = {"vault": vault, "bucket": bucket, "scope": scope}
        async with aiosqlite.connect(vault.catalog_path) as db:
            result = await restore_operation(config, state, db, operation.id, dry_run=False)
        peaks.append(_memory_mib())
    facts = {
        "backup": peaks[1] - peaks[0], "restore": peaks[2] - peaks[0], "restored": result.restored_count,
        "skipped": backup.skipped, "failed": result.failed_keys,
    }  # fmt: skip
    print(json.dumps(facts), flush=True)


async def main(arguments: list[str]) -> None:
    what, endpoint, name, vault_path, *rest = arguments
    config = create_config(bucket=name, endpoint_url=endpoint, vault_path=vault_path, concurrency=8)
    bucket = await Bucket.open(name, endpoint_url=endpoint, concurrency=8)
    vault = await Vault.open(config)
    try:
        if what == "sweep":
            await sweep(bucket, vault, config, rest[0])
        else:
            await memory(bucket, vault, config)
    finally:
        await vault.close()
        await bucket.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
