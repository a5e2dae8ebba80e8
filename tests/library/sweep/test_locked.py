"""Object Lock: what is locked is not touched, and the result says why and until when."""

from __future__ import annotations

import asyncio
import io
import random
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any

import pytest
from tests.library.cli.faults import proxy
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import audit, kinds
from tests.testbed.services import S3Server, make_bucket

from s3gc import initialize_gc_state, shutdown_gc_state
from s3gc.backup.restore import restore_operation
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


def _needs_proof(method: str, path: str, headers: Message) -> bytes:
    """As AWS answers in a bucket that locks new objects; the stores of these tests take anything."""
    is_upload = (method == "PUT" and "?" not in path) or "partNumber=" in path
    if not is_upload or any(name.lower().startswith(("content-md5", "x-amz-checksum-")) for name in headers):
        return b""
    return (
        b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for "
        b"Put Object requests with Object Lock parameters</Message></Error>"
    )


def _lock_by_default(world: World, bucket: str) -> str:
    world.client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    return bucket


async def test_where_a_lock_wants_proof_of_what_is_stored_claims_vault_and_restores_give_it(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3, lock=True)
    large = random.Random(4).randbytes(9 * 1024 * 1024)  # in parts, as it was
    await world.upload({"small.txt": b"small", "referenced.bin": b"r"})
    await asyncio.to_thread(world.client.upload_fileobj, io.BytesIO(large), world.bucket, "large.bin")
    await world.age()
    await world.reference(["referenced.bin"])
    vault, elsewhere = (_lock_by_default(world, make_bucket(s3, lock=True)) for _ in range(2))
    with proxy(s3.endpoint, refuse=_needs_proof) as endpoint:
        config = world.config(
            endpoint_url=endpoint,
            vault_path=f"s3://{vault}/some/vault",
            vault_endpoint_url=endpoint,
            canary_objects=1,
        )
        result = await world.run(config)
        assert result.outcome is Outcome.SUCCEEDED, result.errors
        assert set(world.present()) == {"referenced.bin"}
        state = await initialize_gc_state(config)
        try:
            restored = await restore_operation(
                config, state, None, result.operation_id, dry_run=False, target_bucket=elsewhere
            )
        finally:
            await shutdown_gc_state(state)
    assert (restored.restored_count, restored.failed_keys) == (2, {})

    def stored(key: str) -> bytes:
        return bytes(world.client.get_object(Bucket=elsewhere, Key=key)["Body"].read())

    assert (stored("small.txt"), stored("large.bin")) == (b"small", large)
