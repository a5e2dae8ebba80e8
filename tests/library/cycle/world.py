"""A small world for cycles: a bucket, a database, and the question whether a referenced object is missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.rows import COLUMN, PostgresRows, Rows
from tests.testbed.s3servers import S3Server, make_bucket, s3_client

from s3gc import GCResult, create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state
from s3gc.config import S3GCConfig
from s3gc.results import Progress


@dataclass
class World:
    """Objects in one bucket, and rows ``files(id, key, note)`` that reference them in one database.

    `database` is an empty PostgreSQL database, or rows that are there already.
    """

    server: S3Server
    database: str | Rows
    vault: Path
    versioning: bool = True
    bucket: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)

    async def begin(self) -> World:
        self.bucket = make_bucket(self.server, versioning=self.versioning)
        if isinstance(self.database, str):
            self.database = PostgresRows(self.database)
            await self.database.begin()
        return self

    @property
    def rows(self) -> Rows:
        assert not isinstance(self.database, str), "the world has not begun"
        return self.database

    @property
    def dsn(self) -> str:
        return self.rows.url

    @cached_property
    def client(self) -> Any:
        return s3_client(self.server)

    def keywords(self, **changes: Any) -> dict[str, Any]:
        """Of `create_config`: everything in reach of deletion at once, and no percentage in the way."""
        values: dict[str, Any] = {
            "bucket": self.bucket,
            "endpoint_url": self.server.endpoint,
            "path_style": True,
            "tables": {"files": [COLUMN]},
            "database_url": self.rows.url,
            "mode": "execute",
            "retention_days": 0,
            "limits": {"max_delete_percent": None},
            "vault_path": str(self.vault),
            "barrier_timeout_seconds": 20,
        }
        return {**values, **changes}

    def config(self, **changes: Any) -> S3GCConfig:
        return create_config(**self.keywords(**changes))

    async def execute(self, statement: str, *arguments: object) -> None:
        await self.rows.execute(statement, *arguments)

    async def reference(self, keys: Iterable[str]) -> None:
        await self.rows.insert(keys)

    async def referenced(self) -> set[str]:
        return set(await self.rows.keys())

    async def upload(self, bodies: dict[str, bytes], **headers: Any) -> None:
        """Upload, and let the store's clock pass them: an object as young as the listing is never judged."""

        def put() -> None:
            client = self.client
            for key, body in bodies.items():
                client.put_object(Bucket=self.bucket, Key=key, Body=body, **headers)

        await asyncio.to_thread(put)
        self.bodies.update(bodies)
        await self.age()

    async def age(self) -> None:
        """Wait until the store's clock shows a later second than that of everything uploaded so far."""
        behind = 1.0 if self.server.name == "versitygw" else 0.0  # its Date header is up to a second old
        await asyncio.sleep(1.05 - time.time() % 1 + behind)

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


def before_drain(
    monkeypatch: pytest.MonkeyPatch, capture: Any, number: int, action: Callable[[], Awaitable[Any]]
) -> None:
    """Run `action` just before the drain of this number, from 1, of a kind of capture (PostgreSQL's first is in `open`)."""
    drain, count = capture.drain, 0

    async def counted(self: Any) -> AsyncIterator[Any]:
        nonlocal count
        count += 1
        if count == number:
            await action()
        async for batch in drain(self):
            yield batch

    monkeypatch.setattr(capture, "drain", counted)


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
