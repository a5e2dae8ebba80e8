"""The stub is checked against the real servers: what it says by default is what they say."""

from __future__ import annotations

from tests.library.store.conftest import OpenBucket
from tests.stub.server import start_stub
from tests.testbed.services import S3Server

from s3gc.store.bucket import Bucket

KEYS = ["a/1", "a/2", "a+b c", "b/ü/1", "b/ü/2", "top", "x%2Fy"]


async def _observe(bucket: Bucket) -> list[object]:
    async def keys(prefix: str = "", start_after: str = "", end_at: str | None = None) -> list[str]:
        pages = bucket.list_pages(prefix, start_after=start_after, end_at=end_at)
        return [key async for page in pages for key in page.rows.column("key").to_pylist()]

    head = await bucket.head("new")
    assert head is not None
    async with bucket.get("new") as download:
        assert download is not None
        content = b"".join([chunk async for chunk in download.chunks])
    async with bucket.get("missing") as missing:
        pass
    return [
        await keys(), await keys("a/"), await keys("b/", "b/ü/1"), await keys("", "a/", "top"), await keys("no"),
        await bucket.common_prefixes(), await bucket.common_prefixes("b/"),
        head.size, head.etag, head.headers.get("x-amz-meta-a"), content, missing,
        await bucket.put("new", b"x", size=1, create_only=True), await bucket.head("missing"),
        (await bucket.versioning()).status, (await bucket.lock_configuration()).enabled,
        (await bucket.delete("missing")).status,
    ]  # fmt: skip


async def test_the_stub_answers_as_real_servers_do(s3: S3Server, open_bucket: OpenBucket) -> None:
    real = await open_bucket(s3)
    for key in KEYS:
        await real.put(key, b"x", size=1)
    async with start_stub([*KEYS, "new"]) as stub:
        fake = await open_bucket(stub)
        for bucket in (real, fake):
            await bucket.put("new", b"abc", size=3, headers={"x-amz-meta-a": "b"})
        assert await _observe(fake) == await _observe(real)
