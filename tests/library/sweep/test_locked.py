"""Object Lock: what is locked is not touched, and the result says why and until when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import audit, kinds
from tests.testbed.services import S3Server

from s3gc.results import Outcome

FREE, HELD, RETAINED, OVER = "free.bin", "held.bin", "retained.bin", "over.bin"


async def _kept(world: World, operation_id: str) -> dict[str, tuple[str, str]]:
    return {
        record.key: (record.reason, record.detail)
        for record in await audit(world, operation_id)
        if record.action in ("kept", "deleted")
    }


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
async def test_locked_objects_stay_in_view_with_the_reason_and_the_date(
    s3: S3Server, new_world: NewWorld, mode: str
) -> None:
    world = await new_world(s3, lock=True)
    client, bucket = world.client, world.bucket
    until = datetime.now(UTC) + timedelta(hours=1)
    soon = datetime.now(UTC) + timedelta(seconds=2)

    def put(key: str, **lock: Any) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode(), **lock)

    put(FREE)
    put(HELD, ObjectLockLegalHoldStatus="ON")
    put(RETAINED, ObjectLockMode=mode, ObjectLockRetainUntilDate=until)
    put(OVER, ObjectLockMode=mode, ObjectLockRetainUntilDate=soon)
    await world.upload({"referenced.bin": b"r"})
    await world.reference(["referenced.bin"])
    await asyncio.sleep(3)  # one of the retentions ends
    result = await world.run()
    assert result.outcome is Outcome.SUCCEEDED, result.errors
    assert (result.deleted_count, result.skipped) == (2, {"locked": 2})
    assert (result.planned_objects, result.verified_orphans, result.skipped_count) == (4, 2, 2)
    assert set(world.present()) == {"referenced.bin", HELD, RETAINED}
    assert kinds(world, HELD) == kinds(world, RETAINED) == ["object"]
    kept = await _kept(world, result.operation_id)
    assert kept[HELD] == ("locked", "under legal hold")
    assert kept[RETAINED][0] == "locked"
    assert f"{mode} until {until:%Y-%m-%dT%H:%M}" in kept[RETAINED][1]
    assert kept[OVER][0] == "unreferenced"
    client.put_object_legal_hold(Bucket=bucket, Key=HELD, LegalHold={"Status": "OFF"})


async def test_under_a_default_retention_every_object_is_kept_with_its_date_and_nothing_is_refused(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3, lock=True)
    world.client.put_object_lock_configuration(
        Bucket=world.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}},
        },
    )
    bodies = {f"k/{number}": b"%d" % number for number in range(4)}
    await world.upload(bodies)
    await world.reference(["k/0"])
    for _ in range(2):  # the claim and the probe are locked, too, and are there already the second time
        result = await world.run()
        assert result.outcome is Outcome.SUCCEEDED, result.errors
        assert (result.deleted_count, result.skipped) == (0, {"locked": 3})
        assert result.deletion.startswith("marker")
    kept = await _kept(world, result.operation_id)
    day = datetime.now(UTC) + timedelta(days=3)
    assert {reason for reason, _ in kept.values()} == {"locked"}
    for _, detail in kept.values():
        assert "default retention" in detail or "GOVERNANCE until" in detail
        assert any(f"{day + timedelta(days=more):%Y-%m-%d}" in detail for more in (-1, 0, 1))
    assert world.present() == bodies


async def test_a_lock_that_comes_between_the_plan_and_the_deletion_is_seen(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3, lock=True)
    await world.upload({"a.bin": b"a", "b.bin": b"b", "referenced.bin": b"r"})
    await world.reference(["referenced.bin"])

    def lock(progress: Any) -> None:
        if progress.phase == "Planning":
            world.client.put_object_legal_hold(Bucket=world.bucket, Key="a.bin", LegalHold={"Status": "ON"})

    result = await world.run(progress=lock)
    assert (result.deleted_count, result.skipped) == (1, {"locked": 1})
    assert set(world.present()) == {"a.bin", "referenced.bin"}
    world.client.put_object_legal_hold(Bucket=world.bucket, Key="a.bin", LegalHold={"Status": "OFF"})
