"""A world on either S3 server: a bucket, a vault in a folder, and a policy over both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.library.backup.support import World, open_world
from tests.testbed.services import S3Server


@pytest.fixture
async def world(
    s3: S3Server, make_bucket: Callable[..., str], credentials: Callable[[S3Server], None], tmp_path: Path
) -> AsyncIterator[World]:
    """An unversioned bucket on each server in turn."""
    credentials(s3)
    async with open_world(s3, make_bucket(s3), str(tmp_path / "vault")) as opened:
        yield opened


@pytest.fixture
async def versioned(
    s3: S3Server, make_bucket: Callable[..., str], credentials: Callable[[S3Server], None], tmp_path: Path
) -> AsyncIterator[World]:
    """A versioned bucket on each server in turn."""
    credentials(s3)
    async with open_world(s3, make_bucket(s3, versioning=True), str(tmp_path / "vault")) as opened:
        yield opened


@pytest.fixture
async def on_minio(
    minio: S3Server, make_bucket: Callable[..., str], credentials: Callable[[S3Server], None], tmp_path: Path
) -> AsyncIterator[World]:
    """An unversioned bucket on MinIO alone, for what does not depend on the server."""
    credentials(minio)
    async with open_world(minio, make_bucket(minio), str(tmp_path / "vault")) as opened:
        yield opened
