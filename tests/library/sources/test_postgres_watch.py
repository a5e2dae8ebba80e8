"""Whom PostgreSQL's barrier waits for, what changes the fingerprint, and what must not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.library.sources.helpers import pg, pg_role, source_of
from tests.testbed.services import Postgres


@pytest.fixture
async def url(postgres: Postgres) -> str:
    url = await postgres.fresh_database()
    await pg(
        url,
        "CREATE TABLE t (k text, at int) PARTITION BY RANGE (at)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE other (k text)",
        "CREATE VIEW v AS SELECT k FROM t",
        "INSERT INTO t VALUES ('a', 1)",
    )
    return url


@pytest.fixture
async def writer(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"application_name": "shop-web"})
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO t VALUES ('b', 2)", "INSERT INTO t_1 VALUES ('b', 2)", "UPDATE t SET k = 'c'", "DELETE FROM t",
     "COPY t FROM PROGRAM 'printf b'' ''2' (DELIMITER ' ')", "TRUNCATE t",
     "CREATE TABLE t_2 (k text, at int); INSERT INTO t_2 VALUES ('z', 11); "
     "ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (10) TO (20)"],
)  # fmt: skip
async def test_the_barrier_waits_for_an_open_writer_and_names_it(
    url: str, writer: asyncpg.Connection, statement: str
) -> None:
    role = await pg_role(url, "s3gc_select", "GRANT SELECT ON t TO {role}")
    async with source_of(role, table="t", columns=["k"]) as source:
        await source.preflight(execute=True)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(statement)
        result = await source.barrier(0.3)
        assert not result.passed
        assert 0.3 <= result.waited_seconds < 3
        assert f"pid {writer.get_server_pid()}" in result.detail
        assert "shop-web" in result.detail
        waiting = asyncio.create_task(source.barrier(20))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await transaction.commit()
        result = await waiting
        assert result.passed
        assert result.waited_seconds >= 0.25


async def test_the_barrier_does_not_wait_for_readers_other_tables_or_those_who_begin_later(
    url: str, writer: asyncpg.Connection
) -> None:
    reader = await asyncpg.connect(url)
    await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await reader.fetch("SELECT * FROM t")
    await reader.fetch("SELECT * FROM t FOR UPDATE")
    elsewhere = await asyncpg.connect(url)
    await elsewhere.execute("BEGIN; INSERT INTO other VALUES ('x')")
    async with source_of(url, table="t", columns=["k"]) as source:
        assert (await source.barrier(2)).passed
        first = writer.transaction()
        await first.start()
        await writer.execute("INSERT INTO t VALUES ('b', 2)")
        waiting = asyncio.create_task(source.barrier(20))
        await asyncio.sleep(0.3)
        later = await asyncpg.connect(url)
        await later.execute("BEGIN; INSERT INTO t VALUES ('c', 3)")
        await first.commit()
        assert (await waiting).passed
    for connection in (reader, elsewhere, later):
        await connection.close()


@pytest.mark.parametrize(
    "options", [{"table": "v", "columns": ["k"]}, {"queries": [{"name": "q", "sql": "select k from t"}]}]
)
async def test_with_views_and_queries_the_barrier_waits_for_writers_of_any_table(
    url: str, writer: asyncpg.Connection, options: dict[str, object]
) -> None:
    async with source_of(url, **options) as source:
        async with writer.transaction():
            await writer.execute("INSERT INTO other VALUES ('x')")
            assert not (await source.barrier(0.2)).passed
        assert (await source.barrier(2)).passed


async def test_the_barrier_waits_for_a_prepared_transaction_also_one_prepared_meanwhile(
    url: str, writer: asyncpg.Connection
) -> None:
    name = "p_" + url.rpartition("/")[2]
    async with source_of(url, table="t", columns=["k"]) as source:
        await writer.execute(f"BEGIN; INSERT INTO t VALUES ('b', 2); PREPARE TRANSACTION '{name}'")
        result = await source.barrier(0.2)
        assert not result.passed
        assert f"prepared transaction '{name}'" in result.detail
        await writer.execute(f"COMMIT PREPARED '{name}'")
        assert (await source.barrier(2)).passed

        await writer.execute("BEGIN; INSERT INTO t VALUES ('c', 3)")
        waiting = asyncio.create_task(source.barrier(20))
        await asyncio.sleep(0.3)
        await writer.execute(f"PREPARE TRANSACTION '{name}'")
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await writer.execute(f"ROLLBACK PREPARED '{name}'")
        assert (await waiting).passed


async def test_what_the_barrier_waited_for_is_visible_to_the_next_reading(url: str) -> None:
    async with source_of(url, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        await source.preflight(execute=True)
        for number in range(25):
            connection = await asyncpg.connect(url)
            await connection.execute(f"BEGIN; INSERT INTO t VALUES ('key-{number}', 5)")
            ending = asyncio.get_running_loop().create_task(_commit_soon(connection))
            assert (await source.barrier(20)).passed
            assert await source.referenced([f"key-{number}"]) == {f"key-{number}": "public.t.k"}
            await ending


async def _commit_soon(connection: asyncpg.Connection) -> None:
    await asyncio.sleep(0.02)
    await connection.execute("COMMIT")
    await connection.close()


async def test_the_fingerprint_changes_with_the_schema(url: str) -> None:
    await pg(
        url,
        "CREATE TABLE plain (k text, n int)",
        "CREATE TABLE plain_new (k text, n int)",
        "CREATE TABLE parent (k text)",
    )
    tables = [{"table": name, "columns": ["k"]} for name in ("t", "plain", "v", "parent")]
    async with source_of(url, tables=tables) as source:
        before = await source.fingerprint()
        for change in (
            "ALTER TABLE plain ADD COLUMN x text DEFAULT 'd'", "ALTER TABLE plain RENAME COLUMN x TO y", "ALTER TABLE plain DROP COLUMN y",
            "ALTER TABLE plain ALTER COLUMN n TYPE bigint USING n", "ALTER TABLE plain SET UNLOGGED",
            "CREATE TABLE t_2 (k text, at int)/*nothing yet*/", "ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (10) TO (20)",
            "ALTER TABLE t_2 RENAME COLUMN at TO at" if False else "ALTER TABLE t DETACH PARTITION t_2",
            "CREATE TABLE child () INHERITS (parent)",
            "CREATE OR REPLACE VIEW v AS SELECT k FROM t WHERE at > 0",
            "ALTER TABLE plain ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE plain RENAME TO plain_old; ALTER TABLE plain_new RENAME TO plain",
            "DROP TABLE plain_old",
        ):  # fmt: skip
            await pg(url, change)
            after = await source.fingerprint()
            assert (after != before) == ("nothing yet" not in change), change
            before = after


async def test_the_fingerprint_does_not_change_with_data_maintenance_or_other_tables(url: str) -> None:
    queries = [{"name": "q", "sql": "select k from t_1"}]
    async with source_of(url, table="v", columns=["k"], queries=queries) as source:
        before = await source.fingerprint()
        for harmless in ("INSERT INTO t VALUES ('b', 2)", "VACUUM t", "ANALYZE t", "VACUUM FULL t", "REINDEX TABLE t", "TRUNCATE t",
                         "CREATE INDEX ON t (k)", "ALTER TABLE other ADD COLUMN x text", "CREATE TABLE unrelated (k text)",
                         "GRANT SELECT ON t TO PUBLIC", "CLUSTER t_1 USING t_1_k_idx", "COMMENT ON TABLE t IS 'x'"):  # fmt: skip
            await pg(url, harmless)
            assert await source.fingerprint() == before, harmless


async def test_a_query_s_tables_are_part_of_the_fingerprint_also_behind_a_view(url: str) -> None:
    async with source_of(
        url, queries=[{"name": "q", "sql": 'with x as (select k from "v") select k from x'}]
    ) as source:
        before = await source.fingerprint()
        await pg(url, "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20)")
        assert await source.fingerprint() != before


async def test_a_where_that_reads_other_tables_makes_their_writers_count(url: str) -> None:
    """Who lets a tenant back in makes all of its rows references, and writes none of them."""
    await pg(
        url,
        "CREATE TABLE files (k text, tenant int)",
        "CREATE TABLE tenants (id int, active bool)",
        "INSERT INTO tenants VALUES (1)",
    )
    where = "tenant IN (SELECT id FROM tenants WHERE active)"
    async with source_of(url, table="files", columns=["k"], where=where) as source:
        await source.preflight(execute=True)
        before = await source.fingerprint()
        writer = await asyncpg.connect(url)
        async with writer.transaction():
            await writer.execute("UPDATE tenants SET active = true")
            assert not (await source.barrier(0.2)).passed
        assert (await source.barrier(2)).passed
        await writer.close()
        await pg(url, "ALTER TABLE tenants ADD COLUMN name text")
        assert await source.fingerprint() != before
