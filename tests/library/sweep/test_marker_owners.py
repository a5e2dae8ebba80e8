"""Whose delete marker it is, on stores that tell its time and on one that does not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import audit, kinds, restore
from tests.testbed.services import S3Server

from s3gc.results import Outcome
from s3gc.store.bucket import Bucket
from s3gc.sweep import markers


async def test_an_object_that_is_older_than_the_grace_is_deleted_and_recorded_as_such(
    s3: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """versitygw gives a marker the time of the object that it hides; everywhere objects are days old."""
    monkeypatch.setattr(markers, "MARKER_GRACE", timedelta(seconds=1))
    world = await new_world(s3)
    await world.upload({"old.bin": b"old", "kept.bin": b"kept"})
    await world.reference(["kept.bin"])
    await asyncio.sleep(4)
    result = await world.run()
    assert (result.outcome, result.deleted_count, result.skipped) == (Outcome.SUCCEEDED, 1, {})
    assert kinds(world, "old.bin") == ["marker", "object"]
    (record,) = [each for each in await audit(world, result.operation_id) if each.key == "old.bin"]
    assert record.action == "deleted"
    assert record.marker_version_id
    assert (await restore(world, result.operation_id)).restored_count == 1
    assert world.present() == world.bodies


async def test_an_application_that_deleted_it_just_before_keeps_its_marker_and_only_that(
    s3: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markers, "MARKER_GRACE", timedelta(seconds=0))
    world = await new_world(s3)
    await world.upload({"a.bin": b"a", "kept.bin": b"kept"})
    await world.reference(["kept.bin"])
    await asyncio.sleep(3)
    real = Bucket.server_time
    deleted: list[str] = []

    async def deleted_before_the_fence(self: Bucket) -> Any:
        # The fence takes the store's time after the backup: the application deletes between the two.
        if deleted == ["backed up"]:
            answer = world.client.delete_object(Bucket=world.bucket, Key="a.bin")
            deleted.append(answer["VersionId"])
            await asyncio.sleep(2.1)
        return await real(self)

    def note(progress: Any) -> None:
        if progress.phase == "Verifying" and not deleted:
            deleted.append("backed up")

    monkeypatch.setattr(Bucket, "server_time", deleted_before_the_fence)
    result = await world.run(progress=note)
    assert result.deleted_count == 0, result
    assert sum(result.skipped.values()) == 1
    found = world.client.list_object_versions(Bucket=world.bucket, Prefix="a.bin")
    assert [marker["VersionId"] for marker in found["DeleteMarkers"]] == [deleted[1]]
    assert "a.bin" not in world.present()
