"""What each server honours, found out on objects of our own, with nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.library.store.conftest import OpenBucket
from tests.stub.server import error, start_stub
from tests.testbed.services import S3Server

from s3gc.exceptions import AccessDeniedError
from s3gc.store.probe import probe

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def everything_in(client: S3Client, bucket: str) -> list[str]:
    answer = client.list_object_versions(Bucket=bucket)
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [
        entry["Key"] for entry in [*answer.get("Versions", []), *answer.get("DeleteMarkers", []), *uploads]
    ]


@pytest.mark.parametrize("versioning", [False, True])
async def test_each_server_is_seen_for_what_it_does_and_nothing_is_left(
    s3: S3Server, open_bucket: OpenBucket, s3_client: Callable[[S3Server], S3Client], versioning: bool
) -> None:
    bucket = await open_bucket(s3, versioning=versioning)
    seen = await probe(bucket)
    # MinIO ignores If-Match on DELETE and answers 204; versitygw honours it. Both honour conditional creation.
    assert seen.delete_if_match == ("ignored" if s3.name == "minio" else "honoured")
    assert (seen.create_only_put, seen.create_only_complete) == ("honoured", "honoured")
    assert seen.remove_version is versioning
    assert seen.versioning.status == ("Enabled" if versioning else "Off")
    assert "/a/b" in seen.aliases  # both store "/k" as "k"
    assert ("a//b" in seen.aliases) == (s3.name == "versitygw")
    assert everything_in(s3_client(s3), bucket.name) == []


async def test_where_new_objects_are_locked_by_default_one_object_is_asked_and_stays(
    s3: S3Server, open_bucket: OpenBucket, s3_client: Callable[[S3Server], S3Client]
) -> None:
    bucket = await open_bucket(s3, lock=True)
    client = s3_client(s3)
    client.put_object_lock_configuration(
        Bucket=bucket.name,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    for _ in range(3):
        seen = await probe(bucket)
        assert seen.lock.default_days == 1
        assert seen.delete_if_match == ("ignored" if s3.name == "minio" else "honoured")
        assert seen.remove_version
        left = client.list_object_versions(Bucket=bucket.name)
        assert [item["Key"] for item in left["Versions"]] == [".s3gc/probe/locked"]
        assert "DeleteMarkers" not in left


async def test_a_lock_bucket_without_default_retention_is_probed(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3, lock=True)
    seen = await probe(bucket)
    assert seen.lock.enabled
    assert seen.remove_version


async def test_a_server_that_refuses_every_conditional_delete_is_not_called_honest(
    open_bucket: OpenBucket,
) -> None:
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        stub.refuses_conditional_delete = True
        assert (await probe(bucket)).delete_if_match == "refused"
        assert stub.objects == {}


async def test_one_lying_node_among_honest_ones_is_found(open_bucket: OpenBucket) -> None:
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        stub.honours_if_match_every = 3  # two of three nodes ignore it
        seen = await probe(bucket)
        assert seen.delete_if_match == "ignored"
        assert any("nodes of this endpoint differ" in note for note in seen.notes)


async def test_without_the_right_to_write_the_right_is_named(open_bucket: OpenBucket) -> None:
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        stub.answer(403, body=error("AccessDenied"), method="PUT")
        with pytest.raises(AccessDeniedError, match="s3:PutObject"):
            await probe(bucket)
