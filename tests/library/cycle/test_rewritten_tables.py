"""Tables that are emptied and filled again, or swapped, while s3gc reads them: what a snapshot shows then is not true.

TRUNCATE is not MVCC-safe in PostgreSQL, and a table that was swapped into the place of another is read under a snapshot
that is older than its rows. Both read as empty, without any error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.library.cycle.rows import MariaRows, PostgresRows
from tests.library.cycle.world import World
from tests.library.sources.helpers import source_of
from tests.testbed.services import MariaDB, Postgres, S3Server

from s3gc.exceptions import SourceError
from s3gc.references.types import Snapshot
from s3gc.sweep.verify import Verifier

KEYS = [f"uploads/{number:03d}.bin" for number in range(20)]
BODIES = {key: key.encode() for key in KEYS}


@pytest.mark.parametrize("form", ["auto", "key"])
async def test_a_table_that_is_reloaded_all_the_time_loses_nothing(
    minio: S3Server, postgres: Postgres, credentials: Callable[[S3Server], None], tmp_path: Path, form: str
) -> None:
    credentials(minio)
    world = await World(minio, await PostgresRows.fresh(postgres), tmp_path / "vault").begin()
    await world.upload(BODIES)
    await world.reference(KEYS[:15])
    await world.execute("create table other as select key from files")
    await world.execute("update other set key = ?", KEYS[15])
    stop = asyncio.Event()

    async def reload() -> None:
        writer, watcher = await asyncpg.connect(world.dsn), await asyncpg.connect(world.dsn)
        await writer.execute("create temp table kept as select * from files")
        while not stop.is_set():
            async with writer.transaction():
                await writer.execute("truncate files; insert into files select * from kept")
                # Committed as soon as somebody waits for the table: a snapshot from before is open then.
                while not stop.is_set() and not await watcher.fetchval(
                    "select exists(select from pg_locks where not granted)"
                ):
                    await asyncio.sleep(0.01)
        await writer.close()
        await watcher.close()

    tables = [{"table": name, "columns": [{"name": "key", "format": form}]} for name in ("files", "other")]
    config = world.config(
        tables={}, database_url=None, sources=[{"name": "shop", "url": world.dsn, "tables": tables}]
    )
    reloading = asyncio.ensure_future(reload())
    try:
        with contextlib.suppress(SourceError):
            await world.run(config)
    finally:
        stop.set()
        await reloading
    assert {key: world.present().get(key) for key in KEYS[:16]} == {key: BODIES[key] for key in KEYS[:16]}


class _SwappedAfterwards:
    """A source of which `swap` is run once, right after its next snapshot was opened."""

    def __init__(self, source: Any, swap: Callable[[], Any]) -> None:
        self._source, self._swap = source, swap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._source.snapshot() as snapshot:
            await self._swap()
            yield snapshot


async def test_a_table_that_is_swapped_while_it_is_asked_is_no_answer(mariadb: MariaDB) -> None:
    rows = await MariaRows.fresh(mariadb)
    await rows.insert(KEYS)
    await asyncio.sleep(1.1)  # tables made within one second have one identity
    await rows.execute("create table fresh like files")

    async def swap() -> None:
        await rows.execute("insert into fresh select * from files")
        await rows.execute("rename table files to old, fresh to files")

    async with source_of(rows.url, table="files", columns=["key"]) as source:
        preflight = await source.preflight(execute=True)
        verifier = await Verifier.begin([(_SwappedAfterwards(source, swap), preflight)])  # type: ignore[list-item]
        with pytest.raises(SourceError, match="changed while it was asked"):
            await verifier.referenced(KEYS)
