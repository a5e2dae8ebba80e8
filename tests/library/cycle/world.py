"""A small world for cycles: a bucket, a database, and the question whether a referenced object is missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncpg
from tests.testbed.s3servers import S3Server, make_bucket, s3_client

from s3gc import GCResult, create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state
from s3gc.config import S3GCConfig
from s3gc.results import Progress


@dataclass
class World:
    """Objects in one bucket, rows ``files(id, key, note)`` in one PostgreSQL database."""

    server: S3Server
    dsn: str
    vault: Path
    versioning: bool = True
    bucket: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)

    async def begin(self) -> World:
        self.bucket = make_bucket(self.server, versioning=self.versioning)
        await self.execute("create table files(id bigserial primary key, key text, note text)")
        return self

    @cached_property
    def client(self) -> Any:
        return s3_client(self.server)

    def config(self, **changes: Any) -> S3GCConfig:
        values: dict[str, Any] = {
            "bucket": self.bucket,
            "endpoint_url": self.server.endpoint,
            "path_style": True,
            "tables": {"files": ["key"]},
            "database_url": self.dsn,
            "mode": "execute",
            "retention_days": 0,
            "limits": {"max_delete_percent": None},
            "vault_path": str(self.vault),
            "barrier_timeout_seconds": 20,
        }
        return create_config(**{**values, **changes})

    async def execute(self, sql: str, *arguments: object) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()

    async def reference(self, keys: Iterable[str]) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.executemany("insert into files(key) values ($1)", [(key,) for key in keys])
        finally:
            await connection.close()

    async def referenced(self) -> set[str]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return {row[0] for row in await connection.fetch("select key from files where key is not null")}
        finally:
            await connection.close()

    async def upload(self, bodies: dict[str, bytes], **headers: Any) -> None:
        """Upload, and let the store's clock pass them: an object as young as the listing is never judged."""

        def put() -> None:
            client = self.client
            for key, body in bodies.items():
                client.put_object(Bucket=self.bucket, Key=key, Body=body, **headers)

        await asyncio.to_thread(put)
        self.bodies.update(bodies)
        await asyncio.sleep(2.1 - time.time() % 1)

    def present(self) -> dict[str, bytes]:
        """Every object that is visible now, with its bytes; not ours under ``.s3gc/``."""
        client, found = self.client, {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for item in page.get("Contents", []):
                if not item["Key"].startswith(".s3gc/"):
                    found[item["Key"]] = client.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read()
        return found

    async def run(self, config: S3GCConfig | None = None, **options: Any) -> GCResult:
        chosen = config or self.config()
        state = await initialize_gc_state(chosen)
        try:
            return await run_gc_cycle(chosen, state, **options)
        finally:
            await shutdown_gc_state(state)


class AtPhase:
    """A progress callback that starts `action` once, when `phase` is first told, and waits for nothing."""

    def __init__(self, phase: str, action: Any) -> None:
        self.phase, self.action = phase, action
        self.task: asyncio.Task[None] | None = None
        self.phases: list[str] = []

    def __call__(self, progress: Progress) -> None:
        self.phases.append(progress.phase)
        if progress.phase == self.phase and self.task is None:
            self.task = asyncio.ensure_future(self.action())
