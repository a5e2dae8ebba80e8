"""Deletions that the store denies: one key, one folder, everything. Real users with real policies on MinIO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import audit, restore
from tests.library.sweep.users import Act, allow, deny
from tests.testbed.services import S3Server

from s3gc.backup import fetching
from s3gc.results import Outcome


def _bodies(*folders: str, each: int = 25) -> dict[str, bytes]:
    return {f"{folder}{number:03d}.bin": b"%d" % number for folder in folders for number in range(each)}


async def test_single_keys_that_may_not_be_deleted_are_kept_and_the_others_go(
    minio: S3Server, new_world: NewWorld, act_as: Act
) -> None:
    world = await new_world(minio)
    bodies = _bodies("m/")
    await world.upload(bodies)
    await world.reference([])
    bucket = world.bucket
    act_as(minio, allow(bucket, "s3:*"), deny(bucket, "s3:DeleteObject", "m/003.bin", "m/007.bin"))
    result = await world.run(world.config(limits=_EVERYTHING))
    assert (result.outcome, result.deleted_count) == (Outcome.SUCCEEDED, 23), result.errors
    assert result.skipped == {"denied": 2}
    assert set(world.present()) == {"m/003.bin", "m/007.bin"}
    kept = [record for record in await audit(world, result.operation_id) if record.action == "kept"]
    assert {record.key for record in kept} == {"m/003.bin", "m/007.bin"}
    assert all("s3:DeleteObject was denied" in record.detail for record in kept)


async def test_a_denied_folder_is_given_up_without_backing_up_the_rest_of_it(
    minio: S3Server, new_world: NewWorld, act_as: Act
) -> None:
    world = await new_world(minio)
    bodies = _bodies("a-legal/x/", each=60) | _bodies("uploads/")
    await world.upload(bodies)
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:DeleteObject", "a-legal/*"))
    # The denied folder comes first, so the whole canary group is denied.
    result = await world.run(world.config(limits=_EVERYTHING, group_objects=10))
    assert (result.outcome, result.deleted_count) == (Outcome.SUCCEEDED, 25), result.errors
    assert result.skipped == {"denied": 60}
    assert result.backed_up_count == 20 + 25
    assert set(world.present()) == {key for key in bodies if key.startswith("a-legal/")}


@pytest.mark.parametrize("prefixes", [[], ["uploads/"]])
async def test_where_everything_is_denied_the_sweep_stops_early_and_names_the_action(
    minio: S3Server, new_world: NewWorld, act_as: Act, prefixes: list[str]
) -> None:
    world = await new_world(minio)
    bodies = _bodies("uploads/", each=120)
    await world.upload(bodies)
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:DeleteObject", "uploads/*"))
    result = await world.run(world.config(limits=_EVERYTHING, prefixes=prefixes, group_objects=10))
    assert (result.outcome, result.deleted_count) == (Outcome.PARTIALLY_FAILED, 0)
    assert len(result.errors) == 1
    assert (
        "s3:DeleteObject was denied for every object that was tried (20, in 'uploads/')" in result.errors[0]
    )
    assert result.backed_up_count == 20
    assert world.present() == bodies


async def test_a_sweep_without_the_right_to_delete_anything_is_an_error_before_it_begins(
    minio: S3Server, new_world: NewWorld, act_as: Act
) -> None:
    from s3gc.exceptions import AccessDeniedError

    world = await new_world(minio)
    bodies = _bodies("uploads/", each=3)
    await world.upload(bodies)
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:DeleteObject", "*"))
    with pytest.raises(AccessDeniedError, match="s3:DeleteObject"):
        await world.run(world.config(limits=_EVERYTHING))
    assert world.present() == bodies


_EVERYTHING: dict[str, Any] = {"max_delete_percent": None, "min_references": 0}


async def test_where_tags_may_not_be_read_no_object_is_taken_for_one_without(
    minio: S3Server, new_world: NewWorld, act_as: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS leaves the count of tags out of its answers then; MinIO shows it always, so it is taken out here."""
    world = await new_world(minio, versioning=False)
    await world.upload({f"k/{number}": b"body" for number in range(4)}, Tagging="keep=10y")
    await world.reference(["k/0"])
    config = world.config(limits=_EVERYTHING, deletion={"condition": "BestEffort"})
    monkeypatch.setattr(fetching, "reason_to_skip", _without_count(fetching.reason_to_skip))
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:GetObjectTagging"))
    result = await world.run(config)
    assert (result.deleted_count, result.skipped) == (0, {"denied": 3})
    assert any("s3:GetObjectTagging" in error for error in result.errors), result.errors
    act_as(minio, allow(world.bucket, "s3:*"))
    result = await world.run(config)  # a store that never sends the count: each object is asked
    assert result.deleted_count == 3
    await restore(world, result.operation_id)
    for number in range(1, 4):
        tags = world.client.get_object_tagging(Bucket=world.bucket, Key=f"k/{number}")["TagSet"]
        assert tags == [{"Key": "keep", "Value": "10y"}]


def _without_count(judge: Callable[..., Any]) -> Callable[..., Any]:
    def judged(planned: Any, head: Any, **options: Any) -> Any:
        head.headers.pop("x-amz-tagging-count", None)
        return judge(planned, head, **options)

    return judged
