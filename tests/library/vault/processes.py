"""Programs that the tests of locks and kills run as processes of their own: `python -m
tests.library.vault.processes …`.

hold <vault> <name> <seconds>       take the scope's lock, print "held", keep it, print "released"
race <vault> <name> <rounds>        take the lock again and again, each time adding one line to a file beside the vault
group <vault> <name> <operation> <group> <objects>
                                    append journals and audits without an end, to be killed in the middle
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from s3gc.exceptions import LockedError
from s3gc.store.storage import FolderStorage
from s3gc.vault.lock import LeaseTimes, hold_scope
from s3gc.vault.records import AuditRecord, BackupEntry, PackPart
from s3gc.vault.scopes import Scope
from s3gc.vault.vault import Vault

#: A lease of two seconds, so that tests of its end need not take a minute.
QUICK = LeaseTimes(lease=2.0, renew=0.3, margin=0.5, poll=0.05)


def scope_named(name: str) -> Scope:
    return Scope(name, name, "bucket", None, ("",))


async def open_vault(folder: str) -> Vault:
    return await Vault.attach(await FolderStorage.open(Path(folder)))


def made_entry(operation_id: str, group: int, number: int) -> BackupEntry:
    key = f"group {group}/object {number}"
    return BackupEntry(
        operation_id, group, key, "e" * 32, number, datetime(2024, 1, 1, tzinfo=UTC), None, "STANDARD",
        hashlib.sha256(key.encode()).hexdigest(), {"content-type": "x/y"}, (), None, (PackPart(1, number, 10),),
    )  # fmt: skip


async def _hold(vault: Vault, scope: Scope, seconds: float) -> None:
    async with hold_scope(vault, scope, times=QUICK):
        print("held", flush=True)
        await asyncio.sleep(seconds)
    print("released", flush=True)


async def _race(vault: Vault, scope: Scope, rounds: int) -> None:
    """Between taking the lock and letting it go, nobody else may have written: the file shows who was
    inside."""
    inside = Path(vault.location).parent / "inside"
    won = 0
    while won < rounds:
        try:
            async with hold_scope(vault, scope, wait_seconds=20, times=QUICK) as lock:
                await lock.check()
                with inside.open("a") as file:
                    file.write(f"+{os.getpid()}\n")
                await asyncio.sleep(0.02)
                with inside.open("a") as file:
                    file.write(f"-{os.getpid()}\n")
                won += 1
        except LockedError:
            continue
        await asyncio.sleep(0.01)


async def _groups(vault: Vault, operation_id: str, group: int, objects: int) -> None:
    operation = vault.operation(operation_id)
    while True:
        entries = [made_entry(operation_id, group, number) for number in range(objects)]
        await operation.append_journal(group, entries)
        now = datetime.now(UTC)
        records = [AuditRecord(now, operation_id, entry.key, "deleted", "unreferenced") for entry in entries]
        await operation.append_audit(group, records)
        print(group, flush=True)
        group += 1


async def main(arguments: list[str]) -> None:
    what, folder, name, *rest = arguments
    vault, scope = await open_vault(folder), scope_named(name)
    if what == "hold":
        await _hold(vault, scope, float(rest[0]))
    elif what == "race":
        await _race(vault, scope, int(rest[0]))
    elif what == "group":
        await _groups(vault, rest[0], int(rest[1]), int(rest[2]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
