"""Versioning of the bucket switched by somebody else, at every moment that matters: nothing is lost.

A delete marker hides an object only while versioning is Enabled. In a suspended bucket the same request destroys the
null version, so the sweep must see it in the answer, stop, and bring back what it destroyed.
"""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import During, audit, kinds, restore, set_versioning
from tests.testbed.services import S3Server

from s3gc.exceptions import RefusedError
from s3gc.results import Outcome

KEYS = [f"uploads/{number:03d}.bin" for number in range(24)]
BODIES = {key: key.encode() * (number + 1) for number, key in enumerate(KEYS)}


async def _begin(world: World) -> World:
    await world.upload(BODIES, ContentType="image/x-test", Metadata={"owner": "shop"})
    await world.reference(KEYS[:12])
    return world


async def test_a_suspended_bucket_is_refused(s3: S3Server, new_world: NewWorld) -> None:
    world = await _begin(await new_world(s3))
    set_versioning(world, "Suspended")
    with pytest.raises(RefusedError, match="versioning Suspended.*enable versioning"):
        await world.run()
    assert world.present() == BODIES


async def test_a_dry_run_says_what_an_execute_would_meet(minio: S3Server, new_world: NewWorld) -> None:
    world = await _begin(await new_world(minio, versioning=False))
    dry = world.config(mode="dry_run")
    result = await world.run(dry)
    assert (result.outcome, result.verified_orphans) == (Outcome.SUCCEEDED, 12)
    assert result.deletion.startswith("Execute would be refused unless the store honours If-Match")
    assert (await world.run(world.config(mode="audit_only"))).deletion == result.deletion
    assert (await world.run(dry.with_updates(deletion={"condition": "best_effort"}))).deletion == ""
    set_versioning(world, "Enabled")
    assert (await world.run(dry)).deletion == ""
    set_versioning(world, "Suspended")
    assert "versioning is Suspended" in (await world.run(dry)).deletion


async def test_suspended_under_the_sweep_null_versions_come_back_and_nothing_more_is_deleted(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3, versioning=False)
    await _begin(
        world
    )  # uploaded before versioning: these are null versions, which a suspended bucket destroys
    set_versioning(world, "Enabled")
    result = await world.run(
        world.config(canary_objects=4, group_objects=4),
        progress=During("Verifying", lambda: set_versioning(world, "Suspended")),
    )
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert "versioning" in result.errors[0]
    assert "switched off" in result.errors[0]
    assert (result.deleted_count, result.reclaimed_bytes) == (0, 0)
    assert world.present() == BODIES
    head = world.client.head_object(Bucket=world.bucket, Key=KEYS[12])
    assert (head["ContentType"], head["Metadata"]) == ("image/x-test", {"owner": "shop"})
    actions = {(record.action, record.reason) for record in await audit(world, result.operation_id)}
    assert actions == {("restored", "versioning was switched off")}


async def test_suspended_under_the_sweep_real_versions_come_back_too(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await _begin(await new_world(s3))
    result = await world.run(
        world.config(canary_objects=4, group_objects=4),
        # The first group leaves good markers, the second one meets the suspended bucket.
        progress=During("Verifying", lambda: set_versioning(world, "Suspended"), nth=2),
    )
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert result.deleted_count == 4
    assert set(world.present()) == set(KEYS[:12]) | set(KEYS[16:])
    with pytest.raises(RefusedError, match="Suspended"):
        await world.run()
    back = await restore(world, result.operation_id)
    assert (back.failed_count, back.restored_count) == (0, 4), back
    assert world.present() == BODIES


async def test_a_late_reference_is_back_though_the_bucket_was_suspended_after_its_deletion(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await _begin(await new_world(s3))
    writer = await asyncpg.connect(world.dsn)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("insert into files(key) values ($1)", KEYS[20])  # open: the check must wait for it
    commits: list[asyncio.Future[None]] = []

    def suspend_and_commit() -> None:
        set_versioning(world, "Suspended")
        commits.append(asyncio.ensure_future(transaction.commit()))

    result = await world.run(progress=During("Checking", suspend_and_commit))
    await commits[0]
    await writer.close()
    assert (result.late_reference_keys, result.outcome) == ([KEYS[20]], Outcome.PARTIALLY_FAILED)
    assert world.present() == {key: BODIES[key] for key in [*KEYS[:12], KEYS[20]]}


async def test_enabled_under_a_sweep_by_condition_frees_nothing_and_claims_nothing(
    versitygw: S3Server, new_world: NewWorld
) -> None:
    world = await _begin(await new_world(versitygw, versioning=False))
    result = await world.run(progress=During("Verifying", lambda: set_versioning(world, "Enabled")))
    assert (result.outcome, result.deleted_count, result.deletion) == (Outcome.SUCCEEDED, 12, "If-Match")
    assert result.reclaimed_bytes == 0
    assert kinds(world, KEYS[12]) == ["marker", "object"]
    assert (await restore(world, result.operation_id)).restored_count == 12
    assert world.present() == BODIES


async def test_enabled_between_two_cycles_what_the_first_deleted_is_healed_and_restored(
    versitygw: S3Server, new_world: NewWorld
) -> None:
    world = await _begin(await new_world(versitygw, versioning=False))
    first = await world.run()
    assert first.reclaimed_bytes == sum(len(BODIES[key]) for key in KEYS[12:])
    set_versioning(world, "Enabled")
    await world.reference([KEYS[20]])
    second = await world.run()
    assert second.healed_count == 1
    assert world.present()[KEYS[20]] == BODIES[KEYS[20]]
    assert (await restore(world, first.operation_id)).restored_count == 11
    assert world.present() == BODIES


async def test_suspended_between_two_cycles_a_restore_brings_all_back(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await _begin(await new_world(s3))
    first = await world.run()
    assert first.deleted_count == 12
    set_versioning(world, "Suspended")
    with pytest.raises(RefusedError, match="Suspended"):
        await world.run()
    back = await restore(world, first.operation_id)
    assert (back.restored_count, back.failed_count) == (12, 0), back.failed_keys
    assert world.present() == BODIES


async def test_in_a_bucket_that_was_suspended_since_what_has_come_to_be_referenced_is_healed_before_the_refusal(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await _begin(await new_world(s3))
    first = await world.run()
    assert first.deleted_count == 12
    set_versioning(world, "Suspended")
    await world.reference([KEYS[20]])
    with pytest.raises(RefusedError, match="Suspended"):
        await world.run()
    assert world.present() == {key: BODIES[key] for key in [*KEYS[:12], KEYS[20]]}
