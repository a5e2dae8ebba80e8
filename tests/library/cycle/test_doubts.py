"""Doubts that must keep objects: what is there is not what was planned, what was planned is not what is stored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.rows import SqliteRows
from tests.library.cycle.world import World
from tests.library.sweep.support import During
from tests.testbed.services import S3Server

from s3gc import initialize_gc_state, shutdown_gc_state
from s3gc.exceptions import RefusedError
from s3gc.results import Outcome
from s3gc.store.bucket import Bucket
from s3gc.store.types import DeleteAnswer
from s3gc.vault import lock

KEYS = [f"uploads/{number:03d}.bin" for number in range(12)]
BODIES = {key: key.encode() for key in KEYS}


async def test_the_same_bytes_uploaded_again_meanwhile_are_another_object(
    versitygw: S3Server, credentials: Callable[[S3Server], None], tmp_path: Path
) -> None:
    """Content-addressed keys: the ETag is the same, and whoever uploads is about to write the row."""
    credentials(versitygw)
    rows = await SqliteRows.fresh(tmp_path / "rows.sqlite")
    world = await World(versitygw, rows, tmp_path / "vault", versioning=False).begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:8])
    await world.age()  # the second of the new upload must be another one

    def upload_again() -> None:
        world.client.put_object(
            Bucket=world.bucket, Key=KEYS[10], Body=BODIES[KEYS[10]], ContentType="image/new"
        )

    result = await world.run(progress=During("Verifying", upload_again))
    assert (result.deletion, result.deleted_count) == ("If-Match", 3), result.errors
    assert result.skipped == {"replaced": 1}
    head = world.client.head_object(Bucket=world.bucket, Key=KEYS[10])
    assert head["ContentType"] == "image/new"


async def test_a_plan_that_was_exchanged_in_the_vault_is_not_the_one_that_was_approved(
    minio: S3Server, credentials: Callable[[S3Server], None], tmp_path: Path
) -> None:
    credentials(minio)
    world = await World(minio, await SqliteRows.fresh(tmp_path / "rows.sqlite"), tmp_path / "vault").begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:6])
    large = await world.run(world.config(mode="dry_run"))
    small = await world.run(world.config(mode="dry_run", exclude_prefixes=[KEYS[6]]))
    state = await initialize_gc_state(world.config())
    await state["vault"].operation(small.operation_id).approve(small.plan_digest or "", by="a person")
    await shutdown_gc_state(state)
    operations = tmp_path / "vault" / "operations"
    shutil.copy(
        operations / large.operation_id / "plan.parquet", operations / small.operation_id / "plan.parquet"
    )
    with pytest.raises(RefusedError, match="is not the one that was planned"):
        await world.run(operation_id=small.operation_id)
    assert world.present() == BODIES


@pytest.mark.parametrize("store", ["minio", "versitygw"])
async def test_a_process_that_wakes_up_after_its_lease_deletes_nothing_more(
    request: pytest.FixtureRequest,
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
) -> None:
    """Stopped in the middle of a group (a suspended node, SIGSTOP): what it verified is not worth anything any more."""
    server: S3Server = request.getfixturevalue(store)
    credentials(server)
    rows = await SqliteRows.fresh(tmp_path / "rows.sqlite")
    world = await World(server, rows, tmp_path / "vault", versioning=store == "minio").begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:4])
    asleep, delete, clock = [0.0], Bucket.delete, lock._own_clock

    async def delete_and_sleep(bucket: Bucket, key: str, **options: Any) -> DeleteAnswer:
        answer = await delete(bucket, key, **options)
        if key in KEYS:
            asleep[0] = 100.0
        return answer

    monkeypatch.setattr(lock, "_own_clock", lambda: clock() + asleep[0])
    monkeypatch.setattr(Bucket, "delete", delete_and_sleep)
    result = await world.run(world.config(concurrency=1))
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert any("not renewed in time" in error for error in result.errors), result.errors
    assert result.deleted_count == 1
    assert len(world.present()) == len(KEYS) - 1


async def test_a_store_whose_clock_jumped_ahead_deletes_and_expires_nothing(
    minio: S3Server, credentials: Callable[[S3Server], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By that clock every upload is a year old, and every backup of yesterday has had its time."""
    credentials(minio)
    world = await World(minio, await SqliteRows.fresh(tmp_path / "rows.sqlite"), tmp_path / "vault").begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:8])
    first = await world.run(world.config(exclude_prefixes=[KEYS[9]]))
    await world.reference([KEYS[10]])  # what is referenced by now comes back nevertheless
    asked = Bucket.server_time

    async def a_year_ahead(bucket: Bucket) -> datetime:
        return await asked(bucket) + timedelta(days=400)

    monkeypatch.setattr(Bucket, "server_time", a_year_ahead)
    with pytest.raises(RefusedError, match=r"400 days after this machine's"):
        await world.run(world.config(retention_days=30))
    assert sorted(world.present()) == sorted([*KEYS[:8], KEYS[9], KEYS[10]])
    assert (tmp_path / "vault" / "operations" / first.operation_id / "packs").is_dir()
