"""Buckets opened as callers open them, against real servers and the stub; every one is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.stub.server import Stub
from tests.testbed.services import S3Server, make_bucket

from s3gc.store.bucket import Bucket, RetryPolicy

FAST = RetryPolicy(attempts=5, first_wait_seconds=0.01, longest_wait_seconds=0.05)

OpenBucket = Callable[..., Awaitable[Bucket]]


@pytest.fixture
async def open_bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenBucket]:
    """``await open_bucket(server, versioning=False, lock=False, **options)`` on a new bucket, or on a stub's."""
    opened: list[Bucket] = []

    async def open_it(
        server: S3Server | Stub,
        *,
        versioning: bool = False,
        lock: bool = False,
        name: str | None = None,
        **options: Any,
    ) -> Bucket:
        if isinstance(server, Stub):
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stub")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stub")
            name = name or server.bucket
        else:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
            name = name or make_bucket(server, versioning=versioning, lock=lock)
        options.setdefault("retry", FAST)
        bucket = await Bucket.open(name, endpoint_url=server.endpoint, **options)
        opened.append(bucket)
        return bucket

    yield open_it
    for bucket in opened:
        await bucket.close()
