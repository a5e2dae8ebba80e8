"""Cycles that follow MariaDB's binary log: what is written meanwhile stays or is back, and no reading is needed for it.

And every fault of the stream ends the deletions, is checked by reading again, and leaves no session behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.rows import MariaRows
from tests.library.cycle.world import AtPhase, World, before_drain
from tests.testbed.services import MySQL, S3Server

from s3gc.config import S3GCConfig
from s3gc.exceptions import CDCError
from s3gc.references.cdc.mysql_capture import MySQLCapture
from s3gc.references.sources.mysql import MySQLSource
from s3gc.references.types import BarrierResult
from s3gc.results import GCResult, Outcome, VerificationLevel

KEYS = [f"uploads/{number:03d}.bin" for number in range(40)]
BODIES = {key: key.encode() for key in KEYS}
#: What a policy's account needs for all of it.
GRANTS = (
    "grant select on {database}.* to {user}",
    "grant process, replication slave, {monitor} on *.* to {user}",
)


@pytest.fixture(params=["mariadb", "mysql"])
def database(request: pytest.FixtureRequest) -> MySQL:
    """Each server in turn."""
    server: MySQL = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def world(
    minio: S3Server, database: MySQL, credentials: Callable[[S3Server], None], tmp_path: Path
) -> World:
    """A bucket of 40 objects, 30 of them referenced."""
    credentials(minio)
    rows = await MariaRows.fresh(database)
    rows.url = await rows.user("follower", *GRANTS)
    world = await World(minio, rows, tmp_path / "vault").begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    return world


def followed(world: World, **changes: Any) -> S3GCConfig:
    return world.config(cdc_backend="mysql", canary_objects=2, group_objects=4, **changes)


def never_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no(*_: object, **__: object) -> dict[str, Any]:
        raise AssertionError("the references were read again")

    monkeypatch.setattr("s3gc.sweep.verify.rescan", no)


async def run(world: World, config: S3GCConfig | None = None, **options: Any) -> GCResult:
    result = await world.run(config or followed(world), **options)
    sessions = await world.rows.execute(
        "select command from information_schema.processlist where user = 'follower'"
    )
    assert sessions == [], "a session was left behind"
    gone = await world.referenced() - world.present().keys()
    assert not gone, f"referenced and gone: {gone}"
    return result


async def test_a_cycle_that_follows_the_log_deletes_the_orphans_without_reading_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_read_again(monkeypatch)
    result = await run(world)
    assert (result.outcome, result.verification) == (Outcome.SUCCEEDED, VerificationLevel.CDC), result.errors
    assert world.present() == {key: BODIES[key] for key in KEYS[:30]}


async def test_what_is_written_before_a_group_is_kept_and_what_was_open_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_read_again(monkeypatch)
    late, undone = await world.rows.late(KEYS[30]), await world.rows.late(KEYS[31])  # of the canary group

    async def write() -> None:
        await world.rows.execute("insert into files(`key`) values (?)", KEYS[33])
        await world.rows.change(KEYS[0], KEYS[39])

    async def end() -> None:
        await undone.rollback()
        await late.commit()

    before_drain(monkeypatch, MySQLCapture, 2, write)
    result = await run(world, progress=AtPhase("Checking", end))
    assert result.verification is VerificationLevel.CDC
    assert result.late_reference_keys == [KEYS[30]]
    assert result.deleted_count == 8, "all but the two that were written in time"
    assert set(KEYS) - world.present().keys() == {*KEYS[31:33], *KEYS[34:39]}


async def test_a_column_that_the_log_does_not_show_is_read_again_and_the_others_are_followed(
    world: World,
) -> None:
    await world.execute("create view mentions as select note from files")
    await world.execute("update files set note = ? where `key` = ?", KEYS[34], KEYS[1])
    source = {
        "name": "database",
        "url": world.rows.url,
        "tables": [{"table": "files", "columns": ["key"]}, {"table": "mentions", "columns": ["note"]}],
        "cdc": {"backend": "mysql"},
    }
    result = await run(world, world.config(tables={}, database_url=None, sources=[source]))
    assert result.deleted_count == 9, result.errors
    assert result.verification is VerificationLevel.RESCAN
    assert KEYS[34] in world.present()


async def test_without_the_fence_it_would_lose(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: the log's end is asked for once, and believed ever after."""
    fence, first = MySQLCapture._fence, None

    async def stale(self: MySQLCapture) -> Any:
        nonlocal first
        first = first or await fence(self)
        return first

    monkeypatch.setattr(MySQLCapture, "_fence", stale)
    before_drain(monkeypatch, MySQLCapture, 2, lambda: world.reference([KEYS[39]]))
    result = await world.run(followed(world))
    assert result.verified, "nothing was noticed"
    assert await world.referenced() - world.present().keys() == {KEYS[39]}


async def test_without_the_barrier_it_would_lose(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> BarrierResult:
        return BarrierResult(passed=True, waited_seconds=0.0)

    monkeypatch.setattr(MySQLSource, "barrier", none)
    late = await world.rows.late(KEYS[39])
    result = await world.run(followed(world))
    await late.commit()
    assert result.verified
    assert await world.referenced() - world.present().keys() == {KEYS[39]}


FAULTS: dict[str, tuple[str, ...]] = {
    "ddl": ("alter table files add more int", "insert into files(`key`) values ('{key}')"),
    "statement": (
        "set session transaction isolation level repeatable read", "set session binlog_format = statement", "insert into files(`key`) values ('{key}')",
    ),
    "reset": ("insert into files(`key`) values ('{key}')", "reset master"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_stream_ends_the_deletions_and_is_checked_by_reading_again(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The row that comes with the fault names an object that the canary group has just deleted."""

    async def act() -> None:
        connection = await world.rows.connect()  # type: ignore[attr-defined]
        async with connection.cursor() as cursor:
            for statement in FAULTS[fault]:
                await cursor.execute(statement.format(key=KEYS[30]))
        await connection.ensure_closed()

    before_drain(monkeypatch, MySQLCapture, 2, act)
    result = await run(world)
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert result.deleted_count == 2, "the canary group alone"
    assert result.late_reference_keys == [KEYS[30]]
    assert result.verified, "the references were read again"
    assert result.errors


async def test_a_server_that_crashes_in_mid_cycle_costs_nothing(
    world: World, database: MySQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = await world.rows.late(KEYS[31])

    async def crash() -> None:
        await world.rows.execute("insert into files(`key`) values (?)", KEYS[30])
        database.kill()
        database.start()
        await world.rows.execute("insert into files(`key`) values (?)", KEYS[35])

    before_drain(monkeypatch, MySQLCapture, 2, crash)
    result = await run(world)
    assert result.late_reference_keys == [KEYS[30]]
    assert KEYS[35] in world.present()
    assert KEYS[31] not in world.present(), "its transaction died with the server"
    await asyncio.gather(late.rollback(), return_exceptions=True)


async def test_capture_that_cannot_be_had_is_an_error_with_the_grant_and_nothing_is_deleted(
    world: World,
) -> None:
    url = await world.rows.user("no_follower", *GRANTS[:1], "grant process on *.* to {user}")  # type: ignore[attr-defined]
    with pytest.raises(
        CDCError, match="GRANT REPLICATION SLAVE, (BINLOG MONITOR|REPLICATION CLIENT) ON"
    ) as caught:
        await world.run(followed(world, database_url=url))
    assert "sesame-open" not in str(caught.value)
    assert world.present() == BODIES
