"""Bytes, headers and odd keys go there and come back exactly, on real servers."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.library.store.conftest import OpenBucket
from tests.testbed.services import S3Server

from s3gc.exceptions import StoreError, VaultCorruptedError
from s3gc.store.errors import ObjectChangedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ODD_KEYS = [
    "plain.txt", "with space", " leading and trailing ", "a+b", "a%2Fb", "a%2fb", "a%20b", "100%", "%zz", "a%25b",
    "new\nline", "carriage\rreturn", "crlf\r\nx", "tab\there", "del\x7f", "nel\x85", "back\\slash", "?query=1&b=2",
    "#fragment", "<xml>&amp;\"'", "*|:~=^{}[]();,@$!`", "NFC-\u00e9", "NFD-e\u0301", "日本語/ファイル",
    "emoji-\U0001f600",
    "zero\u200bwidth", "\u202eright-to-left", ".hidden", "a/.hidden", "x" * 250, "/".join(["s" * 200] * 5),
]  # fmt: skip
#: Keys that MinIO takes and a file system under versitygw does not.
ONLY_MINIO = ["a\x01b", "a\x1fb", "trailing/"]


async def _read(bucket: object, key: str, **options: object) -> bytes:
    async with bucket.get(key, **options) as download:  # type: ignore[attr-defined]
        assert download is not None
        return b"".join([chunk async for chunk in download.chunks])


async def test_odd_keys_are_put_listed_read_and_deleted_as_exactly_themselves(
    s3: S3Server, open_bucket: OpenBucket, s3_client: Callable[[S3Server], S3Client]
) -> None:
    bucket = await open_bucket(s3)
    keys = ODD_KEYS + (ONLY_MINIO if s3.name == "minio" else [])
    for key in keys:
        assert await bucket.put(key, key.encode(), size=len(key.encode())) is not None
    boto = s3_client(s3)  # another client sees the same keys: we did not just agree with ourselves
    for key in keys:
        assert boto.get_object(Bucket=bucket.name, Key=key)["Body"].read() == key.encode()
        assert await _read(bucket, key) == key.encode()
        head = await bucket.head(key)
        assert head is not None
        assert (head.key, head.size, head.etag) == (
            key,
            len(key.encode()),
            hashlib.md5(key.encode()).hexdigest(),
        )
        assert [v.key for v in await bucket.versions(key)] == [key]
    listed = [row async for page in bucket.list_pages() for row in page.rows.column("key").to_pylist()]
    assert listed == sorted(keys, key=str.encode)
    for number, key in enumerate(keys):
        await bucket.delete(key)
        assert await bucket.head(key) is None
        left = [row async for page in bucket.list_pages() for row in page.rows.column("key").to_pylist()]
        assert set(left) == set(keys[number + 1 :]), f"deleting {key!r} removed something else"


async def test_metadata_comes_back_as_it_was_sent(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3)
    sent = {
        "content-type": "text/x-odd; charset=utf-8",
        "cache-control": "max-age=60, private",
        "content-disposition": 'attachment; filename="a b.txt"',
        "content-encoding": "gzip",
        "content-language": "de-AT",
        "x-amz-meta-double": "two  spaces",
        "x-amz-meta-empty": "",
    }
    await bucket.put("k", b"\x1f\x8bnot really gzip", size=17, headers=sent)
    head = await bucket.head("k")
    assert head is not None
    assert {name: head.headers.get(name) for name in sent} == sent
    assert await _read(bucket, "k") == b"\x1f\x8bnot really gzip"  # content-encoding is not undone
    answer = await bucket.put("again", b"x", size=1, headers=dict(head.headers))
    assert answer is not None
    again = await bucket.head("again")
    assert again is not None
    assert {name: again.headers.get(name) for name in sent} == sent


async def test_metadata_that_is_not_ascii_survives_going_there_and_back_twice(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3)
    await bucket.put("k", b"x", size=1, headers={"x-amz-meta-name": "grün ☃"})
    first = await bucket.head("k")
    assert first is not None
    await bucket.put("l", b"x", size=1, headers=dict(first.headers))
    second = await bucket.head("l")
    assert second is not None
    assert second.headers["x-amz-meta-name"] == first.headers["x-amz-meta-name"]


async def test_a_header_that_cannot_be_sent_exactly_is_not_sent_at_all(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3)
    for value in ("line\r\nx-amz-acl: public-read", "lone \udce9 byte"):
        with pytest.raises(StoreError, match="exactly"):
            await bucket.put("k", b"x", size=1, headers={"x-amz-meta-a": value})
    assert await bucket.head("k") is None


async def test_ranges_conditions_and_versions_of_a_read(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3, versioning=True)
    data = os.urandom(300_000)
    old = await bucket.put("k", b"old", size=3)
    new = await bucket.put("k", data, size=len(data))
    assert old is not None
    assert new is not None
    assert await _read(bucket, "k", offset=1000, length=5000) == data[1000:6000]
    assert await _read(bucket, "k", offset=299_990) == data[299_990:]
    assert await _read(bucket, "k", if_match=new.etag) == data
    assert await _read(bucket, "k", version_id=old.version_id) == b"old"
    async with bucket.get("k", offset=10, length=1) as download:
        assert download is not None
        assert download.head.size == len(data)
    with pytest.raises(ObjectChangedError):
        await _read(bucket, "k", if_match=old.etag)
    async with bucket.get("missing") as download:
        assert download is None


@pytest.mark.parametrize("is_digest_known", [True, False])
async def test_an_iterator_is_stored_whole_and_only_if_it_ends_well(
    s3: S3Server, open_bucket: OpenBucket, is_digest_known: bool
) -> None:
    bucket = await open_bucket(s3)
    data = os.urandom(3_000_000)
    digest = hashlib.sha256(data).hexdigest() if is_digest_known else None

    async def pieces(end: int, error: Exception | None = None) -> AsyncIterator[bytes]:
        for start in range(0, end, 70_001):
            yield data[start : min(start + 70_001, end)]
        if error is not None:
            raise error

    answer = await bucket.put("whole", pieces(len(data)), size=len(data), sha256=digest)
    assert answer is not None
    assert answer.etag == hashlib.md5(data).hexdigest()
    with pytest.raises(StoreError, match="only 2999999 came"):
        await bucket.put("short", pieces(len(data) - 1), size=len(data), sha256=digest)
    with pytest.raises(StoreError, match="more came"):
        await bucket.put("long", pieces(len(data)), size=len(data) - 1, sha256=digest)
    # All bytes came, and only then the producer found that they were wrong.
    wrong = pieces(len(data), VaultCorruptedError("checksum"))
    with pytest.raises(VaultCorruptedError):
        await bucket.put("wrong", wrong, size=len(data), sha256=digest)
    if is_digest_known:
        with pytest.raises(StoreError):
            await bucket.put("another", pieces(len(data)), size=len(data), sha256="0" * 64)
    for key in ("short", "long", "wrong", "another"):
        assert await bucket.head(key) is None


async def test_multipart_streams_and_create_only_is_honoured(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3)
    data = os.urandom(6 * 1024 * 1024)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, 5 * 1024 * 1024, 1 << 20):
            yield data[start : start + (1 << 20)]

    async def upload(create_only: bool) -> object:
        upload_id = await bucket.create_multipart("big", headers={"x-amz-meta-a": "b", "content-type": "x/y"})
        first = await bucket.upload_part("big", upload_id, 1, pieces(), size=5 * 1024 * 1024)
        second = await bucket.upload_part("big", upload_id, 2, data[5 * 1024 * 1024 :], size=1024 * 1024)
        answer = await bucket.complete_multipart(
            "big", upload_id, [(1, first), (2, second)], create_only=create_only
        )
        await bucket.abort_multipart("big", upload_id)
        return answer

    assert await upload(create_only=True) is not None
    head = await bucket.head("big")
    assert head is not None
    assert (head.size, head.headers["x-amz-meta-a"], head.headers["content-type"]) == (len(data), "b", "x/y")
    assert await _read(bucket, "big") == data
    assert await upload(create_only=True) is None


async def test_create_only_and_if_match_of_put(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3)
    results = await asyncio.gather(*(bucket.put("k", b"%d" % n, size=1, create_only=True) for n in range(8)))
    assert sum(answer is not None for answer in results) == 1
    head = await bucket.head("k")
    assert head is not None
    assert await bucket.put("k", b"x", size=1, if_match="0" * 32) is None
    assert await bucket.put("k", b"y", size=1, if_match=head.etag) is not None
    assert await _read(bucket, "k") == b"y"


async def test_bytes_damaged_on_the_way_are_refused_by_the_store(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3)
    from s3gc.store.wire import Body, Request

    class Damaged(Body):
        __slots__ = ()

        def payload(self) -> bytes:
            return b"HELLO"

    request = Request("PutObject", "s3:PutObject", "PUT", "k", body=Damaged(b"hello", 5), key="k")
    with pytest.raises(StoreError):
        await bucket._transport.call(request)
    assert await bucket.head("k") is None


async def test_tags_and_acl(
    s3: S3Server, open_bucket: OpenBucket, s3_client: Callable[[S3Server], S3Client]
) -> None:
    bucket = await open_bucket(s3)
    await bucket.put("k", b"x", size=1)
    assert await bucket.tags("k") == ()
    assert await bucket.acl("k") is None
    tags = [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "x y"}]
    s3_client(s3).put_object_tagging(Bucket=bucket.name, Key="k", Tagging={"TagSet": tags})  # type: ignore[typeddict-item]
    assert sorted(await bucket.tags("k") or ()) == [("a", "x y"), ("b", "2")]


async def test_the_servers_time_is_its_own(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3)
    assert abs(await bucket.server_time() - datetime.now(UTC)) < timedelta(seconds=60)


async def test_versioning_and_lock_are_read(
    s3: S3Server, open_bucket: OpenBucket, s3_client: Callable[[S3Server], S3Client]
) -> None:
    plain = await open_bucket(s3)
    assert (await plain.versioning()).status == "Off"
    assert not (await plain.lock_configuration()).enabled
    locked = await open_bucket(s3, lock=True)
    assert (await locked.versioning()).status == "Enabled"
    lock = await locked.lock_configuration()
    assert (lock.enabled, lock.default_mode) == (True, None)
    s3_client(s3).put_object_lock_configuration(
        Bucket=locked.name,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}},
        },
    )
    lock = await locked.lock_configuration()
    assert (lock.default_mode, lock.default_days) == ("GOVERNANCE", 3)
    versioned = await open_bucket(s3, versioning=True)
    s3_client(s3).put_bucket_versioning(
        Bucket=versioned.name, VersioningConfiguration={"Status": "Suspended"}
    )
    assert (await versioned.versioning()).status == "Suspended"
