"""Change capture on PostgreSQL: what a drain must have seen, what must end it, and that nothing stays on the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.library.sources.helpers import pg, pg_role, source_of
from tests.testbed.databases import pooled_url, start_pgbouncer
from tests.testbed.services import Home, Postgres

from s3gc.exceptions import CDCError, RefusedError, S3GCError, SourceError
from s3gc.references.cdc import following as following_module
from s3gc.references.cdc import postgres_capture
from s3gc.references.cdc.following import Following
from s3gc.references.cdc.postgres_capture import PostgresCapture
from s3gc.references.cdc.test_decoding import Message, Row, Unchanged, array_elements, parse
from s3gc.references.types import PrefixReference
from s3gc.sweep.verify import Verifier

TABLE = "CREATE TABLE f (id int PRIMARY KEY, k text, note text)"


@pytest.fixture
async def url(postgres: Postgres) -> str:
    return await postgres.fresh_database()


@contextlib.asynccontextmanager
async def captured(url: str, *, columns: Any = ("k",), **options: Any) -> AsyncIterator[PostgresCapture]:
    """A capture that is open; no slot may be there when it is closed."""
    async with source_of(url, table=options.pop("table", "f"), columns=columns, **options) as source:
        await source.preflight(execute=False)
        capture = await source.capture()
        assert isinstance(capture, PostgresCapture)
        try:
            await capture.open()
            yield capture
        finally:
            await capture.close()
    assert await slots(url) == []


async def drain(capture: PostgresCapture) -> list[Any]:
    return [value for batch in [batch async for batch in capture.drain()] for _, value in batch]


async def slots(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


# --- what must be seen


async def test_inserts_and_updates_are_seen_once_they_are_committed_and_only_then(url: str) -> None:
    await pg(url, TABLE, "INSERT INTO f VALUES (1, 'old')")
    async with captured(url) as capture:
        assert await drain(capture) == []
        await pg(
            url,
            "INSERT INTO f VALUES (2, 'it''s new')",
            "UPDATE f SET k = 'changed' WHERE id = 1",
            "DELETE FROM f",
        )
        assert await drain(capture) == ["it's new", "changed"]
        assert await drain(capture) == []
        writer = await asyncpg.connect(url)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("INSERT INTO f VALUES (3, 'late')")
        assert await drain(capture) == []
        await transaction.commit()
        assert await drain(capture) == ["late"]
        async with contextlib.AsyncExitStack() as stack:
            with contextlib.suppress(ZeroDivisionError):
                async with writer.transaction():
                    await writer.execute("INSERT INTO f VALUES (4, 'rolled back')")
                    raise ZeroDivisionError
            await stack.aclose()
        assert await drain(capture) == []
        await writer.close()


async def test_partitions_moves_inheritance_names_and_tables_without_a_key(url: str) -> None:
    await pg(
        url,
        'CREATE SCHEMA "Shop: a"',
        'CREATE TABLE "Shop: a"."T ""1""" ("The Key" text, at int) PARTITION BY RANGE (at)',
        'CREATE TABLE "p.1" PARTITION OF "Shop: a"."T ""1""" FOR VALUES FROM (0) TO (10)',
        'CREATE TABLE p2 PARTITION OF "Shop: a"."T ""1""" FOR VALUES FROM (10) TO (20)',
        "CREATE TABLE parent (k text)",
        "CREATE TABLE child (more int) INHERITS (parent)",
        "CREATE TABLE elsewhere (k text)",
    )
    tables = [
        {"table": '"Shop: a"."T ""1"""', "columns": ["The Key"]},
        {"table": "parent", "columns": ["k"]},
    ]
    async with captured(url, table=None, tables=tables) as capture:
        await pg(
            url,
            'INSERT INTO "Shop: a"."T ""1""" VALUES (\'a\', 1)',
            'UPDATE "Shop: a"."T ""1""" SET at = 11, "The Key" = \'moved\'',
            "INSERT INTO child VALUES ('of a child', 1)",
            "INSERT INTO elsewhere VALUES ('not watched')",
        )
        assert sorted(await drain(capture)) == ["a", "moved", "of a child"]


async def test_every_kind_of_value_is_as_a_scan_gives_it(url: str) -> None:
    kinds = {
        "t text": "E'a\\tb\\nc''\\\\ \\u00e9'", "c char(9)": "'padded'", "v varchar": "''", "j jsonb": '\'{"k": "a\\"b"}\'',
        "a text[]": "ARRAY['x,y', 'NULL', NULL, E'q\"\\\\', '']", "u uuid": "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "b bytea": "'\\x00ff61'", "n numeric": "12.50", "i int": "7", "z bool": "true", "bits bit(3)": "B'101'",
        "h timestamptz": "'2026-01-01 00:00+00'", "g text GENERATED ALWAYS AS ('gen/' || 7) STORED": "",
    }  # fmt: skip
    names = [kind.split()[0] for kind in kinds]
    await pg(url, f"CREATE TABLE f (id serial, {', '.join(kinds)})")
    columns: list[Any] = [*names, {"name": "a", "format": "key"}, {"template": "x/{c}/{i}.jpg"}]
    async with source_of(url, table="f", columns=columns) as source:
        preflight = await source.preflight(execute=False)
        capture = await source.capture()
        try:
            await capture.open()
            written = {name.split()[0]: value for name, value in kinds.items() if value}
            await pg(url, f"INSERT INTO f ({', '.join(written)}) VALUES ({', '.join(written.values())})",
                     "INSERT INTO f (i) VALUES (8)")  # fmt: skip
            seen: dict[str, list[Any]] = {}
            async for batch in capture.drain():
                for index, value in batch:
                    seen.setdefault(preflight.columns[index].label, []).append(value)
            scanned: dict[str, list[Any]] = {}
            async with source.snapshot() as snapshot:
                for column in preflight.columns:
                    async for values in snapshot.values(column):
                        scanned.setdefault(column.label, []).extend(values)
        finally:
            await capture.close()
    assert seen == scanned
    assert seen["public.f:x/{c}/{i}.jpg"] == ["x/padded/7.jpg", PrefixReference("x/")]


async def test_the_text_of_an_update_that_the_log_leaves_out_was_in_the_scan(url: str) -> None:
    big = "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) i"
    await pg(url, TABLE, "ALTER TABLE f ALTER k SET STORAGE EXTERNAL", f"INSERT INTO f VALUES (1, ({big}))")
    async with captured(url) as capture:
        await pg(url, "UPDATE f SET note = 'x'")
        assert await drain(capture) == []
    async with captured(url, where="note = 'x'") as capture:
        await pg(url, "UPDATE f SET note = 'y'")
        with pytest.raises(CDCError, match="a where may have left it out"):
            await drain(capture)
    async with captured(url, columns=[{"template": "x/{k}/{note}"}]) as capture:
        await pg(url, "UPDATE f SET note = 'z'")
        with pytest.raises(CDCError, match="a template may have left it out"):
            await drain(capture)


async def test_two_phase_commits_are_seen_once_they_are_committed(url: str) -> None:
    await pg(url, TABLE)
    async with captured(url) as capture:
        await pg(url, "BEGIN; INSERT INTO f VALUES (1, 'prepared'); PREPARE TRANSACTION 'one'")
        assert await drain(capture) == []
        await pg(url, "COMMIT PREPARED 'one'")
        assert await drain(capture) == ["prepared"]


async def test_what_was_committed_without_a_flush_is_seen_at_once(url: str) -> None:
    await pg(url, TABLE)
    writer = await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
    async with captured(url) as capture:
        for number in range(20):
            await writer.execute("INSERT INTO f VALUES ($1, $2)", number, f"async-{number}")
            assert await drain(capture) == [f"async-{number}"]
    await writer.close()


async def test_without_the_mark_such_a_commit_would_be_missed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: a drain that is content with a mark of a moment ago, as one is that ends at a place in the log."""
    await pg(url, TABLE)
    # Nobody else flushes for a while, however slow this machine is just now.
    await pg(url, "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
    writer = await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
    missed = 0
    async with captured(url) as capture:
        real = capture._mark
        for number in range(20):
            earlier = await real()
            await writer.execute("INSERT INTO f VALUES ($1, $2)", number, f"async-{number}")

            async def stale(mark: str = earlier) -> str:
                return mark

            monkeypatch.setattr(capture, "_mark", stale)
            missed += f"async-{number}" not in await drain(capture)
            monkeypatch.setattr(capture, "_mark", real)
            await drain(capture)
    await writer.close()
    await pg(url, "ALTER SYSTEM RESET wal_writer_delay", "SELECT pg_reload_conf()")
    assert missed > 0


async def test_a_transaction_that_is_in_neither_slot_nor_snapshot_is_waited_for(url: str) -> None:
    """Its commit is in the log before the slot's first place, and it is not visible until a standby answers. Without
    the wait of `open` it is lost."""

    async def insert(name: str) -> tuple[asyncpg.Connection, Any]:
        connection = await asyncpg.connect(url)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO f (id, k) VALUES (nextval('ids'), $1)", name)
        return connection, transaction

    async def missed(*, waits: bool) -> bool:
        await pg(url, "TRUNCATE f")
        hanging_writer = await asyncpg.connect(url)
        async with source_of(url, table="f", columns=["k"]) as source:
            await source.preflight(execute=False)
            capture = await source.capture()
            first, first_transaction = await insert("first")
            opening = asyncio.create_task(capture.open())
            await until_true(url, "SELECT count(*) FROM pg_replication_slots WHERE active_pid IS NOT NULL")
            await asyncio.sleep(0.3)  # it waits for the first one
            second, second_transaction = await insert("second")
            await first_transaction.rollback()
            await asyncio.sleep(0.3)  # and now for the second one
            try:
                await pg(
                    url, "ALTER SYSTEM SET synchronous_standby_names = 'nosuch'", "SELECT pg_reload_conf()"
                )
                await until_true(url, "SELECT current_setting('synchronous_standby_names') = 'nosuch'")
                hanging = asyncio.create_task(
                    hanging_writer.execute("INSERT INTO f VALUES (nextval('ids'), 'hanging')")
                )
                await until_true(url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                await second_transaction.rollback()
                await asyncio.wait({opening}, timeout=2)
                assert opening.done() is not waits
                if not opening.done():
                    await pg(url, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
                await opening
                scan = await asyncpg.connect(url)
                seen = [row[0] for row in await scan.fetch("SELECT k FROM f")]
                await scan.close()
            finally:
                await pg(url, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
            await hanging
            seen += await drain(capture)
            await capture.close()
        for connection in (first, second, hanging_writer):
            await connection.close()
        return "hanging" not in seen

    await pg(url, TABLE, "CREATE SEQUENCE ids")
    assert not await missed(waits=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresCapture, "_wait_for_older", lambda *_: asyncio.sleep(0))
        assert await missed(waits=False), "the mutant lost nothing: this test shows nothing"


async def until_true(url: str, question: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        while not await connection.fetchval(question):
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


# --- what cannot be followed is read again


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"table": "v"}, "public.v is a view"),
        ({"table": "u"}, "public.u is unlogged"),
        ({"where": "at > now() - interval '30 days'"}, "its where may change by itself ('now(')"),
        ({"where": "id in (select id from other)"}, "its where may change by itself ('select')"),
        ({"where": "allowed(id)"}, "its where may change by itself ('allowed(')"),
        ({"table": None, "queries": [{"name": "q", "sql": "select k from f"}]}, "a query"),
    ],
)
async def test_what_the_log_does_not_show_is_left_to_reading_again(
    url: str, options: dict[str, Any], reason: str
) -> None:
    await pg(
        url,
        "CREATE TABLE f (id int, k text, at timestamptz)",
        "CREATE TABLE other (id int)",
        "CREATE VIEW v AS SELECT k FROM f",
        "CREATE UNLOGGED TABLE u (k text)",
        "CREATE FUNCTION allowed(int) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    )
    async with captured(url, columns=[] if "queries" in options else ["k"], **options) as capture:
        assert list(capture.left_over.values()) == [reason]


@pytest.mark.parametrize(
    "where", ["note is null", "id in (1, 2) and note = 'x' or not (id > 7)", "k like 'a%'"]
)
async def test_a_where_over_the_row_alone_is_followed(url: str, where: str) -> None:
    await pg(url, TABLE)
    async with captured(url, where=where) as capture:
        assert capture.left_over == {}
        await pg(url, "INSERT INTO f VALUES (9, 'whatever it says', 'no')")
        assert await drain(capture) == ["whatever it says"]


# --- what must end it


async def test_a_role_without_replication_is_told_what_to_grant(url: str) -> None:
    await pg(url, TABLE)
    role = await pg_role(url, "s3gc_cdc_select", "GRANT SELECT ON f TO {role}", attributes="NOREPLICATION")
    with pytest.raises(CDCError, match='ALTER ROLE "s3gc_cdc_select" REPLICATION'):
        async with captured(role):
            pass
    enough = await pg_role(url, "s3gc_cdc_repl", "GRANT SELECT ON f TO {role}", attributes="REPLICATION")
    async with captured(enough) as capture:
        await pg(url, "INSERT INTO f VALUES (1, 'seen')")
        assert await drain(capture) == ["seen"]


@pytest.mark.parametrize(
    "how", ["SELECT pg_terminate_backend(pid) FROM pg_stat_replication_slots_", "error in the session"]
)
async def test_a_slot_that_is_lost_ends_the_capture_and_is_never_made_again(url: str, how: str) -> None:
    await pg(url, TABLE)
    async with captured(url) as capture:
        await pg(url, "INSERT INTO f VALUES (1, 'a')")
        if how.startswith("SELECT"):
            await pg(
                url,
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()",
            )
        else:
            assert capture._slot is not None
            with pytest.raises(asyncpg.PostgresError):
                await capture._slot.connection.execute("SELECT 1/0")
        for _ in range(2):
            with pytest.raises(CDCError):
                await drain(capture)


async def test_a_drain_that_is_killed_half_way_gives_an_error_and_never_a_part(url: str) -> None:
    await pg(url, TABLE)
    async with captured(url) as capture:
        await pg(url, "INSERT INTO f SELECT i, 'k' || i FROM generate_series(1, 200000) i")
        running = asyncio.create_task(drain(capture))
        killed = False
        while not killed and not running.done():
            connection = await asyncpg.connect(url)
            killed = bool(await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active' "
                "AND query LIKE '%pg_logical_slot_get_changes%' AND pid <> pg_backend_pid()"
            ))  # fmt: skip
            await connection.close()
        assert killed
        with pytest.raises(CDCError):
            await running


async def test_a_long_writer_delays_the_slot_until_a_clear_error_and_a_reader_does_not(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_capture, "OPEN_SECONDS", 1.5)
    await pg(url, TABLE)
    other = await asyncpg.connect(url, server_settings={"application_name": "nightly-job"})
    await other.execute("BEGIN; SELECT count(*) FROM f")
    async with captured(url):
        pass
    await other.execute("ROLLBACK; BEGIN; INSERT INTO f VALUES (1)")
    with pytest.raises(CDCError, match=f"pid {other.get_server_pid()} of .*nightly-job"):
        async with captured(url):
            pass
    assert await slots(url) == []
    await other.close()


async def test_a_mark_that_does_not_come_is_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await pg(url, TABLE)
    async with captured(url) as capture:

        async def elsewhere(_: object) -> str:
            return "written to another server"

        monkeypatch.setattr(PostgresCapture, "_mark", elsewhere)
        with pytest.raises(CDCError, match="is not the one that the application writes to"):
            await drain(capture)


@pytest.mark.parametrize("limit", ["maxLagBytes", "MIN_SAFE_BYTES"])
async def test_the_servers_log_is_not_held_back_for_ever(
    url: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pg(url, TABLE)
    if limit == "MIN_SAFE_BYTES":
        await pg(url, "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'", "SELECT pg_reload_conf()")
    try:
        few = {"backend": "postgres", "maxLagBytes": 16 * 1024**2}
        async with captured(url, cdc=few) as capture:
            if limit == "maxLagBytes":
                await pg(url, "SELECT pg_logical_emit_message(true, 'more', repeat('x', 20000000))")
            else:
                monkeypatch.setattr(postgres_capture, limit, 2**50)
            with pytest.raises(CDCError, match=r"more than cdc.maxLagBytes = 16,777,216|MiB are left"):
                await drain(capture)
    finally:
        await pg(url, "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


async def test_the_applications_own_updates_go_on_where_a_table_has_no_key(url: str) -> None:
    await pg(url, "CREATE TABLE nopk (k text)", "INSERT INTO nopk VALUES ('a')")
    async with captured(url, table="nopk") as capture:
        await pg(url, "UPDATE nopk SET k = 'b'", "DELETE FROM nopk")
        assert await drain(capture) == ["b"]


# --- the lines of test_decoding

_texts = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=60)


def test_lines_that_are_not_understood_are_errors() -> None:
    for line in (
        "table public.f: INSERT: k[text]:'open", "table public.f: INSERT: k[text]", "table public.f: INSERT: (no-tuple-data)",
        "something else", "table public.f: INSERT: k[text]:'a'x", "table public.f: MERGE: k[text]:'a'",
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            parse(line)
    assert parse("table a.b, a.c: TRUNCATE: (no-flags)") is None
    assert parse("message: transactional: 1 prefix: s3gc, sz: 2 content:a,") == Message("s3gc", "a,")
    line = """table a."B c": UPDATE: old-key: k[text]:'x new-tuple: ' new-tuple: k[text]:null z["T[]"]:unchanged-toast-datum"""
    assert parse(line) == Row('a."B c"', {"k": None, "z": Unchanged.TOAST})


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(_texts, st.lists(st.none() | _texts, max_size=4)), min_size=1, max_size=20))
async def test_any_text_and_any_array_comes_through_the_server_as_it_was(
    postgres: Postgres, rows: list[tuple[str, list[str | None]]]
) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    try:
        await connection.execute('DROP TABLE IF EXISTS fuzzed; CREATE TABLE fuzzed ("a ""b[" text, c text[])')
        slot = "s3gc_fuzz"
        await connection.execute("SELECT pg_create_logical_replication_slot($1, 'test_decoding', true)", slot)
        await connection.executemany("INSERT INTO fuzzed VALUES ($1, $2)", rows)
        lines = await connection.fetch("SELECT data FROM pg_logical_slot_get_changes($1, NULL, NULL)", slot)
        await connection.execute("SELECT pg_drop_replication_slot($1)", slot)
    finally:
        await connection.close()
    got = []
    for (line,) in lines:
        if isinstance(row := parse(line), Row):
            text, array = row.values['a "b['], row.values["c"]
            assert isinstance(array, str)
            got.append((text, array_elements(array)))
    assert json.dumps(got) == json.dumps(rows)


async def test_what_a_rewrite_of_the_table_makes_of_its_values_is_seen(url: str) -> None:
    """ALTER TABLE … TYPE … USING writes new values into every row, and leaves every type and name as it was."""
    await pg(url, TABLE, "INSERT INTO f VALUES (1, 'old')")
    async with captured(url) as capture:
        await pg(url, "ALTER TABLE f ALTER COLUMN k TYPE text USING 'moved/' || k")
        assert await drain(capture) == ["moved/old"]
        await pg(url, "VACUUM FULL f", "CREATE TABLE other AS SELECT * FROM f")
        assert await drain(capture) == []


# --- poolers


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_pooler_is_recognised_and_the_server_s_own_address_goes_past_it(
    postgres: Postgres, testbed_home: Home, url: str, mode: str
) -> None:
    await pg(url, TABLE)
    bouncer = start_pgbouncer(testbed_home, postgres, mode)
    try:
        pooled = pooled_url(bouncer, url)
        with pytest.raises(CDCError, match="connection pooler.*cdc.urlSecretRef"):
            async with captured(pooled):
                pass
        assert await slots(url) == []
        cdc = {"backend": "postgres", "url": url}
        async with source_of(pooled, table="f", columns=["k"], cdc=cdc) as source:
            await source.preflight(execute=True)
            capture = await source.capture()
            assert isinstance(capture, PostgresCapture)
            await capture.open()
            await pg(url, "INSERT INTO f VALUES (1, 'past the pooler')")
            assert await drain(capture) == ["past the pooler"]
            await capture.close()
        assert await slots(url) == []
    finally:
        bouncer.stop()


# --- the catalog


async def test_a_partition_that_is_attached_before_the_slot_is_there_is_never_read_and_not_followed(
    url: str,
) -> None:
    await pg(
        url,
        "CREATE TABLE p (k text, at int) PARTITION BY RANGE (at)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
    )
    async with source_of(url, table="p", columns=["k"]) as source:
        await source.preflight(execute=True)
        capture = await source.capture()
        await pg(url, "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)")
        try:
            with pytest.raises(CDCError, match="was changed after it was checked"):
                await capture.open()
        finally:
            await capture.close()
    assert await slots(url) == []


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE t RENAME COLUMN k TO key"],
        ["ALTER TABLE t DROP COLUMN k"],
        ["ALTER TABLE t ADD COLUMN more text DEFAULT 'x'"],
        ["ALTER TABLE t ALTER COLUMN k TYPE varchar USING 'wanted'"],
        ["CREATE TABLE t2 (LIKE t)", "ALTER TABLE t RENAME TO t_old", "ALTER TABLE t2 RENAME TO t"],
        ["ALTER TABLE t SET UNLOGGED"],
        ["CREATE TABLE p2 (LIKE p)", "INSERT INTO p2 VALUES ('wanted', 12)",
         "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)"],
        ["ALTER TABLE p DETACH PARTITION p1", "INSERT INTO p1 VALUES ('wanted', 1)"],
        ["DROP TABLE t"],
    ],
)  # fmt: skip
async def test_whatever_changes_the_catalog_under_a_stream_ends_the_deletes(
    url: str, tmp_path: Path, statements: list[str]
) -> None:
    async with verifying(url, tmp_path) as verifier:
        assert await verifier.referenced(["wanted"]) == {}
        await pg(url, *statements)
        with pytest.raises(S3GCError) as caught:
            await verifier.referenced(["wanted"])
        assert isinstance(caught.value, RefusedError | SourceError)


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["VACUUM FULL t", "ANALYZE t"], False),
        (["TRUNCATE t", "INSERT INTO t VALUES ('wanted', 1)"], True),
        (["ALTER TABLE t ALTER COLUMN k TYPE text USING 'wanted'"], True),
        (["CREATE TABLE unrelated (k text)", "DROP TABLE unrelated"], False),
    ],
)
async def test_what_does_not_change_what_is_read_goes_on(
    url: str, tmp_path: Path, statements: list[str], found: bool
) -> None:
    async with verifying(url, tmp_path) as verifier:
        await pg(url, "INSERT INTO t VALUES ('other', 1)", *statements)
        assert ("wanted" in await verifier.referenced(["wanted"])) is found


@pytest.mark.parametrize("remembered", [following_module._REMEMBERED, 2])
async def test_the_same_value_again_is_kept_once_and_none_is_forgotten(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr(following_module, "_REMEMBERED", remembered)
    async with verifying(url, tmp_path) as verifier:
        await pg(url, "DO $$ BEGIN FOR i IN 1..500 LOOP UPDATE t SET note = i; END LOOP; END $$")
        assert (await verifier.referenced(["a", "b"])).keys() == {"a"}
        assert len((tmp_path / "changes.jsonl").read_text().splitlines()) == 1
        await pg(
            url, "INSERT INTO t SELECT 'k' || i % 9, i FROM generate_series(1, 27) i", "UPDATE t SET note = 0"
        )
        wanted = [f"k{number}" for number in range(9)]
        assert (await verifier.referenced(["a", *wanted])).keys() == {"a", *wanted}


@contextlib.asynccontextmanager
async def verifying(url: str, work: Path) -> AsyncIterator[Verifier]:
    """A verifier that follows a table and a partitioned table."""
    await pg(
        url,
        "CREATE TABLE t (k text, note int)",
        "INSERT INTO t VALUES ('a', 1)",
        "CREATE TABLE p (k text, at int) PARTITION BY RANGE (at)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
    )
    tables = [{"table": "t", "columns": ["k"]}, {"table": "p", "columns": ["k"]}]
    async with source_of(url, tables=tables) as source:
        preflight = await source.preflight(execute=True)
        verifier = await Verifier.begin([(source, preflight)])
        following = Following(source.name, preflight.columns, await source.capture(), work / "changes.jsonl")
        try:
            await following.begin()
            verifier.follow({source.name: following})
            yield verifier
        finally:
            await following.close()
    assert await slots(url) == []
