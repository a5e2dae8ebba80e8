"""One right less: a clear error that names the action, or a documented lesser behaviour. Never a deletion in doubt.

Users of a real MinIO, each denied exactly one action (docs/permissions.md is the same table for people). What MinIO does
not tell apart is played: it takes s3:ListBucket for s3:ListBucketVersions, and has no ACLs.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import restore
from tests.library.sweep.users import Act, allow, deny
from tests.testbed.services import S3Server

from s3gc.exceptions import AccessDeniedError, S3GCError
from s3gc.results import GCResult, Outcome
from s3gc.store.bucket import Bucket

BODIES = {f"k/{number}": b"%d" % number for number in range(6)}

ERROR, REFUSED, KEPT, WORKS = "error", "refused", "kept", "works"

#: action -> what an execute does without it in a versioned and in an unversioned bucket, and the action it names.
EXECUTE = {
    "s3:ListBucket": (ERROR, ERROR),
    "s3:GetBucketVersioning": (ERROR, ERROR),
    "s3:GetBucketObjectLockConfiguration": (ERROR, ERROR),
    "s3:GetObject": (ERROR, ERROR),
    "s3:PutObject": (ERROR, ERROR),
    "s3:DeleteObject": (ERROR, ERROR),
    "s3:DeleteObjectVersion": (REFUSED, WORKS),
    "s3:GetObjectTagging": (KEPT, KEPT),
    # Lesser, and documented: the probe's answer on multipart completion stays unknown; tags come back by the PUT.
    "s3:AbortMultipartUpload": (WORKS, WORKS),
    "s3:PutObjectTagging": (WORKS, WORKS),
}


async def _world(minio: S3Server, new_world: NewWorld, *, versioning: bool) -> World:
    world = await new_world(minio, versioning=versioning)
    await world.upload(BODIES, Tagging="a=b")
    await world.reference([f"k/{number}" for number in range(3)])
    return world


async def _run(world: World, **changes: Any) -> GCResult | S3GCError:
    try:
        return await world.run(world.config(**changes))
    except S3GCError as error:
        return error


@pytest.mark.parametrize("mode", ["dry_run", "audit_only"])
async def test_looking_needs_the_right_to_list_and_no_other(
    minio: S3Server, new_world: NewWorld, act_as: Act, mode: str
) -> None:
    world = await _world(minio, new_world, versioning=True)
    act_as(minio, allow(world.bucket, "s3:ListBucket"))
    result = await _run(world, mode=mode)
    assert isinstance(result, GCResult), result
    assert (result.outcome, result.verified_orphans) == (Outcome.SUCCEEDED, 3)
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:ListBucket"))
    refused = await _run(world, mode=mode)
    assert isinstance(refused, AccessDeniedError)
    assert "s3:ListBucket was denied" in refused.message


@pytest.mark.timeout(300)
@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "unversioned"])
async def test_an_execute_without_one_right(
    minio: S3Server, new_world: NewWorld, act_as: Act, versioned: bool
) -> None:
    world = await _world(minio, new_world, versioning=versioned)
    settings = {} if versioned else {"deletion": {"condition": "best_effort"}}
    for action, expected in EXECUTE.items():
        how = expected[0 if versioned else 1]
        act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, action))
        result = await _run(world, **settings)
        if how == WORKS:
            assert isinstance(result, GCResult), (action, result)
            assert (result.outcome, result.deleted_count) == (Outcome.SUCCEEDED, 3), (action, result.errors)
            await world.upload(
                {key: BODIES[key] for key in BODIES if key not in world.present()}, Tagging="a=b"
            )
            continue
        assert world.present() == BODIES, action
        if how == KEPT:
            assert isinstance(result, GCResult), (action, result)
            assert (result.outcome, result.skipped) == (Outcome.PARTIALLY_FAILED, {"denied": 3}), action
            said = result.errors[0]
        else:
            assert isinstance(result, S3GCError), (action, result)
            assert isinstance(result, AccessDeniedError) == (how == ERROR), (action, result)
            said = result.message
        if action == "s3:DeleteObject":
            left = world.client.list_object_versions(Bucket=world.bucket, Prefix=".s3gc/probe/")
            assert "Versions" not in left, left  # what could not be removed was never stored
            assert "DeleteMarkers" not in left, left
        # A version's tags are another action on AWS, and the same one here; the request's own is what is named.
        names = (action, action.replace("Object", "ObjectVersion"))
        assert any(name in said for name in names), (action, said)


async def test_without_the_right_to_list_versions_nothing_is_deleted(
    minio: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await _world(minio, new_world, versioning=True)

    async def denied(self: Bucket, key: str) -> Any:
        action = "s3:ListBucketVersions"
        raise AccessDeniedError(f"{action} was denied: bucket {self.name!r}", details={"action": action})

    monkeypatch.setattr(Bucket, "versions", denied)
    result = await _run(world)
    assert isinstance(result, AccessDeniedError)
    assert "s3:ListBucketVersions" in result.message
    assert world.present() == BODIES


async def test_an_unversioned_bucket_without_the_right_to_delete_is_told_so_and_not_to_enable_versioning(
    minio: S3Server, new_world: NewWorld, act_as: Act
) -> None:
    world = await _world(minio, new_world, versioning=False)
    act_as(minio, allow(world.bucket, "s3:*"), deny(world.bucket, "s3:DeleteObject"))
    result = await _run(world)  # condition: required, which this store does not honour
    assert isinstance(result, AccessDeniedError)
    assert "s3:DeleteObject was denied" in result.message


#: denied actions -> (restored, by bytes or by removing the marker, or the action that the failure names)
RESTORE: dict[tuple[str, ...], str] = {
    ("s3:PutObject",): "marker",
    ("s3:DeleteObjectVersion",): "bytes",
    ("s3:PutObject", "s3:DeleteObjectVersion"): "s3:PutObject",
    ("s3:GetBucketVersioning",): "s3:GetBucketVersioning",
}


@pytest.mark.timeout(300)
async def test_a_restore_without_one_right(minio: S3Server, new_world: NewWorld, act_as: Act) -> None:
    world = await _world(minio, new_world, versioning=True)
    config = world.config(restore_hold_days=0)
    for denied, expected in RESTORE.items():
        act_as(minio, allow(world.bucket, "s3:*"))
        swept = await world.run(config)
        assert swept.deleted_count == 3
        act_as(minio, allow(world.bucket, "s3:*"), *(deny(world.bucket, action) for action in denied))
        if expected.startswith("s3:Get"):
            with pytest.raises(AccessDeniedError, match=expected):
                await restore(world, swept.operation_id, config=config)
        else:
            back = await restore(world, swept.operation_id, config=config)
            if expected in ("marker", "bytes"):
                assert (back.restored_count, back.failed_count) == (3, 0), (denied, back.failed_keys)
                assert world.present() == BODIES
            else:
                assert (back.restored_count, back.failed_count) == (0, 3)
                assert all(expected in reason for reason in back.failed_keys.values())
        act_as(minio, allow(world.bucket, "s3:*"))
        await restore(world, swept.operation_id, config=config)
        assert world.present() == BODIES
        await world.upload({})  # let the clock pass what was written anew
