"""What is repeated, how often, how patiently, and what is never sent twice or followed."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.library.store.conftest import OpenBucket
from tests.stub.server import Fault, Stub, error, start_stub

from s3gc.exceptions import ConfigurationError, StoreError, ThrottledError


async def _page_keys(bucket: object) -> list[str]:
    return [key async for page in bucket.list_pages() for key in page.rows.column("key").to_pylist()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.SLOW_DOWN, Fault.INTERNAL, Fault.CUT])
async def test_reads_are_repeated(fault: Fault, open_bucket: OpenBucket) -> None:
    async with start_stub(["a", "b"]) as stub:
        bucket = await open_bucket(stub)
        stub.fail(fault, times=3)
        assert await _page_keys(bucket) == ["a", "b"]
        assert bucket.requests["ListObjectsV2"] == len(stub.requests) == 4


async def test_a_server_that_does_not_answer_is_given_up_in_time(open_bucket: OpenBucket) -> None:
    async with start_stub(["a"]) as stub:
        bucket = await open_bucket(stub, timeout_seconds=0.2)
        stub.fail(Fault.HANG, times=5)
        started = time.monotonic()
        with pytest.raises(StoreError, match="no whole answer"):
            await bucket.server_time()
        assert time.monotonic() - started < 30
        assert len(stub.requests) == 5


async def test_lasting_slow_down_is_said_and_narrows_the_window(open_bucket: OpenBucket) -> None:
    async with start_stub(["a"]) as stub:
        bucket = await open_bucket(stub, concurrency=32)
        stub.fail(Fault.SLOW_DOWN, times=5)
        with pytest.raises(ThrottledError, match="requests_per_second"):
            await bucket.server_time()
        assert bucket._transport.limiter.window == 16
        assert await bucket.server_time()


async def test_what_can_be_sent_again_is_and_a_stream_is_not(open_bucket: OpenBucket) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"abc"

    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        for body in (b"abc", once()):
            stub.requests.clear()
            stub.fail(Fault.DROP)
            assert await bucket.put("k", body, size=3) is not None
            assert [seen.body for seen in stub.requests] == [b"abc", b"abc"]
            digest = hashlib.sha256(b"abc").hexdigest()
            assert {seen.headers["x-amz-content-sha256"] for seen in stub.requests} == {digest}
        stub.requests.clear()
        stub.fail(Fault.DROP)
        with pytest.raises(StoreError):
            await bucket.put("k", once(), size=3, sha256=digest)
        assert [seen.headers["x-amz-content-sha256"] for seen in stub.requests] == [digest]


async def test_a_big_body_is_sent_whole_again(open_bucket: OpenBucket) -> None:
    data = bytes(range(256)) * 4096
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        stub.fail(Fault.INTERNAL)
        assert await bucket.put("k", data, size=len(data)) is not None
        assert [seen.body == data for seen in stub.requests] == [True, True]


async def test_a_conflict_of_a_conditional_create_is_tried_again(open_bucket: OpenBucket) -> None:
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        stub.answer(409, body=error("ConditionalRequestConflict"))
        assert await bucket.put("k", b"a", size=1, create_only=True) is not None
        assert await bucket.put("k", b"a", size=1, create_only=True) is None


async def test_completing_an_upload_is_repeated_only_after_a_refusal(open_bucket: OpenBucket) -> None:
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        done = b"<CompleteMultipartUploadResult><ETag>&quot;e-1&quot;</ETag></CompleteMultipartUploadResult>"
        stub.answer(503, body=error("SlowDown"))
        stub.answer(200, body=done)
        answer = await bucket.complete_multipart("k", "u", [(1, "e")])
        assert answer is not None
        assert answer.etag == "e-1"
        stub.fail(Fault.DROP)
        with pytest.raises(StoreError):
            await bucket.complete_multipart("k", "u", [(1, "e")])
        stub.answer(200, body=error("InternalError"))
        with pytest.raises(StoreError, match="InternalError"):
            await bucket.complete_multipart("k", "u", [(1, "e")])
        stub.answer(200, body=error("PreconditionFailed"))
        assert await bucket.complete_multipart("k", "u", [(1, "e")], create_only=True) is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_never_followed(status: int, open_bucket: OpenBucket) -> None:
    async with start_stub() as other, start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        target = {"Location": f"{other.endpoint}/x"}
        stub.answer(status, headers=target, body=error("TemporaryRedirect"), times=3)
        for call in (bucket.delete("k"), bucket.head("k"), bucket.server_time()):
            with pytest.raises(ConfigurationError, match="never followed"):
                await call
        assert other.requests == []
        assert len(stub.requests) == 3


async def test_a_wrong_clock_is_corrected_once_from_the_stores_own_time(open_bucket: OpenBucket) -> None:
    async with start_stub(["a"]) as stub:
        stub.clock_offset = timedelta(hours=5)
        bucket = await open_bucket(stub)
        stub.answer(403, body=error("RequestTimeTooSkewed"))
        await bucket.server_time()
        first, second = (seen.headers["x-amz-date"] for seen in stub.requests)
        assert first != second
        assert second[:8] + second[9:11] == stub.now().strftime("%Y%m%d%H")
        await bucket.head("a")
        assert stub.requests[-1].headers["x-amz-date"][9:11] == second[9:11]  # and kept
        stub.answer(403, body=error("RequestTimeTooSkewed"), times=2)
        with pytest.raises(ConfigurationError, match="set this machine's clock"):
            await bucket.server_time()


async def test_a_head_denied_because_of_the_clock_is_understood_without_a_body(
    open_bucket: OpenBucket,
) -> None:
    async with start_stub(["a"]) as stub:
        stub.objects["a"] = (b"x", {})
        stub.clock_offset = timedelta(hours=-3)
        bucket = await open_bucket(stub)
        stub.answer(403, method="HEAD")
        assert await bucket.head("a") is not None
        assert len(stub.requests) == 2


async def test_a_download_cut_short_is_an_error_and_never_a_shorter_object(open_bucket: OpenBucket) -> None:
    async with start_stub() as stub:
        stub.objects["k"] = (b"x" * 100_000, {})
        bucket = await open_bucket(stub)
        stub.fail(Fault.CUT)
        async with bucket.get("k") as download:
            assert download is not None
            with pytest.raises(StoreError, match=r"ended after \d+ of 200000 bytes"):
                [chunk async for chunk in download.chunks]


async def test_conditions_are_signed_so_that_no_proxy_can_drop_them(open_bucket: OpenBucket) -> None:
    async with start_stub(["k"]) as stub:
        bucket = await open_bucket(stub)
        await bucket.delete("k", if_match="e")
        await bucket.put("k", b"", size=0, create_only=True)
        for seen, header in zip(stub.requests, ("if-match", "if-none-match"), strict=True):
            assert header in seen.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[
                0
            ].split(";")


async def test_odd_keys_are_on_the_wire_as_they_are(open_bucket: OpenBucket) -> None:
    async with start_stub() as stub:
        bucket = await open_bucket(stub)
        for key in ("/lead", "a//b", "./a", "a/../b", "..", "a/", "%2F", "a+b"):
            await bucket.head(key)
        assert [seen.target for seen in stub.requests if seen.method == "HEAD"] == [
            f"/{stub.bucket}/{path}"
            for path in ("/lead", "a//b", "./a", "a/../b", "..", "a/", "%252F", "a%2Bb")
        ]


async def test_the_budget_of_requests_a_second_holds_over_all_callers(open_bucket: OpenBucket) -> None:
    async with start_stub(["a"]) as stub:
        bucket = await open_bucket(stub, requests_per_second=50)
        started = time.monotonic()
        await asyncio.gather(*(bucket.head("a") for _ in range(26)))
        assert time.monotonic() - started >= 0.48


async def test_reading_one_object_while_writing_another_never_waits_for_itself(
    open_bucket: OpenBucket,
) -> None:
    async with start_stub() as stub:
        stub.objects["k"] = (b"x" * 1_000_000, {})
        bucket = await open_bucket(stub, concurrency=1)

        async def copy(number: int) -> None:
            async with bucket.get("k") as download:
                assert download is not None
                assert await bucket.put(f"copy-{number}", download.chunks, size=1_000_000) is not None

        await asyncio.wait_for(asyncio.gather(*(copy(number) for number in range(8))), 20)


async def test_an_endpoint_that_never_answered_is_said_in_seconds(open_bucket: OpenBucket) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stub = Stub([], endpoint=f"http://127.0.0.1:{port}")
    bucket = await open_bucket(stub)
    with pytest.raises(StoreError, match=r"cannot be reached.*Check the endpoint"):
        await bucket.server_time()


async def test_an_endpoint_that_goes_down_later_is_a_failure_that_may_pass(open_bucket: OpenBucket) -> None:
    async with start_stub(["a"]) as stub:
        bucket = await open_bucket(stub)
        await bucket.server_time()
        await bucket.close()
        bucket = await open_bucket(stub)
        bucket._transport.has_answered = True
    with pytest.raises(StoreError, match="answered before"):
        await bucket.server_time()
