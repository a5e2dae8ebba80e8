"""Whole cycles with change capture on PostgreSQL: the same promises, and every way that a stream can end in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.rows import Late, PostgresRows
from tests.library.cycle.world import AtPhase, World, before_drain
from tests.testbed.services import Home, Postgres, S3Server, start_postgres

from s3gc.exceptions import CDCError
from s3gc.references.cdc.following import Following
from s3gc.references.cdc.postgres_capture import PostgresCapture
from s3gc.references.sources.postgres import PostgresSource
from s3gc.references.types import BarrierResult
from s3gc.results import Outcome, Progress, VerificationLevel
from s3gc.sweep.check import CheckResult

KEYS = [f"uploads/{number:03d}.bin" for number in range(40)]
BODIES = {key: key.encode() for key in KEYS}


@pytest.fixture
async def followed(
    postgres: Postgres, credentials: Callable[[S3Server], None], minio: S3Server, tmp_path: Path
) -> tuple[World, dict[str, Any]]:
    """A world, and what makes its policy follow the database."""
    credentials(minio)
    world = await World(minio, await PostgresRows.fresh(postgres), tmp_path / "vault").begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    return world, {"cdc_backend": "postgres", "group_objects": 2, "canary_objects": 1}


async def left_on_the_server(world: World) -> list[Any]:
    """Slots, and sessions of ours."""
    return [
        *await world.rows.execute(
            "select slot_name from pg_replication_slots where database = current_database()"
        ),
        *await world.rows.execute(
            "select query from pg_stat_activity where datname = current_database() and application_name = 's3gc'"
        ),
    ]


class At:
    """A progress callback that starts an action when its phase is first told."""

    def __init__(self, **actions: Callable[[], Any]) -> None:
        self._at = [AtPhase(phase, action) for phase, action in actions.items()]

    def __call__(self, progress: Progress) -> None:
        for one in self._at:
            one(progress)


async def test_a_cycle_is_verified_by_the_stream_and_leaves_nothing_on_the_server(
    followed: tuple[World, dict[str, Any]],
) -> None:
    world, changes = followed
    result = await world.run(world.config(**changes))
    assert (result.outcome, result.deleted_count) == (Outcome.SUCCEEDED, 10)
    assert result.verification is VerificationLevel.CDC
    (source,) = result.sources
    assert (source.level, source.next_step) == (VerificationLevel.CDC, "")
    assert source.lag_bytes is not None
    assert source.lag_bytes > 0
    assert world.present().keys() == set(KEYS[:30])
    assert await left_on_the_server(world) == []


async def test_what_is_committed_in_time_is_never_deleted_and_what_is_late_is_back(
    followed: tuple[World, dict[str, Any]],
) -> None:
    world, changes = followed
    open_ones: list[Late] = []

    # Not before the stream is open: PostgreSQL makes no slot while an older transaction writes.
    async def begin() -> None:
        open_ones.extend([await world.rows.late(KEYS[35]), await world.rows.late(KEYS[36])])

    async def end() -> None:
        await open_ones[0].commit()
        await open_ones[1].rollback()

    result = await world.run(world.config(**changes), progress=At(Joining=begin, Checking=end))
    assert list(result.late_reference_keys) == [KEYS[35]]
    assert (result.outcome, result.verified) == (Outcome.PARTIALLY_FAILED, True)
    assert world.present().keys() == {*KEYS[:30], KEYS[35]}
    assert await left_on_the_server(world) == []


async def test_what_is_written_after_the_reading_is_kept_by_the_stream_alone(
    followed: tuple[World, dict[str, Any]],
) -> None:
    world, changes = followed
    result = await world.run(
        world.config(**changes), progress=AtPhase("Joining", lambda: world.reference(KEYS[30:]))
    )
    assert (result.deleted_count, result.late_references) == (0, 0)
    assert result.verification is VerificationLevel.CDC
    assert world.present().keys() == set(KEYS)


async def test_a_stream_that_ends_stops_the_deletes_and_the_check_reads_again(
    followed: tuple[World, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, changes = followed
    open_ones: list[Late] = []
    drains = 0

    async def begin() -> None:
        open_ones.append(await world.rows.late(KEYS[35]))

    async def end() -> None:
        await open_ones[0].commit()

    def broken(real: Any) -> Any:
        async def drain(self: Any) -> Any:
            nonlocal drains
            drains += 1
            if drains == 3:  # the first is that of `open`, the second that of the canaries
                raise CDCError("the server dropped the slot")
            async for batch in real(self):
                yield batch

        return drain

    monkeypatch.setattr(PostgresCapture, "drain", broken(PostgresCapture.drain))
    result = await world.run(world.config(**changes), progress=At(Joining=begin, Checking=end))
    assert 0 < result.deleted_count < 10
    assert any("the server dropped the slot" in error for error in result.errors)
    assert (result.outcome, result.verified) == (Outcome.PARTIALLY_FAILED, True)
    assert result.verification is VerificationLevel.RESCAN
    assert "the server dropped the slot" in result.verification_reason
    assert set(KEYS[:30]) <= world.present().keys()
    assert await world.referenced() <= world.present().keys()
    assert await left_on_the_server(world) == []


async def test_a_table_that_changes_under_a_cycle_stops_its_deletes(
    followed: tuple[World, dict[str, Any]],
) -> None:
    world, changes = followed
    result = await world.run(
        world.config(**changes),
        progress=AtPhase(
            "Deleting", lambda: world.execute("alter table files add column more text default 'x'")
        ),
    )
    assert result.deleted_count < 10
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert result.verified, result.errors
    assert set(KEYS[:30]) <= world.present().keys()
    assert await left_on_the_server(world) == []


async def test_a_dry_run_opens_nothing_and_a_query_is_read_again_beside_the_stream(
    followed: tuple[World, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, changes = followed
    begun: list[str] = []
    real = Following.begin

    async def begin(self: Following) -> None:
        begun.append("begun")
        await real(self)

    monkeypatch.setattr(Following, "begin", begin)
    foreseen = await world.run(world.config(**changes, mode="dry_run"))
    assert begun == []
    assert [source.level for source in foreseen.sources] == [VerificationLevel.CDC]
    without = await world.run(world.config(mode="dry_run"))
    assert [source.level for source in without.sources] == [VerificationLevel.RESCAN]
    assert without.sources[0].reason.startswith("public.files.key has format auto")
    assert without.sources[0].next_step.startswith("add cdc: {backend: postgres}")
    await world.execute(f"create table more(id int, {world.rows.column} varchar(100))")
    await world.execute(f"insert into more values (1, '{KEYS[38]}')")
    source = {
        "name": "database",  # as in the dry run: another name would be another column, and this one gone
        "url": world.rows.url,
        "tables": [{"table": "files", "columns": ["key"]}],
        "queries": [{"name": "more", "sql": f"select {world.rows.column} from more"}],
        "ignore_columns": ["more.key"],  # the query reads it
        "cdc": {"backend": changes.pop("cdc_backend")},
    }
    config = world.config(**changes, tables={}, database_url=None, sources=[source])
    result = await world.run(
        config,
        progress=AtPhase("Joining", lambda: world.execute(f"insert into more values (2, '{KEYS[39]}')")),
    )
    assert begun == ["begun"]
    assert result.verification is VerificationLevel.RESCAN
    assert "query more is read again" in result.verification_reason
    assert "query more is read again" in result.sources[0].reason
    assert result.deleted_count == 8, result
    assert world.present().keys() == {*KEYS[:30], KEYS[38], KEYS[39]}
    assert await left_on_the_server(world) == []


async def test_without_the_wait_for_open_writers_one_would_be_lost(
    followed: tuple[World, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: a check that waits for nobody says that all is well, and the row that commits then names nothing."""
    world, changes = followed
    open_ones: list[Late] = []

    async def begin() -> None:
        open_ones.append(await world.rows.late(KEYS[35]))

    async def at_once(*_: object) -> BarrierResult:
        return BarrierResult(passed=True, waited_seconds=0.0)

    monkeypatch.setattr(PostgresSource, "barrier", at_once)
    result = await world.run(world.config(**changes), progress=At(Joining=begin))
    assert (result.outcome, result.verified) == (Outcome.SUCCEEDED, True)
    await open_ones[0].commit()
    assert KEYS[35] not in world.present()
    assert KEYS[35] in await world.referenced()


async def test_without_healing_what_was_written_after_the_check_would_stay_lost(
    followed: tuple[World, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: a later cycle that asks nothing about what earlier ones deleted. The stream of today knows of none."""
    world, changes = followed
    assert (await world.run(world.config(**changes))).deleted_count == 10
    await world.reference([KEYS[36]])

    async def nothing(*_: object, **__: object) -> CheckResult:
        return CheckResult()

    with monkeypatch.context() as patch:
        patch.setattr("s3gc.cycle.story.heal", nothing)
        result = await world.run(world.config(**changes))
    assert (result.outcome, result.missing_objects) == (Outcome.SUCCEEDED, 1)
    assert KEYS[36] not in world.present()
    assert (await world.run(world.config(**changes))).healed_count == 1
    assert world.present().keys() == {*KEYS[:30], KEYS[36]}


async def test_what_was_written_between_two_runs_is_in_no_stream_and_comes_back_all_the_same(
    followed: tuple[World, dict[str, Any]],
) -> None:
    """The first run's deletions were never checked to the end; the second one's stream began after the row was there."""
    world, changes = followed
    open_ones: list[Late] = []

    async def begin() -> None:
        open_ones.append(await world.rows.late(KEYS[35]))

    impatient = world.config(**changes, barrier_timeout_seconds=1)
    cut_off = await world.run(impatient, progress=At(Joining=begin))
    assert (cut_off.deleted_count, cut_off.verified) == (10, False)
    await open_ones[0].commit()
    await world.reference([KEYS[36]])
    after = await world.run(world.config(**changes))
    assert (after.healed_count, after.verified, after.verification) == (2, True, VerificationLevel.CDC)
    assert world.present().keys() == {*KEYS[:30], KEYS[35], KEYS[36]}
    assert await left_on_the_server(world) == []


@pytest.fixture
async def alone(
    testbed_home: Home, credentials: Callable[[S3Server], None], minio: S3Server, tmp_path: Path
) -> AsyncIterator[tuple[World, dict[str, Any], Postgres]]:
    """As `followed`, on a server that a test may crash."""
    server = start_postgres(testbed_home, f"postgres-{tmp_path.name}")
    try:
        credentials(minio)
        world = await World(minio, await PostgresRows.fresh(server), tmp_path / "vault").begin()
        await world.upload(BODIES)
        await world.reference(KEYS[:30])
        yield world, {"cdc_backend": "postgres", "group_objects": 2, "canary_objects": 1}, server
    finally:
        server.close()


@pytest.mark.parametrize("fault", ["the server crashes", "the server drops the slot"])
async def test_a_fault_of_the_server_costs_no_reference(
    alone: tuple[World, dict[str, Any], Postgres], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    world, changes, server = alone

    async def crash() -> None:
        await world.reference([KEYS[30]])  # the canary, which is gone already
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await world.reference([KEYS[33]])

    async def drop() -> None:
        await world.reference([KEYS[30]])
        await world.execute("alter system set max_slot_wal_keep_size = '1MB'")
        await world.execute("select pg_reload_conf()")

        async def is_lost() -> bool:
            await world.execute(
                "select pg_logical_emit_message(true, 'more', repeat('x', 9000000)), pg_switch_wal()"
            )
            await world.execute("checkpoint")
            found = await world.rows.execute("select wal_status from pg_replication_slots")
            return all(status == "lost" for (status,) in found)

        async with asyncio.timeout(60):
            while not await is_lost():
                await asyncio.sleep(0.1)
        await world.reference([KEYS[33]])

    before_drain(monkeypatch, PostgresCapture, 3, crash if fault == "the server crashes" else drop)
    result = await world.run(world.config(**changes))
    assert result.outcome is Outcome.PARTIALLY_FAILED, result.errors
    assert result.errors
    assert (result.deleted_count, result.late_reference_keys) == (1, [KEYS[30]])
    assert (result.verified, result.verification) == (True, VerificationLevel.RESCAN)
    assert world.present().keys() == set(KEYS)
    assert await left_on_the_server(world) == []
