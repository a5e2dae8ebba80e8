"""A reading of PostgreSQL is one snapshot, whole or an error, bounded in memory, and leaves nothing on the server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path

import asyncpg
import pytest
from tests.library.sources.helpers import pg, pg_role, read, samples, source_of
from tests.testbed import services
from tests.testbed.services import Home, Postgres

from s3gc.exceptions import SourceError


@pytest.fixture
async def url(postgres: Postgres) -> str:
    return await postgres.fresh_database()


async def test_a_row_that_moves_between_tables_while_they_are_read_is_seen(url: str) -> None:
    await pg(url, "CREATE TABLE a (k text)", "CREATE TABLE b (k text)", "INSERT INTO b VALUES ('moving')")
    queries = [{"name": "q", "sql": "select k from a union all select k from b"}]
    async with source_of(
        url, tables=[{"table": t, "columns": ["k"]} for t in "ab"], queries=queries
    ) as source:
        preflight = await source.preflight(execute=True)
        seen: list[object] = []
        async with source.snapshot() as snapshot:
            for column in preflight.columns:
                async for batch in snapshot.values(column):
                    seen += batch
                await pg(url, "INSERT INTO a SELECT k FROM b", "DELETE FROM b")
        assert seen == ["moving", "moving"]


async def test_rows_written_while_reading_belong_to_the_next_reading(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text)", "INSERT INTO t SELECT 'k' || i FROM generate_series(1, 50000) i")
    writer = await asyncpg.connect(url)
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await writer.execute("INSERT INTO t VALUES ($1)", f"new-{number}")
            await writer.execute("DELETE FROM t WHERE k = $1", f"k{number}")

    writing = asyncio.create_task(write())
    async with source_of(url, table="t", columns=["k"]) as source:
        for _ in range(5):
            found = (await read(source))["public.t.k"]
            assert len(found) in (50_000, 50_001)  # each insert is followed by a delete
    stop.set()
    await writing
    await writer.close()


async def test_the_table_may_be_written_and_vacuumed_but_a_migration_waits(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a')")
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        async with source.snapshot() as snapshot:
            assert [batch async for batch in snapshot.values(preflight.columns[0])] == [["a"]]
            await pg(url, "UPDATE t SET k = 'b'", "VACUUM t", "CREATE INDEX ON t (k)")
        assert (await read(source, preflight))["public.t.k"] == ["b"]


async def test_a_session_that_is_ended_half_way_is_an_error_and_no_short_read(url: str) -> None:
    await pg(
        url,
        "CREATE UNLOGGED TABLE t (k text)",
        "INSERT INTO t SELECT repeat('k', 90) FROM generate_series(1, 300000)",
    )
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        seen = 0
        with pytest.raises(SourceError):
            async with source.snapshot() as snapshot:
                async for batch in snapshot.values(preflight.columns[0], 1000):
                    if not seen:
                        await pg(
                            url,
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 's3gc'",
                        )
                    seen += len(batch)
        assert 0 < seen < 300_000
        assert len((await read(source, preflight))["public.t.k"]) == 300_000


async def test_a_server_that_crashes_half_way_is_an_error_and_no_short_read(testbed_home: Home) -> None:
    server = services.start_postgres(testbed_home, "crashing-" + uuid.uuid4().hex[:6])
    try:
        url = server.url
        await pg(
            url,
            "CREATE TABLE t (k text)",
            "INSERT INTO t SELECT repeat('k', 90) FROM generate_series(1, 300000)",
        )
        async with source_of(url, table="t", columns=["k"]) as source:
            preflight = await source.preflight(execute=True)
            seen = 0
            with pytest.raises(SourceError):
                async with source.snapshot() as snapshot:
                    async for batch in snapshot.values(preflight.columns[0], 1000):
                        if not seen:
                            await asyncio.to_thread(server.kill)
                        seen += len(batch)
            assert seen < 300_000
            with pytest.raises(SourceError, match="is it up"):
                await source.preflight(execute=True)
    finally:
        server.close()


async def test_a_statement_that_fails_after_some_rows_is_an_error(url: str) -> None:
    await pg(
        url,
        "CREATE UNLOGGED TABLE t (k text, n int)",
        "INSERT INTO t SELECT repeat('k', 90), 300000 - i FROM generate_series(1, 300000) i",
    )
    async with source_of(url, table="t", columns=["k"], where="1 / n >= 0") as source:
        preflight = await source.preflight(execute=True)
        with pytest.raises(SourceError, match="division by zero"):
            await read(source, preflight)


async def test_a_column_dropped_after_the_preflight_is_an_error(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text, n int)")
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        await pg(url, "ALTER TABLE t DROP COLUMN k")
        with pytest.raises(SourceError, match="schema changed after it was checked"):
            await read(source, preflight)


async def _until_sessions(url: str, user: str, expected: int, running: str = "%") -> None:
    """Wait until so many sessions of `user` are there whose last statement is like `running`."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(30):  # pg_sleep is longer
            while expected != await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND query LIKE $2", user, running
            ):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def test_readers_that_leave_are_cancelled_or_are_closed_leave_no_session(url: str) -> None:
    await pg(
        url,
        "CREATE UNLOGGED TABLE t (k text)",
        "INSERT INTO t SELECT repeat('k', 90) FROM generate_series(1, 300000)",
    )
    role = await pg_role(url, "s3gc_leaver", "GRANT SELECT ON t TO {role}")
    slow = [{"name": "slow", "sql": "select pg_sleep(60)::text"}]
    async with source_of(role, table="t", columns=["k"], queries=slow) as source:
        preflight = await source.preflight(execute=True)
        async with source.snapshot() as snapshot:
            async for _ in snapshot.values(preflight.columns[0], 1000):
                break
        await _until_sessions(url, "s3gc_leaver", 0)
        task = asyncio.create_task(read(source, preflight))
        await _until_sessions(url, "s3gc_leaver", 1, "%pg_sleep%")
        task.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await _until_sessions(url, "s3gc_leaver", 0)
        task = asyncio.create_task(read(source, preflight))
        await _until_sessions(url, "s3gc_leaver", 1, "%pg_sleep%")
        await source.close()
        async with asyncio.timeout(30):
            (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, SourceError)
        await _until_sessions(url, "s3gc_leaver", 0)


_READER = """
import asyncio, resource, sys, time
from s3gc.config import SourceConfig
from s3gc.references.sources import open_source
from s3gc.references.types import ReferenceRules

async def main(url):
    config = SourceConfig.model_validate({"url": url, "tables": [{"table": "t", "columns": ["k"]}]})
    source = await open_source(config, ReferenceRules(bucket="b"))
    preflight = await source.preflight(execute=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    rows = 0
    async with source.snapshot() as snapshot:
        async for batch in snapshot.values(preflight.columns[0]):
            rows += len(batch)
            if rows < 100_000:
                await asyncio.sleep(0.2)  # a reader that is slower than the server
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(rows, (after.ru_maxrss - before.ru_maxrss) // 1024, round(cpu / rows * 1e6, 2))
asyncio.run(main(sys.argv[1]))
"""


async def test_a_million_rows_are_read_in_bounded_memory(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text)",
             "INSERT INTO t SELECT 'uploads/2024/' || md5(i::text) || repeat('x', 150) FROM generate_series(1, 1000000) i")  # fmt: skip
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _READER, url],
        env={**os.environ, "PYTHONPATH": str(Path("operator").resolve())},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    rows, megabytes, microseconds = ran.stdout.split()
    assert int(rows) == 1_000_000
    assert int(megabytes) < 64, "200 MB came through"
    assert float(microseconds) < 10, "the aim is 1.5 on a quiet machine"
    print(ran.stdout)


async def test_exact_keys_are_asked_for_in_every_type(url: str) -> None:
    some = uuid.uuid4()
    await pg(
        url,
        "CREATE TABLE t (k text, v varchar(50), c char(20), i citext, b bytea, u uuid, n int, a text[], gone bool DEFAULT false)",
        "INSERT INTO t (k) VALUES ('k.jpg'), ('/lead.jpg'), ('rest.jpg'), (NULL)", "INSERT INTO t (v) VALUES ('v.jpg')",
        "INSERT INTO t (c) VALUES ('c.jpg')", "INSERT INTO t (i) VALUES ('I.jpg')", "INSERT INTO t (b) VALUES ('b.jpg'), ('\\x00ff')",
        f"INSERT INTO t (u) VALUES ('{some}')", "INSERT INTO t (n) VALUES (42)", "INSERT INTO t (a) VALUES (ARRAY['a,1.jpg', 'a2.jpg'])",
        "INSERT INTO t (k, gone) VALUES ('gone.jpg', true)",
    )  # fmt: skip
    columns = [{"name": name, "format": "key", "keyPrefixes": ["pre/"]} for name in "kvcibuna"]
    queries = [{"name": "q", "sql": "select lower(k) from t where not gone", "format": "key"}]
    expected = {"k.jpg", "lead.jpg", "v.jpg", "c.jpg", "I.jpg", "b.jpg", "00ff", str(some), "42", "a,1.jpg", "a2.jpg",
                "pre/rest.jpg", "rest.jpg", "pre/k.jpg"}  # fmt: skip
    async with source_of(url, table="t", columns=columns, where="not gone", queries=queries) as source:
        assert (await source.preflight(execute=True)).can_query
        asked = [
            *expected,
            "i.jpg",
            "K.jpg",
            "gone.jpg",
            str(some).upper(),
            "042",
            "a2",
            "jpg",
            "日本",
            "nul\0",
            "x" * 1024,
        ]
        assert set(await source.referenced(asked)) == expected
        assert (await source.referenced(["n/a", "pre/42"])) == {"pre/42": "public.t.n"}


async def test_what_is_read_and_what_is_asked_agree(url: str) -> None:
    """Every key that a scan of a `format: key` column yields is found by asking for it."""
    from s3gc.references.extract import extract

    await pg(url, "CREATE TABLE t (k text, c char(30), b bytea, a text[])")
    keys = ["a/b.jpg", "/x", "Größe.png", "q?x=1#y", "%41", "back\\slash", "tab\tx", "it''s"]
    for key in keys:
        await pg(
            url,
            f"INSERT INTO t VALUES (E'{key.replace(chr(92), chr(92) * 2)}', 'c{len(key)}', convert_to('b{key.replace(chr(92), '')}', 'UTF8'), ARRAY['a{len(key)}'])",
        )
    async with source_of(
        url, table="t", columns=[{"name": n, "format": "key", "keyPrefixes": ["p/"]} for n in "kcba"]
    ) as source:
        preflight = await source.preflight(execute=True)
        for column in preflight.columns:
            async with source.snapshot() as snapshot:
                async for batch in snapshot.values(column):
                    yielded = {
                        key for value in batch for key in extract(value, column.format, column.rules).keys
                    }
                    assert yielded
                    assert set(await source.referenced(sorted(yielded))) == yielded


async def test_a_source_with_another_format_says_why_it_cannot_be_asked(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text)")
    for columns, why in ((["k"], "public.t.k has format auto, not key"),
                         ([{"template": "x/{k}", "format": "key"}], "public.t:x/{k} is a template")):  # fmt: skip
        async with source_of(url, table="t", columns=columns) as source:
            preflight = await source.preflight(execute=True)
            assert (preflight.can_query, preflight.query_reason) == (False, why)
            with pytest.raises(SourceError, match="cannot be asked"):
                await source.referenced(["a"])


async def test_a_hundred_thousand_keys_are_asked_for_in_one_pass(url: str) -> None:
    await pg(
        url, "CREATE TABLE t (k text)", "INSERT INTO t SELECT 'k' || i FROM generate_series(1, 200000) i"
    )
    async with source_of(url, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        await source.preflight(execute=True)
        async with asyncio.timeout(30):  # a generic plan would take minutes
            found = await source.referenced([f"k{i}" for i in range(150_001, 250_001)])
    assert len(found) == 50_000


async def test_undeclared_columns_of_every_kind_are_sampled_once(url: str) -> None:
    await pg(
        url,
        "CREATE SCHEMA other",
        "CREATE TABLE users (id int, avatar text, bio text, prefs jsonb, tags text[], extra hstore, name citext, raw bytea, n numeric, u uuid, at timestamp)",
        "INSERT INTO users VALUES (1, 'a', 'bio/x.jpg', '{\"k\": 1}', '{t1}', 'k=>v', 'N', '\\x00ff', 1, gen_random_uuid(), now())",
        "CREATE TABLE other.logs (payload json, empty text)", "INSERT INTO other.logs VALUES ('{}')",
        "CREATE TABLE parts (k text, at int) PARTITION BY RANGE (at)", "CREATE TABLE parts_1 PARTITION OF parts DEFAULT",
        "INSERT INTO parts VALUES ('p', 1)", "CREATE VIEW seen AS SELECT bio FROM users",
        "CREATE TABLE hidden (k text)", "INSERT INTO hidden VALUES ('h')",
    )  # fmt: skip
    async with source_of(
        url,
        table="users",
        columns=["avatar", {"template": "x/{name}"}],
        ignore_columns=["public.users.bio", "hidden.*"],
    ) as source:
        found = await samples(source)
    assert found == {
        "public.users.prefs": ['{"k": 1}'], "public.users.tags": ["{t1}"], "public.users.extra": ['"k"=>"v"'],
        "public.users.name": ["N"], "public.users.raw": [b"\x00\xff"], "other.logs.payload": ["{}"], "public.parts.k": ["p"],
    }  # fmt: skip
    role = await pg_role(url, "s3gc_sampler", "GRANT SELECT ON users TO {role}")
    async with source_of(role, table="users", columns=["avatar"]) as source:
        preflight = await source.preflight(execute=True)
        assert any(
            "public.hidden" in warning and "cannot be sampled" in warning for warning in preflight.warnings
        )


@pytest.mark.parametrize("partitioned", [False, True])
async def test_a_handful_of_values_in_a_new_column_of_a_large_table_are_sampled(
    url: str, partitioned: bool
) -> None:
    if partitioned:
        await pg(url, "CREATE TABLE t (id int, k text, pad text) PARTITION BY RANGE (id)",
                 *(f"CREATE UNLOGGED TABLE t_{n} PARTITION OF t FOR VALUES FROM ({n * 100000}) TO ({n * 100000 + 100000})" for n in range(4)))  # fmt: skip
    else:
        await pg(url, "CREATE UNLOGGED TABLE t (id int, k text, pad text)")
    await pg(
        url,
        "INSERT INTO t SELECT i, 'k', repeat('x', 200) FROM generate_series(1, 390000) i",
        "ALTER TABLE t ADD COLUMN late text, ADD COLUMN common text DEFAULT 'c'",
        "UPDATE t SET late = 'in-the-middle' WHERE id = 200000",
        "INSERT INTO t (id, late) VALUES (390001, 'newest')",
        "ANALYZE t",
    )
    async with source_of(url, table="t", columns=["k"], ignore_columns=["t.pad"]) as source:
        async with asyncio.timeout(60):
            found = await samples(source, 200)
    assert set(found["public.t.late"]) == {"in-the-middle", "newest"}
    assert found["public.t.common"] == ["c"]


async def test_a_sample_that_takes_too_long_is_given_up_with_a_word_in_the_log(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await pg(
        url,
        "CREATE UNLOGGED TABLE t (k text, sparse text)",
        "INSERT INTO t SELECT repeat('k', 100) FROM generate_series(1, 2000000)",
        "ANALYZE t",
    )
    monkeypatch.setattr("s3gc.references.sources.postgres_sample.SAMPLE_SECONDS", 0.05)
    async with source_of(url, table="t", columns=["k"]) as source:
        assert await samples(source) == {}
    assert "undeclared column public.t.sparse is incomplete" in caplog.text


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE kept AS SELECT * FROM t", "TRUNCATE t", "INSERT INTO t SELECT * FROM kept"],
        ["ALTER TABLE t ALTER COLUMN k TYPE varchar(70) USING k || ''"],
        ["CREATE TABLE n AS SELECT * FROM t", "ALTER TABLE t RENAME TO o", "ALTER TABLE n RENAME TO t"],
    ],
    ids=["truncate", "rewrite", "swap"],
)
async def test_a_table_that_an_older_snapshot_cannot_show_is_an_error(
    url: str, statements: list[str]
) -> None:
    await pg(url, "CREATE TABLE a (k text)", "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('key')")
    async with source_of(url, tables=[{"table": t, "columns": ["k"]} for t in "at"]) as source:
        preflight = await source.preflight(execute=True)
        async with source.snapshot() as snapshot:
            await pg(url, *statements)
            with pytest.raises(SourceError, match=r"public\.t was emptied, rewritten or replaced"):
                async for _ in snapshot.values(preflight.columns[1]):
                    pass
        assert (await read(source, preflight))["public.t.k"] == ["key"]


async def test_asking_for_keys_behind_a_reload_is_an_error(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('key')")
    async with source_of(url, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        await source.preflight(execute=True)
        writer = await asyncpg.connect(url)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("TRUNCATE t; INSERT INTO t VALUES ('key')")
        asking = asyncio.create_task(source.referenced(["key"]))
        watcher = await asyncpg.connect(url)
        while not await watcher.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            await asyncio.sleep(0.01)
        await transaction.commit()
        with pytest.raises(SourceError, match="emptied, rewritten or replaced"):
            await asking
        assert await source.referenced(["key"]) == {"key": "public.t.k"}
        await writer.close()
        await watcher.close()
