"""No connection, file descriptor or task stays behind, whatever ends a call."""

from __future__ import annotations

import asyncio
import gc
import os

import pytest
from tests.library.store.conftest import OpenBucket
from tests.stub.server import Fault, start_stub

from s3gc.exceptions import S3GCError


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def test_errors_cancellations_and_unread_downloads_leave_no_connection(open_bucket: OpenBucket) -> None:
    async with start_stub([f"k{n}" for n in range(50)], page_size=10) as stub:
        stub.objects["big"] = (b"x" * 5_000_000, {})
        before = descriptors()
        hasty = await open_bucket(stub, timeout_seconds=0.2)
        for fault in (Fault.CUT, Fault.DROP, Fault.HANG, Fault.SLOW_DOWN, Fault.TRUNCATED, Fault.HTML):
            stub.fail(fault, times=5)
            with pytest.raises(S3GCError):
                async for _ in hasty.list_pages():
                    pass
            stub._faults.clear()
        await hasty.close()
        bucket = await open_bucket(stub)
        for _ in range(20):
            async with bucket.get("big") as download:
                assert download is not None
                async for _ in download.chunks:
                    break  # the rest is never read
            pages = bucket.list_pages()
            await anext(pages)
            await pages.aclose()  # type: ignore[attr-defined]
            task = asyncio.create_task(bucket.head("big"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*(bucket.head("big") for _ in range(100)))
        assert bucket._transport.limiter.in_flight == 0
        await bucket.close()
        for _ in range(50):
            if stub.open_connections == 0:
                break
            await asyncio.sleep(0.05)
        assert stub.open_connections == 0
        assert descriptors() <= before + 1
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_connections_are_kept_and_used_again(open_bucket: OpenBucket) -> None:
    async with start_stub([f"k{n}" for n in range(500)], page_size=10) as stub:
        bucket = await open_bucket(stub)
        async for _ in bucket.list_pages():
            pass
        for _ in range(20):
            await bucket.head("missing")
            await bucket.put("a", b"b", size=1)
        assert stub.connections == 1
