"""The five promises, on real servers: what is referenced stays or is back, what went can come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiosqlite
import pytest
from tests.library.cycle.rows import PostgresRows
from tests.library.cycle.world import AtPhase, World
from tests.testbed.services import Postgres, S3Server

from s3gc import get_metrics, initialize_gc_state, shutdown_gc_state
from s3gc.backup.restore import restore_operation
from s3gc.config import S3GCConfig
from s3gc.exceptions import CDCError, ConfigurationError, LockedError, RefusedError
from s3gc.results import Outcome, RestoreResult

KEYS = [f"uploads/{number:03d}.bin" for number in range(40)]
BODIES = {key: key.encode() * (number + 1) for number, key in enumerate(KEYS)}


async def _restore(config: S3GCConfig, operation_id: str, **options: object) -> RestoreResult:
    state = await initialize_gc_state(config)
    try:
        async with aiosqlite.connect(state["vault_db_path"]) as vault_db:
            return await restore_operation(config, state, vault_db, operation_id=operation_id, **options)
    finally:
        await shutdown_gc_state(state)


async def test_a_dry_run_finds_exactly_the_orphans_and_touches_nothing(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    result = await world.run(world.config(mode="dry_run"))
    assert result.outcome is Outcome.SUCCEEDED, result.errors
    assert (result.total_scanned, result.candidates_found, result.verified_orphans) == (40, 10, 10)
    assert result.deleted_count == result.backed_up_count == 0
    assert world.present() == BODIES


async def test_an_execute_deletes_exactly_the_orphans_and_a_restore_brings_every_byte_back(
    world: World,
) -> None:
    await world.upload(
        BODIES, ContentType="image/x-test", Metadata={"owner": "shop"}, CacheControl="max-age=7"
    )
    await world.reference(KEYS[:30])
    result = await world.run()
    assert result.outcome is Outcome.SUCCEEDED, result.errors
    assert (result.deleted_count, result.backed_up_count) == (10, 10), result.skipped
    assert world.present() == {key: BODIES[key] for key in KEYS[:30]}

    config = world.config()
    rehearsal = await _restore(config, result.operation_id)
    assert rehearsal.dry_run
    assert len(world.present()) == 30
    restored = await _restore(config, result.operation_id, dry_run=False)
    assert (restored.restored_count, restored.failed_count) == (10, 0), restored.failed_keys
    assert world.present() == BODIES
    head = world.client.head_object(Bucket=world.bucket, Key=KEYS[35])
    assert (head["ContentType"], head["Metadata"], head["CacheControl"]) == (
        "image/x-test",
        {"owner": "shop"},
        "max-age=7",
    )
    again = await _restore(config, result.operation_id, dry_run=False)
    assert (again.restored_count, again.skipped_count) == (0, 10)
    # A person who restores wants it to stay: the next cycle must not delete it again.
    after = await world.run()
    assert after.deleted_count == 0
    assert after.held_count + after.young_count == 10  # some stores make a restored object new
    assert world.present() == BODIES


async def test_an_object_referenced_during_the_sweep_is_back_when_the_cycle_ends(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    late = await world.rows.late(KEYS[35])  # open: no other session sees it
    result = await world.run(progress=AtPhase("Checking", late.commit))
    assert result.late_references == 1
    assert result.late_reference_keys == [KEYS[35]]
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert world.present() == {key: BODIES[key] for key in [*KEYS[:30], KEYS[35]]}


async def test_a_writer_that_rolls_back_restores_nothing(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    late = await world.rows.late(KEYS[35])
    result = await world.run(progress=AtPhase("Checking", late.rollback))
    assert (result.late_references, result.outcome) == (0, Outcome.SUCCEEDED)
    assert KEYS[35] not in world.present()


async def test_a_writer_that_never_ends_leaves_the_result_unverified_and_the_next_cycle_closes_it(
    world: World,
) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    late = await world.rows.late(KEYS[35])
    result = await world.run(world.config(barrier_timeout_seconds=1))
    assert not result.verified
    assert result.outcome is Outcome.PARTIALLY_FAILED
    await late.commit()
    after = await world.run()
    assert after.healed_count == 1
    assert KEYS[35] in world.present()


async def test_what_a_later_cycle_deleted_is_not_uncovered_by_the_recovery_of_an_earlier_one(
    world: World,
) -> None:
    """An earlier journal is still open when the same key, uploaded again, is deleted by the next cycle: nothing may
    come back by itself, and nothing be counted twice."""
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    late = await world.rows.late(KEYS[0])  # open to the end: no check is ever finished
    impatient = world.config(barrier_timeout_seconds=1)
    assert (await world.run(impatient)).deleted_count == 10
    await world.upload({KEYS[39]: b"uploaded again, and again unreferenced"})
    again = await world.run(impatient)
    assert (again.deleted_count, again.verified) == (1, False)
    assert (await world.run(impatient)).deleted_count == 0
    await late.rollback()
    assert (await world.run()).outcome is Outcome.SUCCEEDED
    assert world.present() == {key: BODIES[key] for key in KEYS[:30]}


async def test_a_reference_that_comes_after_the_cycle_is_healed_by_the_next(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    await world.run()
    assert KEYS[39] not in world.present()
    await world.reference([KEYS[39]])
    reported = await world.run(world.config(mode="dry_run"))
    assert KEYS[39] not in world.present()
    assert reported.missing_objects == 1
    healed = await world.run()
    assert healed.healed_count == 1
    assert world.present()[KEYS[39]] == BODIES[KEYS[39]]


async def test_a_table_that_changes_under_a_cycle_stops_its_deletes(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])

    def swap(progress: object) -> None:
        if getattr(progress, "phase", "") == "Planning" and not swapped:
            swapped.append(asyncio.ensure_future(world.execute("alter table files add column extra text")))

    swapped: list[asyncio.Future[None]] = []
    result = await world.run(progress=swap)
    await swapped[0]
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert result.deleted_count == 0
    assert world.present() == BODIES


async def test_an_emptied_table_is_refused(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS)
    await world.run(world.config(mode="dry_run"))
    await world.execute("delete from files")
    result = await world.run()
    assert result.outcome is Outcome.REFUSED
    assert any(guard.tripped and guard.guard == "minReferences" for guard in result.guards)
    assert world.present() == BODIES


async def test_an_undeclared_column_that_names_a_planned_object_is_refused(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    await world.execute("create table fresh(id int, picture text)")
    await world.execute("insert into fresh values (1, ?)", f"/{KEYS[33]}")
    result = await world.run()
    assert result.outcome is Outcome.REFUSED
    tripped = [guard for guard in result.guards if guard.tripped]
    assert [guard.guard for guard in tripped] == ["undeclaredColumns"]
    assert "picture" in tripped[0].message
    assert world.present() == BODIES


async def test_a_plan_that_waits_for_approval_is_swept_once_it_is_approved(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    config = world.config(approval="manual")
    waiting = await world.run(config)
    assert waiting.outcome is Outcome.AWAITING_APPROVAL
    assert world.present() == BODIES
    state = await initialize_gc_state(config)
    assert waiting.plan_digest is not None
    await state["vault"].operation(waiting.operation_id).approve(waiting.plan_digest, by="test")
    await shutdown_gc_state(state)
    await world.reference([KEYS[31]])  # referenced since: approved or not, it stays
    swept = await world.run(config)
    assert swept.operation_id == waiting.operation_id
    assert swept.outcome is Outcome.SUCCEEDED, swept.errors
    assert swept.deleted_count == 9
    assert KEYS[31] in world.present()


async def test_a_cap_refuses_and_an_approval_of_that_plan_waives_it(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    config = world.config(limits={"max_delete_objects": 5, "max_delete_percent": None})
    refused = await world.run(config)
    assert refused.outcome is Outcome.REFUSED
    assert world.present() == BODIES
    state = await initialize_gc_state(config)
    assert refused.plan_digest is not None
    await state["vault"].operation(refused.operation_id).approve(refused.plan_digest, by="test")
    await shutdown_gc_state(state)
    swept = await world.run(config)
    assert (swept.outcome, swept.deleted_count) == (Outcome.SUCCEEDED, 10)


async def test_audit_only_verifies_and_deletes_nothing(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    result = await world.run(world.config(mode="audit_only"))
    assert (result.outcome, result.verified_orphans, result.deleted_count) == (Outcome.SUCCEEDED, 10, 0)
    assert world.present() == BODIES


async def test_execute_without_a_source_is_a_configuration_error_and_a_dry_run_keeps_everything(
    world: World,
) -> None:
    await world.upload(BODIES)
    bare = {"tables": {}, "database_url": None}
    with pytest.raises(ConfigurationError, match="no source"):
        await world.run(world.config(**bare))
    result = await world.run(world.config(mode="dry_run", **bare))
    assert (result.unverifiable_count, result.verified_orphans) == (40, 0)


@pytest.mark.parametrize("mode", ["dry_run", "execute"])
@pytest.mark.parametrize(
    ("unread", "message"),
    [
        ({"name": "billing", "tables": [{"table": "invoices", "columns": ["key"]}]}, "has no database URL"),
        ({"name": "billing", "url": "sqlite:///nothing-declared.db"}, "names neither tables nor queries"),
    ],
)
async def test_a_declared_source_that_cannot_be_read_is_never_left_out(
    world: World, mode: str, unread: dict[str, object], message: str
) -> None:
    """What only the unread source references would look like orphans beside the source that can be read."""
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    with pytest.raises(ConfigurationError, match=f"'billing' {message}"):
        await world.run(world.config(mode=mode, sources=[unread]))
    assert world.present() == BODIES


async def test_change_capture_that_cannot_be_had_is_an_error_and_never_ignored(world: World) -> None:
    await world.upload({"a.bin": b"1"})
    scheme, backend = ("mysql", "mysql") if world.rows.dialect == "mysql" else ("postgresql", "postgres")
    url = f"{scheme}://nobody@127.0.0.1:1/none"
    with pytest.raises(CDCError, match=r"change capture|127\.0\.0\.1:1"):
        await world.run(world.config(cdc_backend=backend, cdc_connection_url=url))
    other = {"mysql": "postgres"}.get(world.rows.dialect, "mysql")
    with pytest.raises((CDCError, ConfigurationError)):
        await world.run(world.config(cdc_backend=other))
    assert world.present() == {"a.bin": b"1"}


async def test_two_cycles_at_once_are_one_cycle_and_a_clear_error(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    outcomes = await asyncio.gather(world.run(), world.run(), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["GCResult", "LockedError"]
    assert isinstance(next(o for o in outcomes if isinstance(o, Exception)), LockedError)


async def test_a_cancelled_cycle_ends_after_its_group_checked_and_unlocked(world: World) -> None:
    await world.upload(BODIES)
    await world.reference(KEYS[:10])
    started = asyncio.Event()

    def note(progress: object) -> None:
        if getattr(progress, "phase", "") == "Deleting":
            started.set()

    config = world.config(canary_objects=5, group_objects=5)
    task = asyncio.create_task(world.run(config, progress=note))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = world.present()
    assert set(KEYS[:10]) <= set(left)
    assert len(left) > 10
    after = await world.run(config)  # not locked, and it carries on
    assert after.outcome is Outcome.SUCCEEDED, after.errors
    assert set(world.present()) == set(KEYS[:10])
    state = await initialize_gc_state(config)
    metrics = await get_metrics(config, state)
    await shutdown_gc_state(state)
    assert metrics.total_deleted == 30


@pytest.mark.parametrize("condition", ["required", "best_effort"])
async def test_an_unversioned_bucket_whose_store_ignores_conditions_needs_a_decision(
    minio: S3Server,
    postgres: Postgres,
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
    condition: str,
) -> None:
    credentials(minio)
    rows = await PostgresRows.fresh(postgres)
    world = await World(minio, rows, tmp_path / "vault", versioning=False).begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    config = world.config(deletion={"condition": condition})
    if condition == "required":
        with pytest.raises(RefusedError, match="enable versioning"):
            await world.run(config)
        assert world.present() == BODIES
        return
    result = await world.run(config)
    assert (result.deleted_count, result.deletion) == (10, "best effort")
    assert result.reclaimed_bytes == sum(len(BODIES[key]) for key in KEYS[30:])
    assert (await _restore(config, result.operation_id, dry_run=False)).restored_count == 10
    assert world.present() == BODIES


async def test_an_unversioned_bucket_with_honoured_conditions_is_swept_by_condition(
    versitygw: S3Server, postgres: Postgres, credentials: Callable[[S3Server], None], tmp_path: Path
) -> None:
    credentials(versitygw)
    rows = await PostgresRows.fresh(postgres)
    world = await World(versitygw, rows, tmp_path / "vault", versioning=False).begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:30])
    result = await world.run()
    assert (result.deleted_count, result.deletion) == (10, "If-Match"), result.errors
    assert world.present() == {key: BODIES[key] for key in KEYS[:30]}
    assert (await _restore(world.config(), result.operation_id, dry_run=False)).restored_count == 10
    assert world.present() == BODIES
