"""``vault.db``: an SQLite index over the vault's operations and objects, for quick answers.

It is never the truth. Everything in it is rebuilt from the operations' own files, so a missing, old or broken
catalog is replaced by an empty one and filled again; nothing that decides about an object's life reads it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiosqlite

from s3gc.exceptions import VaultCorruptedError, VaultError
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Vault

__all__ = [
    "CatalogObject",
    "catch_up",
    "ensure_schema",
    "find_key",
    "forget",
    "index_operation",
    "mark_restored",
    "open_catalog",
    "rebuild",
]

_VERSION = 1
_BATCH = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
  id TEXT PRIMARY KEY, scope TEXT NOT NULL, bucket TEXT NOT NULL, mode TEXT NOT NULL,
  started_at TEXT NOT NULL, completed_at TEXT, outcome TEXT, journal TEXT NOT NULL,
  objects INTEGER NOT NULL, bytes INTEGER NOT NULL, packed_bytes INTEGER NOT NULL,
  deleted INTEGER NOT NULL, reclaimed_bytes INTEGER NOT NULL, problem TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE IF NOT EXISTS objects (
  operation_id TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, version_id TEXT,
  sha256 TEXT NOT NULL, grp INTEGER NOT NULL, outcome TEXT NOT NULL, restored_at TEXT,
  PRIMARY KEY (operation_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_key ON objects (key);
"""


@dataclass(frozen=True, slots=True)
class CatalogObject:
    """One backup of one key, as the catalog knows it."""

    operation_id: str
    key: str
    size: int
    outcome: str
    restored_at: datetime | None


async def open_catalog(path: Path) -> aiosqlite.Connection:
    """Open the catalog; what is no catalog of this version is replaced by an empty one (see `rebuild`)."""
    if not path.parent.is_dir():
        raise VaultError(f"the catalog {path} cannot be used: its folder does not exist")
    for attempt in (1, 2):
        try:
            db = await aiosqlite.connect(path, timeout=30)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        try:
            await ensure_schema(db)
        except sqlite3.DatabaseError as error:
            await db.close()
            if isinstance(error, sqlite3.OperationalError) or attempt == 2:
                raise _unusable(path, error) from error
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        else:
            return db
    raise AssertionError("unreachable")


def _unusable(path: Path, error: Exception) -> VaultError:
    return VaultError(
        f"the catalog {path} cannot be used ({error}); check the folder's space and permissions"
    )


async def ensure_schema(db: aiosqlite.Connection) -> None:
    """Make the tables where they are missing. A catalog of another version is emptied: it is only an
    index."""
    async with db.execute("PRAGMA user_version") as cursor:
        row = await cursor.fetchone()
    if row is not None and row[0] not in (0, _VERSION):
        await db.executescript("DROP TABLE IF EXISTS operations; DROP TABLE IF EXISTS objects;")
    await db.executescript(_SCHEMA)
    await db.execute(f"PRAGMA user_version = {_VERSION}")
    await db.commit()


async def index_operation(db: aiosqlite.Connection, operation: Operation) -> None:
    """Write what the operation's own files say into the catalog, in place of what was there; `restored_at`
    included.

    Damaged files give an operation with a `problem`, and the objects that could be read.
    """
    problems: list[str] = []
    try:
        record = await operation.record()
        result = await operation.result()
    except (VaultCorruptedError, FileNotFoundError) as error:
        problems.append(str(error) or "operation.json is missing")
        record, result = (
            OperationRecord(operation.id, "", "", "unknown", datetime.fromtimestamp(0, UTC)),
            None,
        )
    await db.execute("DELETE FROM objects WHERE operation_id = ?", (operation.id,))
    objects = size = packed = deleted = 0
    rows: list[tuple[object, ...]] = []
    with contextlib.suppress(
        VaultCorruptedError
    ):  # noted in problems; every object that can be read came before it
        async with aclosing(operation.outcomes(problems=problems)) as found:
            async for entry, outcome in found:
                restored = outcome.at if outcome.action == "restored" else None
                rows.append(_object_row(entry, outcome.action, restored))
                objects, size = objects + 1, size + entry.size
                packed += sum(part.length for part in entry.parts)
                deleted += outcome.action in ("deleted", "purged")
                if len(rows) >= _BATCH:
                    await _write_objects(db, rows)
                    rows = []
    await _write_objects(db, rows)
    times = [
        time.isoformat() if time is not None else None for time in (record.started_at, record.completed_at)
    ]
    await db.execute(
        "INSERT OR REPLACE INTO operations VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            operation.id, record.scope, record.bucket, record.mode, *times, record.outcome, record.journal,
            objects, size, packed, result.deleted_count if result is not None else deleted,
            result.reclaimed_bytes if result is not None else 0, "; ".join(problems),
        ),
    )  # fmt: skip
    await db.commit()


async def rebuild(
    db: aiosqlite.Connection, vault: Vault, progress: Callable[[int], None] | None = None
) -> int:
    """Fill the catalog anew from every operation of the vault; return how many there are. `progress` gets
    the number of operations done."""
    await db.execute("DELETE FROM operations")
    await db.execute("DELETE FROM objects")
    await db.commit()
    identifiers = await vault.operation_ids()
    for done, operation_id in enumerate(identifiers, start=1):
        await index_operation(db, vault.operation(operation_id))
        if progress is not None:
            progress(done)
    return len(identifiers)


async def catch_up(db: aiosqlite.Connection, vault: Vault) -> None:
    """Index what the catalog lacks, or knew only unfinished: the cache of another machine's vault begins empty."""
    async with db.execute("SELECT id FROM operations WHERE completed_at IS NOT NULL") as cursor:
        known = {row[0] for row in await cursor.fetchall()}
    for operation_id in await vault.operation_ids():
        if operation_id not in known:
            await index_operation(db, vault.operation(operation_id))


async def mark_restored(
    db: aiosqlite.Connection, operation_id: str, keys: Iterable[str], at: datetime
) -> None:
    """Note that exactly this operation's backups of `keys` were brought back."""
    rows = [(at.isoformat(), operation_id, key) for key in keys]
    await db.executemany("UPDATE objects SET restored_at = ? WHERE operation_id = ? AND key = ?", rows)
    await db.commit()


async def forget(db: aiosqlite.Connection, operation_id: str) -> None:
    """Drop an expired operation from the index."""
    await db.execute("DELETE FROM objects WHERE operation_id = ?", (operation_id,))
    await db.execute("DELETE FROM operations WHERE id = ?", (operation_id,))
    await db.commit()


async def find_key(db: aiosqlite.Connection, key: str) -> list[CatalogObject]:
    """Every backup of `key`, the newest operation first."""
    columns = "operation_id, key, size, outcome, restored_at"
    query = f"SELECT {columns} FROM objects WHERE key = ? ORDER BY operation_id DESC"
    async with db.execute(query, (key,)) as cursor:
        rows = await cursor.fetchall()
    return [
        CatalogObject(r[0], r[1], r[2], r[3], datetime.fromisoformat(r[4]) if r[4] else None) for r in rows
    ]


def _object_row(entry: BackupEntry, action: str, restored: datetime | None) -> tuple[object, ...]:
    return (
        entry.operation_id, entry.key, entry.size, entry.etag, entry.version_id, entry.sha256, entry.group,
        action,
        restored.isoformat() if restored is not None else None,
    )  # fmt: skip


async def _write_objects(db: aiosqlite.Connection, rows: list[tuple[object, ...]]) -> None:
    await db.executemany("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?,?,?,?)", rows)
