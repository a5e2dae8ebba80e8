"""A listing is complete and exact, or it is an error: on real servers, and on a stub that fails in every way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.library.store.conftest import OpenBucket
from tests.stub.server import Fault, start_stub
from tests.testbed.services import S3Server

from s3gc.exceptions import ListingError, S3GCError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.store.keys import INVALID_UTF8, key_bytes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = [f"{folder}/{number:04d}" for folder in ("a", "b", "zü", "\U0001f600") for number in range(30)] + [
    "！",
    "top",
]


async def keys_of(
    bucket: Bucket, prefix: str = "", *, start_after: str = "", end_at: str | None = None
) -> list[str]:
    pages = bucket.list_pages(prefix, start_after=start_after, end_at=end_at)
    return [key async for page in pages for key in page.rows.column("key").to_pylist()]


async def fill(bucket: Bucket, keys: list[str]) -> None:
    await asyncio.gather(*(bucket.put(key, b"x", size=1) for key in keys))


async def test_listing_agrees_with_boto3_in_every_column(
    s3: S3Server, open_bucket: OpenBucket, s3_client: Callable[[S3Server], S3Client]
) -> None:
    bucket = await open_bucket(s3)
    await fill(bucket, KEYS)
    await bucket.put("sized", b"12345", size=5)
    rows = [row async for page in bucket.list_pages() for row in page.rows.to_pylist()]
    expected = []
    for page in (
        s3_client(s3)
        .get_paginator("list_objects_v2")
        .paginate(Bucket=bucket.name, PaginationConfig={"PageSize": 7})
    ):
        expected += page["Contents"]
    assert [
        (
            row["key"],
            row["size"],
            row["etag"],
            row["last_modified"].replace(microsecond=0),
            row["storage_class"],
        )
        for row in rows
    ] == [
        (
            o["Key"],
            o["Size"],
            o["ETag"].strip('"'),
            o["LastModified"].replace(microsecond=0),
            o["StorageClass"],
        )
        for o in expected
    ]
    assert [row["key"] for row in rows] == sorted([*KEYS, "sized"], key=str.encode)


async def test_ranges_of_keys_are_an_exact_partition_on_real_servers(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3)
    await fill(bucket, KEYS)
    draw = random.Random(3)
    for _ in range(5):
        candidates = [*KEYS, "a", "a/", "zzz", "a/0010x", "！！", "b/\U0010ffff"]
        bounds = sorted(draw.sample(candidates, 4), key=str.encode)
        parts = [
            await keys_of(bucket, start_after=a, end_at=b)
            for a, b in zip(["", *bounds], [*bounds, None], strict=True)
        ]
        assert [key for part in parts for key in part] == sorted(KEYS, key=str.encode)
    assert await keys_of(bucket, "b/", start_after="b/0010", end_at="b/0012") == ["b/0011", "b/0012"]
    assert await keys_of(bucket, "nothing/") == []


async def test_common_prefixes_are_the_folders(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3)
    await fill(bucket, KEYS)
    assert await bucket.common_prefixes() == sorted(["a/", "b/", "zü/", "\U0001f600/"], key=str.encode)
    assert await bucket.common_prefixes("a/") == []


async def test_pages_of_a_real_server_go_on_to_the_end(minio: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(minio)
    keys = [f"k/{number:05d}" for number in range(2300)]
    await fill(bucket, keys)
    pages = [page async for page in bucket.list_pages()]
    assert [page.rows.num_rows for page in pages] == [1000, 1000, 300]
    assert await keys_of(bucket) == keys
    assert pages[0].last_key == "k/00999"
    assert all(page.is_exact for page in pages)


async def test_a_page_without_whole_proof_is_asked_again_and_then_an_error(open_bucket: OpenBucket) -> None:
    wrong = [
        Fault.TRUNCATED, Fault.TRUNCATED_AFTER_ENTRY, Fault.EMPTY, Fault.HTML, Fault.ERROR, Fault.NO_TOKEN,
        Fault.NO_TRUNCATED, Fault.WRONG_NAME, Fault.WRONG_COUNT, Fault.NO_COUNT, Fault.OTHER_PREFIX,
    ]  # fmt: skip
    keys = [f"p/{number:03d}" for number in range(25)]
    for fault in wrong:
        for after in (0, 1):
            async with start_stub(keys, page_size=10) as stub:
                bucket = await open_bucket(stub)
                stub.fail(fault, times=2, after=after)
                assert await keys_of(bucket, "p/") == keys, fault
                assert len(stub.requests) == 5
                stub.fail(fault, times=3, after=after)
                with pytest.raises(ListingError):
                    await keys_of(bucket, "p/")


@pytest.mark.parametrize("fault", [Fault.REPEATED, Fault.UNSORTED])
@pytest.mark.parametrize("after", [0, 1, 2])
async def test_keys_out_of_order_are_an_error(fault: Fault, after: int, open_bucket: OpenBucket) -> None:
    async with start_stub([f"p/{number:03d}" for number in range(25)], page_size=10) as stub:
        bucket = await open_bucket(stub)
        stub.fail(fault, after=after)
        with pytest.raises(ListingError, match="KeyCount" if fault is None else "not in order|KeyCount"):
            await keys_of(bucket)


async def test_a_page_that_repeats_the_last_key_of_the_one_before_is_an_error(
    open_bucket: OpenBucket,
) -> None:
    async with start_stub([f"p/{number:03d}" for number in range(25)], page_size=10) as stub:
        bucket = await open_bucket(stub)
        stub.fail(Fault.REPEATED_PAGE, after=1)
        with pytest.raises(ListingError, match="listed twice"):
            await keys_of(bucket)


async def test_a_token_that_comes_back_is_an_error_and_no_endless_loop(open_bucket: OpenBucket) -> None:
    async with start_stub([f"p/{number:03d}" for number in range(25)], page_size=10) as stub:
        bucket = await open_bucket(stub)
        stub.fail(Fault.SAME_TOKEN, times=3, after=1)
        with pytest.raises(ListingError, match="same token"):
            await keys_of(bucket)


async def test_a_token_at_the_end_is_an_error(open_bucket: OpenBucket) -> None:
    async with start_stub(["a"]) as stub:
        bucket = await open_bucket(stub)
        stub.fail(Fault.TOKEN_AT_END, times=3)
        with pytest.raises(ListingError, match="not truncated"):
            await keys_of(bucket)


async def test_a_server_that_ignores_start_after_is_an_error(open_bucket: OpenBucket) -> None:
    async with start_stub(["a", "b", "c"]) as stub:
        stub.honours_start_after = False
        bucket = await open_bucket(stub)
        with pytest.raises(ListingError, match="comes after 'b'"):
            await keys_of(bucket, start_after="b")


async def test_a_connection_cut_for_good_is_an_error(open_bucket: OpenBucket) -> None:
    async with start_stub(["a", "b"]) as stub:
        bucket = await open_bucket(stub)
        stub.fail(Fault.CUT, times=5)
        with pytest.raises(StoreError, match="no whole answer"):
            await keys_of(bucket)


async def test_without_a_date_no_age_can_be_told(open_bucket: OpenBucket) -> None:
    async with start_stub(["a"]) as stub:
        bucket = await open_bucket(stub)
        stub.fail(Fault.NO_DATE, times=2)
        with pytest.raises(StoreError, match="no Date"):
            await bucket.server_time()
        with pytest.raises(StoreError, match="no Date"):
            await keys_of(bucket)


async def test_keys_that_are_not_utf_8_are_listed_under_names_of_their_own(open_bucket: OpenBucket) -> None:
    raw = [
        b"a\xff",
        b"a\xfe",
        b"a",
        "a\ufffd".encode(),
        (INVALID_UTF8 + "a%FF").encode(),
        b"\xed\xa0\x80",
        b"z",
    ]
    async with start_stub(raw) as stub:
        bucket = await open_bucket(stub)
        listed = await keys_of(bucket)
        assert [key_bytes(key) for key in listed] == sorted(raw)
        assert len(set(listed)) == len(raw)
        for bad in listed:
            if bad.startswith(INVALID_UTF8):
                with pytest.raises(StoreError, match="never touched"):
                    await bucket.delete(bad)


async def test_odd_keys_are_listed_exactly_in_ranges(open_bucket: OpenBucket) -> None:
    keys = [
        "/lead",
        "//",
        "a//b",
        "./a",
        "..",
        "a/",
        "+",
        "%2F",
        " ",
        "a b",
        "\n",
        "\r\n",
        "\x01",
        "\x7f",
        "e\u0301",
        "\u00e9",
        "&<>",
    ]
    async with start_stub(keys, page_size=3) as stub:
        bucket = await open_bucket(stub)
        ordered = sorted(keys, key=str.encode)
        assert await keys_of(bucket) == ordered
        for bound in [*keys, "0", "zz"]:
            before = await keys_of(bucket, end_at=bound)
            assert before + await keys_of(bucket, start_after=bound) == ordered
            assert all(key.encode() <= bound.encode() for key in before)


async def test_a_store_that_replaces_characters_does_not_end_a_range_early(open_bucket: OpenBucket) -> None:
    # Without encoding-type=url a key that is not text is shown with U+FFFD, which sorts after where the key really is.
    raw = [b"a\x80", b"a\x81", b"ab", b"ac", b"b"]
    raw_sorted = sorted(raw)
    async with start_stub(raw, echo_encoding=False) as stub:
        stub.keys = [b"a\x80", b"a\x81", *[k for k in raw_sorted if k not in (b"a\x80", b"a\x81")]]
        stub.render()
        bucket = await open_bucket(stub)
        listed = await keys_of(bucket, end_at="ab")
        assert listed == ["a\ufffd", "a\ufffd", "ab"]
        assert [page.is_exact async for page in bucket.list_pages()] == [False]


async def test_versions_that_are_not_whole_are_an_error(open_bucket: OpenBucket) -> None:
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        name = f"<Name>{stub.bucket}</Name>"
        for body in (
            b"",
            b"<html/>",
            b"<ListVersionsResult><Name>other</Name><IsTruncated>false</IsTruncated></ListVersionsResult>",
            f"<ListVersionsResult>{name}</ListVersionsResult>".encode(),
            f"<ListVersionsResult>{name}<IsTruncated>true</IsTruncated></ListVersionsResult>".encode(),
        ):
            stub.answer(200, body=body)
            with pytest.raises(ListingError, match="not whole"):
                await bucket.versions("k")


async def test_versions_that_repeat_at_a_pages_edge_or_come_in_groups_are_put_right(
    open_bucket: OpenBucket,
) -> None:
    def version(kind: str, version_id: str, second: int, latest: bool = False) -> str:
        return (
            f"<{kind}><Key>k</Key><VersionId>{version_id}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"
            f"<LastModified>2026-07-01T00:00:{second:02d}Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size></{kind}>"
        )

    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        name = f"<ListVersionsResult><Name>{stub.bucket}</Name>"
        first = version("Version", "v3", 30) + version("Version", "v1", 10)
        second = version("Version", "v1", 10) + version("DeleteMarker", "m4", 40, latest=True)
        second += version("DeleteMarker", "m2", 20) + "<Version><Key>k2</Key></Version>"
        more = "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
        more += "<NextVersionIdMarker>v1</NextVersionIdMarker>"
        stub.answer(200, body=f"{name}{more}{first}</ListVersionsResult>".encode())
        stub.answer(200, body=f"{name}<IsTruncated>true</IsTruncated>{second}</ListVersionsResult>".encode())
        assert [v.version_id for v in await bucket.versions("k")] == ["m4", "v3", "m2", "v1"]


async def test_a_missing_object_in_a_missing_bucket_is_not_taken_for_deleted(
    s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3, name="there-is-no-such-bucket")
    with pytest.raises(S3GCError, match="does not exist"):
        await bucket.head("k")
    with pytest.raises(S3GCError, match="does not exist"):
        async with bucket.get("k"):
            pass
