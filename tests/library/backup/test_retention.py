"""Expiry: whole operations, never what may still be needed, and an order in which a kill leaves nothing
half."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.library.backup.support import World

from s3gc.backup.retention import expire, reindex
from s3gc.exceptions import LockedError, VaultError
from s3gc.vault import catalog
from s3gc.vault.lock import hold_scope
from s3gc.vault.operations import Operation

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=91)


async def swept(world: World, key: str) -> Operation:
    world.put(key, b"x" * 1000)
    return (await world.sweep())[0]


def notes(world: World) -> list[dict[str, Any]]:
    files = sorted((world.vault_folder / "expired").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


async def test_an_operation_expires_as_a_whole_and_a_line_says_so(on_minio: World) -> None:
    operation = await swept(on_minio, "a")
    assert (await expire(on_minio.vault, on_minio.config, now=NOW)).operations == ()
    expired = await expire(on_minio.vault, on_minio.config, now=LATER)
    assert expired.operations == (operation.id,)
    assert expired.freed_bytes > 0
    assert await on_minio.vault.operation_ids() == []
    (note,) = notes(on_minio)
    assert (note["operation_id"], note["action"], note["scope"]) == (
        operation.id,
        "expired",
        on_minio.scope.id,
    )
    assert note["bytes"] == expired.freed_bytes


async def test_a_hold_an_open_journal_and_a_damaged_record_never_expire(on_minio: World) -> None:
    held, opened, damaged, kept = [await swept(on_minio, key) for key in "abcd"]
    await held.hold("legal", "on call")
    await opened.update(journal="open")
    on_minio.damage(damaged.path("operation.json"), cut=20)
    expired = await expire(on_minio.vault, on_minio.config, now=LATER, keep=frozenset({kept.id}))
    assert expired.operations == ()
    assert len(await on_minio.vault.operation_ids()) == 4
    await held.unhold()
    assert (
        await expire(on_minio.vault, on_minio.config, now=LATER, keep=frozenset({kept.id}))
    ).operations == (held.id,)


async def test_an_expiry_that_was_killed_is_finished_and_noted_once(
    on_minio: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = await swept(on_minio, "a")
    files = len([file async for file in on_minio.vault.storage.list(operation.path())])
    real = type(on_minio.vault.storage).delete
    for survive in range(files):
        left = survive

        async def killed(self: Any, path: str) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            await real(self, path)

        with monkeypatch.context() as patch:
            patch.setattr(type(on_minio.vault.storage), "delete", killed)
            try:
                await expire(on_minio.vault, on_minio.config, now=LATER)
            except KeyboardInterrupt:
                pass
        if not await on_minio.vault.operation_ids():
            break
    await expire(on_minio.vault, on_minio.config, now=NOW)  # begun, so it ends whatever the time is now
    assert await on_minio.vault.operation_ids() == []
    assert len(notes(on_minio)) == 1


async def test_only_the_scope_that_was_asked_for_expires(on_minio: World) -> None:
    operation = await swept(on_minio, "a")
    assert (await expire(on_minio.vault, on_minio.config, now=LATER, scope_id="another")).operations == ()
    assert (
        await expire(on_minio.vault, on_minio.config, now=LATER, scope_id=on_minio.scope.id)
    ).operations == (operation.id,)


async def test_an_expiry_whose_lock_is_lost_stops(on_minio: World) -> None:
    await swept(on_minio, "a")
    async with hold_scope(on_minio.vault, on_minio.scope) as lock:
        path = on_minio.vault_folder / "scopes" / on_minio.scope.id / "lock.json"
        path.write_text(path.read_text().replace('"token": "', '"token": "not'))
        with pytest.raises(LockedError):
            await expire(on_minio.vault, on_minio.config, now=LATER, lock=lock)
    assert len(await on_minio.vault.operation_ids()) == 1


async def test_one_that_cannot_be_removed_is_left_for_the_next_time(
    on_minio: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await swept(on_minio, "a"), await swept(on_minio, "b")
    real = type(on_minio.vault.storage).delete

    async def failing(self: Any, path: str) -> None:
        if first.id in path:
            raise VaultError("a moment")
        await real(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(type(on_minio.vault.storage), "delete", failing)
        assert (await expire(on_minio.vault, on_minio.config, now=LATER)).operations == (second.id,)
    assert (await expire(on_minio.vault, on_minio.config, now=LATER)).operations == (first.id,)


async def test_reindex_makes_the_catalog_anew(on_minio: World) -> None:
    operation = await swept(on_minio, "a")
    on_minio.vault.catalog_path.unlink(missing_ok=True)
    assert await reindex(on_minio.vault) == 1
    db = await catalog.open_catalog(on_minio.vault.catalog_path)
    assert [item.operation_id for item in await catalog.find_key(db, "a")] == [operation.id]
    await expire(on_minio.vault, on_minio.config, now=LATER, vault_db=db)
    assert await catalog.find_key(db, "a") == []
    await db.close()
