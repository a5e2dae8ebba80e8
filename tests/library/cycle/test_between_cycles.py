"""What changes between two cycles: backups that have had their time, clocks, policies, who shares a vault."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from tests.library.cycle.rows import SqliteRows
from tests.library.cycle.world import World
from tests.testbed.s3servers import make_bucket
from tests.testbed.services import S3Server
from ulid import ULID

from s3gc import initialize_gc_state, shutdown_gc_state
from s3gc.backup.restore import restore_operation
from s3gc.cycle import start, story
from s3gc.exceptions import RefusedError, RestoreError, S3GCError, StoreError, VaultCorruptedError
from s3gc.results import GCResult, Outcome
from s3gc.sweep import check, heal

KEYS = [f"uploads/{number:03d}.bin" for number in range(12)]
BODIES = {key: key.encode() for key in KEYS}


@pytest.fixture
async def world(versitygw: S3Server, credentials: Callable[[S3Server], None], tmp_path: Path) -> World:
    """An unversioned bucket: what is deleted is in the vault and nowhere else."""
    credentials(versitygw)
    rows = await SqliteRows.fresh(tmp_path / "rows.sqlite")
    world = await World(versitygw, rows, tmp_path / "vault", versioning=False).begin()
    await world.upload(BODIES)
    return world


async def test_a_backup_whose_object_could_not_be_healed_does_not_expire(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.reference(KEYS[:8])
    first = await world.run(world.config(vault_retention_days=0))
    assert first.deleted_count == 4, first.errors
    await world.reference([KEYS[9]])

    async def refused(*_: Any, **__: Any) -> str:
        raise StoreError("the bucket is over its quota")

    with monkeypatch.context() as patch:
        patch.setattr(check, "bring_back", refused)
        second = await world.run(world.config(vault_retention_days=0))
    assert second.outcome is Outcome.PARTIALLY_FAILED
    third = await world.run(world.config(vault_retention_days=0))
    assert third.healed_count == 1, third.errors
    assert world.present()[KEYS[9]] == BODIES[KEYS[9]]
    await world.run(world.config(vault_retention_days=0))
    assert not (
        world.vault / "operations" / first.operation_id / "operation.json"
    ).exists()  # what it owed is settled


async def _approve(world: World, result: GCResult) -> None:
    state = await initialize_gc_state(world.config())
    await state["vault"].operation(result.operation_id).approve(result.plan_digest or "", by="a person")
    await shutdown_gc_state(state)


async def test_an_approval_does_not_count_for_a_policy_that_reads_less(world: World) -> None:
    """It waives the very guards that would notice a query which was taken out of the policy by mistake."""
    await world.execute("create table attachments(name text)")
    await world.execute("insert into attachments values ('008')")
    await world.reference(KEYS[:8])
    files = {"table": "files", "columns": ["key"]}
    query = {"name": "attachments", "sql": "select 'uploads/' || name || '.bin' from attachments"}

    def config(**read: Any) -> Any:
        source = {"name": "database", "url": world.dsn, "tables": [files], **read}
        limits = {"max_delete_percent": None, "max_delete_objects": 2}
        return world.config(tables=None, database_url=None, sources=[source], limits=limits)

    first = await world.run(config(queries=[query]))
    assert (first.outcome, first.planned_objects) == (Outcome.REFUSED, 3)
    await _approve(world, first)
    await world.execute("insert into attachments values ('009')")
    with pytest.raises(RefusedError, match="does not|other tables"):
        await world.run(config(), operation_id=first.operation_id)
    second = await world.run(config())
    assert (second.outcome, second.planned_objects) == (
        Outcome.REFUSED,
        4,
    )  # a plan of its own, and nobody approved it
    assert world.present() == BODIES
    third = await world.run(config(queries=[query]))
    assert (third.operation_id, third.deleted_count) == (first.operation_id, 2), third.errors


async def test_an_approved_plan_that_was_damaged_does_not_stand_in_the_way_of_the_next(world: World) -> None:
    await world.reference(KEYS[:8])
    first = await world.run(world.config(approval="manual"))
    assert first.outcome is Outcome.AWAITING_APPROVAL
    await _approve(world, first)
    path = world.vault / "operations" / first.operation_id / "plan.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="makes a new plan"):
        await world.run(world.config(approval="manual"))
    second = await world.run(world.config(approval="manual"))
    assert second.outcome is Outcome.AWAITING_APPROVAL
    assert second.plan_digest == first.plan_digest
    assert second.operation_id != first.operation_id
    assert world.present() == BODIES


async def test_what_was_deleted_last_comes_back_also_when_the_clock_went_back_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.reference(KEYS[:8])
    with monkeypatch.context() as patch:
        patch.setattr(start, "ULID", lambda: ULID.from_timestamp(time.time() + 3600))
        first = await world.run()
    await world.upload({KEYS[8]: b"of later"})
    second = await world.run()
    assert (first.deleted_count, second.deleted_count) == (4, 1)
    assert second.operation_id > first.operation_id
    await world.reference([KEYS[8]])
    assert (await world.run()).healed_count == 1
    assert world.present()[KEYS[8]] == b"of later"


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.unlink()])
async def test_an_operation_whose_record_is_lost_stops_its_own_policy_alone_with_a_way_on(
    world: World, damage: Callable[[Path], None]
) -> None:
    await world.reference(KEYS[:8])
    mine = world.config(name="mine", prefixes=["uploads/00"])
    theirs = world.config(name="theirs", prefixes=["uploads/01"])
    first = await world.run(mine)
    assert (await world.run(theirs)).deleted_count == 2
    folder = world.vault / "operations" / first.operation_id
    damage(folder / "operation.json")
    assert (await world.run(theirs)).outcome is Outcome.SUCCEEDED
    with pytest.raises(VaultCorruptedError, match=f"s3gc restore {first.operation_id}"):
        await world.run(mine)
    other = mine.with_updates(bucket=make_bucket(world.server))
    state = await initialize_gc_state(other)
    async with aiosqlite.connect(state["vault_db_path"]) as database:
        with pytest.raises(RestoreError, match=world.bucket):  # its result still says whose objects they are
            await restore_operation(other, state, database, first.operation_id, dry_run=False)
    await shutdown_gc_state(state)
    (folder / "journal").rename(world.vault.parent / "aside")
    assert (await world.run(mine)).outcome is Outcome.SUCCEEDED


async def test_a_vault_that_was_rolled_back_to_yesterday_deletes_nothing(world: World) -> None:
    """It would know neither what was deleted since nor what on-call has brought back since."""
    await world.reference(KEYS[:8])
    await world.run(world.config(exclude_prefixes=[KEYS[8], KEYS[9]]))
    yesterday = world.vault.parent / "yesterday"
    shutil.copytree(world.vault, yesterday)
    today = await world.run(world.config(exclude_prefixes=[KEYS[9]]))
    assert today.deleted_count == 1
    world.vault.rename(world.vault.parent / "today")
    shutil.copytree(yesterday, world.vault)
    with pytest.raises(RefusedError, match=f"does not know operation {today.operation_id}"):
        await world.run()
    assert (await world.run(world.config(mode="dry_run"))).outcome is Outcome.SUCCEEDED
    shutil.rmtree(world.vault)
    (world.vault.parent / "today").rename(world.vault)
    assert (await world.run()).deleted_count == 1
    # What expired by itself is known to have been there.
    last = await world.run(world.config(vault_retention_days=0, exclude_prefixes=[KEYS[0]]))
    assert last.outcome is Outcome.SUCCEEDED
    await world.run(world.config(vault_retention_days=0))
    assert (await world.run(world.config(vault_retention_days=0))).outcome is Outcome.SUCCEEDED


async def test_an_older_copy_never_comes_back_in_the_place_of_one_that_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.reference(KEYS[:8])
    await world.run()
    await world.upload({KEYS[8]: b"of later"})
    second = await world.run()
    await world.reference([KEYS[8]])
    bring_back = check.bring_back

    async def failing(bucket: Any, vault: Any, entry: Any, **more: Any) -> str:
        if entry.operation_id == second.operation_id:
            raise StoreError("the store is away")
        return await bring_back(bucket, vault, entry, **more)

    with monkeypatch.context() as patch:
        patch.setattr(heal, "CHUNK_KEYS", 1)
        patch.setattr(check, "bring_back", failing)
        assert (await world.run()).outcome is Outcome.PARTIALLY_FAILED
    assert KEYS[8] not in world.present()
    assert (await world.run()).healed_count == 1
    assert world.present()[KEYS[8]] == b"of later"


async def test_a_full_work_folder_is_named_with_a_way_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.reference(KEYS[:8])

    async def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(story, "take_inventory", full)
        with pytest.raises(S3GCError, match=r"work folder .* cannot be used .* set work_dir"):
            await world.run()
    assert (await world.run()).deleted_count == 4


async def test_what_a_lost_journal_named_is_healed_nevertheless(world: World) -> None:
    """A file that is damaged is noticed when it is read; one that is gone is not, and its keys would be forgotten."""
    await world.reference(KEYS[:8])
    first = await world.run()
    assert first.deleted_count == 4
    journals = list((world.vault / "operations" / first.operation_id / "journal").iterdir())
    journals[0].unlink()
    await world.reference([KEYS[9]])
    assert (await world.run()).healed_count == 1
    assert world.present()[KEYS[9]] == BODIES[KEYS[9]]
