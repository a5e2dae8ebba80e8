"""Deletes: what each server does with a condition, and that nothing of ours repeats a bare one."""

from __future__ import annotations

import pytest
from tests.library.store.conftest import OpenBucket
from tests.stub.server import Fault, error, start_stub
from tests.testbed.services import S3Server

from s3gc.exceptions import S3GCError, StoreError


async def test_a_wrong_condition_deletes_on_minio_and_is_honoured_by_versitygw(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3)
    await bucket.put("k", b"x", size=1)
    answer = await bucket.delete("k", if_match="0" * 32)
    is_there = await bucket.head("k") is not None
    assert (answer.status, is_there) == ((204, False) if s3.name == "minio" else (412, True))


async def test_a_marker_hides_the_object_and_removing_it_brings_it_back(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3, versioning=True)
    put = await bucket.put("k", b"x", size=1)
    assert put is not None
    answer = await bucket.delete("k", if_match=put.etag)
    assert answer.is_marker
    assert await bucket.head("k") is None
    assert answer.version_id is not None
    assert await bucket.head("k", version_id=answer.version_id) is None  # a marker is no object
    async with bucket.get("k", version_id=answer.version_id) as download:
        assert download is None
    latest, below = await bucket.versions("k")
    assert (latest.is_marker, latest.is_latest, latest.version_id) == (True, True, answer.version_id)
    assert (below.is_marker, below.version_id, below.etag, below.size) == (False, put.version_id, put.etag, 1)
    await bucket.delete("k", version_id=answer.version_id)
    assert await bucket.head("k") is not None


async def test_versions_are_those_of_exactly_this_key_newest_first_over_many_pages(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3, versioning=True)
    ids = []
    for number in range(12):
        answer = await bucket.put("k", b"%d" % number, size=len(str(number)))
        assert answer is not None
        ids.append(answer.version_id)
    for neighbour in ("k/", "k0", "ka", "k\n", "j", "K"):
        if s3.name == "minio" or not neighbour.endswith("/"):
            try:
                await bucket.put(neighbour, b"n", size=1)
            except StoreError:
                assert neighbour == "k/"  # a file system cannot hold both
    marker = await bucket.delete("k")
    versions = await bucket.versions("k")
    assert [v.version_id for v in versions] == [marker.version_id, *reversed(ids)]
    assert [v.is_latest for v in versions] == [True] + [False] * 12
    assert {v.key for v in versions} == {"k"}
    assert await bucket.versions("never") == []


async def test_version_id_and_if_match_are_never_combined(minio: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(minio)
    with pytest.raises(ValueError, match="combined"):
        await bucket.delete("k", if_match="a", version_id="b")


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.HANG, Fault.SLOW_DOWN, Fault.INTERNAL])
async def test_a_bare_delete_is_sent_once_whatever_happens(fault: Fault, open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub, timeout_seconds=0.3)
        await (
            bucket.server_time()
        )  # a kept-alive connection now exists: the case that aiohttp repeats by itself
        stub.requests.clear()
        stub.fail(fault)
        with pytest.raises(S3GCError):
            await bucket.delete("k")
        assert [seen.method for seen in stub.requests] == ["DELETE"]


async def test_a_bare_delete_is_not_even_repeated_for_a_wrong_clock(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(403, body=error("RequestTimeTooSkewed"))
        with pytest.raises(S3GCError, match="clock"):
            await bucket.delete("k")
        assert len(stub.requests) == 1


@pytest.mark.parametrize("options", [{"if_match": "a"}, {"version_id": "v"}])
@pytest.mark.parametrize("fault", [Fault.DROP, Fault.SLOW_DOWN, Fault.INTERNAL])
async def test_an_exact_delete_is_repeated(
    fault: Fault, options: dict[str, str], open_bucket: OpenBucket
) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        stub.fail(fault, times=2)
        assert (await bucket.delete("k", **options)).status == 204
        assert len(stub.requests) == 3
        assert {seen.headers.get("if-match") for seen in stub.requests} == (
            {'"a"'} if "if_match" in options else {None}
        )


async def test_a_delete_in_a_bucket_that_is_gone_is_an_error_not_an_answer(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub, name="another-one")
        with pytest.raises(S3GCError, match="'another-one' does not exist"):
            await bucket.delete("k")
