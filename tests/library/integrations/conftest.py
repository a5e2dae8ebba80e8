"""A shop on real servers: a bucket in MinIO, users in PostgreSQL, posts in MariaDB, and the application before them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncmy
import asyncpg
import pytest
from tests.library.integrations.serving import Served
from tests.testbed.services import Database, S3Server, let_time_pass, make_bucket, s3_client


@dataclass
class Shop:
    """`referenced` are named by rows of two databases, `orphans` by none."""

    s3: S3Server
    bucket: str
    sources: list[dict[str, Any]]
    referenced: tuple[str, ...]
    orphans: tuple[str, ...]

    def keys(self) -> set[str]:
        pages = s3_client(self.s3).get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        found = {item["Key"] for page in pages for item in page.get("Contents", ())}
        return {key for key in found if not key.startswith(".s3gc/")}

    def put_orphans(self, count: int, prefix: str = "more") -> None:
        client = s3_client(self.s3)
        for number in range(count):
            client.put_object(Bucket=self.bucket, Key=f"{prefix}/{number:05d}.bin", Body=b"x" * 100)
        let_time_pass(self.s3, self.bucket)

    def policy(self, vault: Path, **changes: Any) -> dict[str, Any]:
        return {
            "bucket": self.bucket,
            "endpoint_url": self.s3.endpoint,
            "sources": self.sources,
            "vault_path": str(vault),
            "retention_days": 0,
            "limits": {"maxDeletePercent": 90},
            **changes,
        }


async def _users(dsn: str, keys: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE users (id int PRIMARY KEY, avatar_url text)")
        await connection.executemany("INSERT INTO users VALUES ($1, $2)", list(enumerate(keys)))
    finally:
        await connection.close()


async def _posts(server: Database, dsn: str, keys: tuple[str, ...]) -> None:
    connection = await asyncmy.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        db=dsn.rpartition("/")[2],
        autocommit=True,
    )
    try:
        async with connection.cursor() as cursor:
            await cursor.execute("CREATE TABLE posts (id int PRIMARY KEY, image varchar(200))")
            await cursor.executemany("INSERT INTO posts VALUES (%s, %s)", list(enumerate(keys)))
    finally:
        await connection.ensure_closed()


@pytest.fixture
def make_shop_async(minio: S3Server, postgres: Any, mariadb: Any) -> Callable[..., Awaitable[Shop]]:
    """``await make_shop_async(orphans=4)``: a new bucket and new databases."""

    async def make(orphans: int = 4) -> Shop:
        bucket = make_bucket(minio, versioning=True)
        users = tuple(f"avatars/{number}.jpg" for number in range(4))
        posts = tuple(f"posts/{number}.png" for number in range(3))
        left = tuple(f"left/{number:04d} <b>&.bin" for number in range(orphans))
        client = s3_client(minio)
        for key in (*users, *posts, *left):
            client.put_object(Bucket=bucket, Key=key, Body=key.encode() * 20)

        first, second = await postgres.fresh_database(), await mariadb.fresh_database()
        await _users(first, users)
        await _posts(mariadb, second, posts)
        sources = [
            {"name": "users", "url": first, "tables": [{"table": "users", "columns": ["avatar_url"]}]},
            {"name": "posts", "url": second, "tables": [{"table": "posts", "columns": ["image"]}]},
        ]
        let_time_pass(minio, bucket)
        return Shop(minio, bucket, sources, (*users, *posts), left)

    return make


@pytest.fixture
def make_shop(make_shop_async: Callable[..., Any]) -> Callable[..., Shop]:
    """``make_shop(orphans=4)``, where no loop runs."""
    return lambda orphans=4: asyncio.run(make_shop_async(orphans))


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """``serve(shop, policy, …)``: the application with this policy, started."""
    started: list[Served] = []

    def start(shop: Shop, policy: dict[str, Any], **how: Any) -> Served:
        environment = {
            **shop.s3.environment,
            "SERVED_POLICY": json.dumps(policy),
            **how.pop("environment", {}),
        }
        served = Served(tmp_path_factory.mktemp("served"), environment, **how)
        started.append(served)
        served.start()
        return served

    yield start
    for served in started:
        served.close()
