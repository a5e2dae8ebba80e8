"""The catalog is an index: rebuilt from the operations' files, replaced when broken, never the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import aiosqlite
import pytest
from tests.library.vault.processes import made_entry, open_vault
from ulid import ULID

from s3gc.exceptions import VaultError
from s3gc.results import GCResult
from s3gc.vault import catalog
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.records import AuditRecord
from s3gc.vault.vault import Vault


@pytest.fixture
async def vault(tmp_path: Path) -> Vault:
    return await open_vault(str(tmp_path / "vault"))


async def swept(vault: Vault, objects: int = 3) -> Operation:
    operation = vault.operation(str(ULID()))
    await operation.create(OperationRecord(operation.id, "media", "bucket", "execute", datetime.now(UTC)))
    entries = [made_entry(operation.id, 1, number) for number in range(objects)]
    await operation.append_journal(1, entries)
    await operation.append_audit(
        1,
        [
            AuditRecord(datetime.now(UTC), operation.id, entry.key, "deleted", "unreferenced")
            for entry in entries
        ],
    )
    await operation.write_result(
        GCResult(operation_id=operation.id, deleted_count=objects, reclaimed_bytes=7)
    )
    return operation


async def test_an_operation_is_indexed_and_indexed_again_without_doubles(vault: Vault) -> None:
    operation = await swept(vault)
    db = await catalog.open_catalog(vault.catalog_path)
    for _ in range(2):
        await catalog.index_operation(db, operation)
    async with db.execute(
        "SELECT id, objects, deleted, reclaimed_bytes, packed_bytes FROM operations"
    ) as cursor:
        assert [tuple(row) for row in await cursor.fetchall()] == [(operation.id, 3, 3, 7, 30)]
    assert [item.outcome for item in await catalog.find_key(db, "group 1/object 2")] == ["deleted"]
    await db.close()


async def test_a_key_is_marked_restored_only_for_the_operation_it_came_from(vault: Vault) -> None:
    first, second = await swept(vault), await swept(vault)
    db = await catalog.open_catalog(vault.catalog_path)
    assert await catalog.rebuild(db, vault) == 2
    await catalog.mark_restored(db, second.id, ["group 1/object 0"], datetime.now(UTC))
    found = {item.operation_id: item.restored_at for item in await catalog.find_key(db, "group 1/object 0")}
    assert found[first.id] is None
    assert found[second.id] is not None
    await catalog.forget(db, second.id)
    assert [item.operation_id for item in await catalog.find_key(db, "group 1/object 0")] == [first.id]
    await db.close()


async def test_a_broken_catalog_is_replaced_and_filled_again(vault: Vault) -> None:
    await swept(vault)
    vault.catalog_path.write_bytes(b"not a database " * 100)
    db = await catalog.open_catalog(vault.catalog_path)
    assert await catalog.rebuild(db, vault) == 1
    assert await catalog.find_key(db, "group 1/object 0")
    await db.close()


async def test_a_catalog_of_another_version_is_emptied(vault: Vault) -> None:
    async with aiosqlite.connect(vault.catalog_path) as db:
        await db.executescript("CREATE TABLE operations (other TEXT); PRAGMA user_version = 99;")
    db = await catalog.open_catalog(vault.catalog_path)
    await catalog.index_operation(db, await swept(vault))
    assert await catalog.find_key(db, "group 1/object 0")
    await db.close()


async def test_a_damaged_operation_is_in_the_catalog_with_its_problem(vault: Vault) -> None:
    whole, damaged = await swept(vault), await swept(vault)
    (Path(vault.location) / damaged.path("operation.json")).write_text("{")
    db = await catalog.open_catalog(vault.catalog_path)
    assert await catalog.rebuild(db, vault) == 2
    async with db.execute("SELECT id FROM operations WHERE problem != ''") as cursor:
        assert [row[0] for row in await cursor.fetchall()] == [damaged.id]
    assert {item.operation_id for item in await catalog.find_key(db, "group 1/object 0")} == {
        whole.id,
        damaged.id,
    }
    await db.close()


async def test_a_catalog_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="catalog"):
        await catalog.open_catalog(tmp_path / "no folder" / "vault.db")
