"""MariaDB as a source: types, collations, snapshots, its two ways of seeing writers, and what it refuses to claim."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest
from tests.library.sources.helpers import (
    as_user,
    is_mariadb,
    my,
    my_connection,
    my_run,
    my_user,
    numbers,
    read,
    read_once,
    samples,
    source_of,
)
from tests.testbed.services import MariaDB, MySQL

from s3gc.exceptions import AccessDeniedError, ConfigurationError, SourceError
from s3gc.references.types import PrefixReference


@pytest.fixture(params=["mariadb", "mysql"])
async def url(request: pytest.FixtureRequest) -> str:
    """A database on each server in turn."""
    server: MySQL = request.getfixturevalue(request.param)
    return await server.fresh_database()


@pytest.fixture
async def mariadb_url(mariadb: MariaDB) -> str:
    """A database on MariaDB: for what MySQL has not, or has otherwise."""
    return await mariadb.fresh_database()


def database(url: str) -> str:
    return url.rpartition("/")[2]


async def select_only(url: str, name: str) -> str:
    return await my_user(url, name, f"GRANT SELECT ON {database(url)}.* TO {{user}}")


TYPES = [
    (
        "varchar(80) character set utf8mb4",
        "'Größe/日本/🦀 100%.jpg\\n\\\\x'",
        ["Größe/日本/🦀 100%.jpg\n\\x"],
    ),
    ("char(20)", "'a.jpg'", ["a.jpg"]),
    ("longtext", "'a.jpg'", ["a.jpg"]),
    ("varchar(20) character set latin1", "'é.jpg'", ["é.jpg"]),
    ("varchar(20) character set utf16", "'é.jpg'", ["é.jpg"]),
    ("varchar(20) collate utf8mb4_bin", "''", [""]),
    ("json", '\'{"k": "a.jpg"}\'', ['{"k": "a.jpg"}']),
    ("varbinary(20)", "X'61FF00'", [b"a\xff\x00"]),
    ("blob", "X'61FF00'", [b"a\xff\x00"]),
    ("binary(4)", "'ab'", [b"ab", b"ab\x00\x00"]),
    ("int", "42", ["42"]),
    ("decimal(10,3)", "1.5", ["1.500"]),
    ("bit(8)", "b'101'", ["5"]),
    ("enum('a.jpg','b')", "'a.jpg'", ["a.jpg"]),
    ("datetime", "'2024-01-02 03:04:05'", ["2024-01-02 03:04:05"]),
]


@pytest.mark.parametrize(("of", "literal", "expected"), TYPES, ids=[of for of, _, _ in TYPES])
async def test_a_type_comes_out_as_text_or_bytes(
    url: str, of: str, literal: str, expected: list[object]
) -> None:
    await my(url, f"CREATE TABLE t (v {of})", f"INSERT INTO t VALUES ({literal}), (NULL)")
    assert await read_once(url, table="t", columns=["v"]) == {f"{database(url)}.t.v": expected}


async def test_mariadb_s_uuid_comes_out_as_text(mariadb_url: str) -> None:
    await my(
        mariadb_url,
        "CREATE TABLE t (v uuid)",
        "INSERT INTO t VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11')",
    )
    found = await read_once(mariadb_url, table="t", columns=["v"])
    assert found == {f"{database(mariadb_url)}.t.v": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]}


async def test_utf8_that_was_stored_as_latin1_is_also_read_as_what_it_was(url: str) -> None:
    await my(url, "CREATE TABLE t (v varchar(40) character set latin1, KEY (v))",
             "INSERT INTO t VALUES (CONVERT(_binary'Gr\u00f6\u00dfe.jpg' USING latin1)), ('\u20ac\u00e9')")  # fmt: skip
    label = f"{database(url)}.t.v"
    async with source_of(url, table="t", columns=[{"name": "v", "format": "key"}]) as source:
        assert "Größe.jpg" in (await read(source))[label]
        assert "€é" in (await read(source))[label]
        assert await source.referenced(["Größe.jpg", "€é", "日本.jpg"]) == {"Größe.jpg": label, "€é": label}


@pytest.mark.parametrize("charset", ["ascii", "latin1", "latin2", "utf8mb3", "utf16", "sjis", "utf8mb4"])
async def test_keys_beyond_a_column_s_charset_can_be_asked_for(url: str, charset: str) -> None:
    await my(
        url,
        f"CREATE TABLE t (v varchar(40) character set {charset}, KEY (v))",
        "INSERT INTO t VALUES ('a.jpg')",
    )
    if charset not in ("ascii", "latin1"):
        await my(url, f"INSERT INTO t VALUES ('{'Ł' if charset == 'latin2' else '本'}')")
    async with source_of(url, table="t", columns=[{"name": "v", "format": "key"}]) as source:
        found = await source.referenced(["a.jpg", "A.jpg", "é", "本", "Ł", "L", "🦀", "?"])
    assert set(found) == {"a.jpg"} | {
        "ascii": set(), "latin1": set(), "latin2": {"Ł"},
    }.get(charset, {"本"})  # fmt: skip


async def test_a_value_of_sixteen_mebibytes_does_not_end_the_result(url: str) -> None:
    ((limit,),) = await my(url, "SELECT @@global.max_allowed_packet")
    await my(url, "SET GLOBAL max_allowed_packet = 67108864")
    try:
        await my(url, "CREATE TABLE t (id int primary key, v longtext)",
                 "INSERT INTO t VALUES (1, 'a'), (2, REPEAT('x', 17000000)), (3, 'b')")  # fmt: skip
        found = (await read_once(url, table="t", columns=["v"]))[f"{database(url)}.t.v"]
        assert sorted(len(value) for value in found) == [1, 1, 17_000_000]
    finally:
        await my(url, f"SET GLOBAL max_allowed_packet = {limit}")


async def test_a_server_s_sql_select_limit_does_not_shorten_what_is_read(url: str) -> None:
    await my(url, "CREATE TABLE t (v int)", f"INSERT INTO t SELECT seq FROM {numbers(3000)}")
    limit, short = ("max_statement_time", "0.001") if await is_mariadb(url) else ("max_execution_time", "1")
    await my(url, "SET GLOBAL sql_select_limit = 10", f"SET GLOBAL {limit} = {short}")
    try:
        assert len((await read_once(url, table="t", columns=["v"]))[f"{database(url)}.t.v"]) == 3000
    finally:
        await my(url, "SET GLOBAL sql_select_limit = DEFAULT", f"SET GLOBAL {limit} = 0")


async def test_what_a_query_puts_together_is_not_cut_off(url: str) -> None:
    """MySQL itself cuts it at 1,024 bytes, with a warning that nobody sees."""
    query = {
        "name": "q",
        "sql": f"SELECT GROUP_CONCAT(CONCAT('uploads/', seq) SEPARATOR ',') FROM {numbers(100_000)}",
    }
    [value] = (await read_once(url, queries=[query]))["query q"]
    assert value.count("uploads/") == 100_000


async def test_where_queries_views_templates_and_names_of_every_shape(url: str) -> None:
    await my(
        url,
        'CREATE TABLE `we``ird; drop` (`col "x` varchar(20), id int, tenant char(4))',
        "INSERT INTO `we``ird; drop` VALUES ('k%s', 7, 'ab'), ('l', 8, NULL), (NULL, NULL, 'x')",
        'CREATE VIEW v AS SELECT `col "x` AS k FROM `we``ird; drop`',
    )
    found = await read_once(
        url,
        tables=[
            {"table": "we`ird; drop", "columns": ['COL "X'], "where": "`col \"x` like 'k%' # the first\n"},
            {"table": f"{database(url)}.v", "columns": ["k"]},
            {
                "table": "we`ird; drop",
                "columns": [{"template": "t/{tenant}/{id:idpart}.png"}],
                "where": "id is not null",
            },
        ],
        queries=[{"name": "q", "sql": "select concat(id, '%'), 1 as one from `we``ird; drop` -- all\n;"}],
    )
    name = database(url)
    assert found[f'{name}.we`ird; drop.col "x'] == ["k%s"]
    assert found[f"{name}.v.k"] == ["k%s", "l"]
    assert set(found[f"{name}.we`ird; drop:t/{{tenant}}/{{id:idpart}}.png"]) == {"t/ab/000/000/007.png", "t/"}
    assert any(
        isinstance(v, PrefixReference) for v in found[f"{name}.we`ird; drop:t/{{tenant}}/{{id:idpart}}.png"]
    )
    assert found["query q"] == ["7%", "8%"]


async def test_all_problems_come_at_once_with_the_nearest_names(url: str) -> None:
    await my(
        url,
        "CREATE TABLE users (id int, avatar_url text, shape point, doc json)",
        "INSERT INTO users (avatar_url) VALUES ('a')",
    )
    with pytest.raises(ConfigurationError) as caught:
        await read_once(
            url,
            tables=[
                {"table": "user", "columns": ["x"]},
                {
                    "table": "users",
                    "columns": ["avatar", "shape", {"template": "{idd}.jpg"}, {"template": "{id}.png"}],
                },
                {"table": "users", "columns": ["id"], "where": "nope = 1"},
                {"table": "users", "columns": ["id"], "where": "1=1); DELETE FROM users; -- "},
            ],
            queries=[
                {"name": "q", "sql": "select nope from users"},
                {"name": "two", "sql": "select id from users) q; delete from users; select * from (select 1"},
                {"name": "twice", "sql": "select id, id from users"},
            ],
            ignore_columns=["users.avatar_ur"],
        )
    errors = caught.value.details["errors"]
    for part in (
        "did you mean", "no column 'avatar'; did you mean 'avatar_url'", "type point", "no column 'idd'", "column 'id' is NULL in 1 row,",
        "Unknown column 'nope' in 'w", "DELETE FROM users", "query 'q'", "query 'two'", "a name of its own", "no column 'avatar_ur'",
    ):  # fmt: skip
        assert any(part.lower() in error.lower() for error in errors), (part, errors)  # type: ignore[attr-defined]
    assert len(errors) == 11, errors  # type: ignore[arg-type]
    assert await my(url, "SELECT count(*) FROM users") == ((1,),)


async def test_connecting_fails_with_a_sentence_and_never_shows_the_password(
    url: str, mariadb: MariaDB
) -> None:
    bad = as_user(url, "root", quote("sésame/hidden@x", safe=""))
    with pytest.raises(ConfigurationError, match="refused user 'root'") as caught:
        await read_once(bad, table="t", columns=["v"])
    assert "hidden" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="no database 'nope'"):
        await read_once(mariadb.dsn("nope"), table="t", columns=["v"])
    with pytest.raises(SourceError, match="is the server up"):
        await read_once("mysql://u:hidden@127.0.0.1:1/x", table="t", columns=["v"])
    with pytest.raises(ConfigurationError, match="TLS failed"):
        await read_once(mariadb.dsn() + "?ssl-mode=REQUIRED", table="t", columns=["v"])
    with pytest.raises(ConfigurationError, match="ssl-mode 'maybe' is not known"):
        await read_once(url + "?ssl-mode=maybe", table="t", columns=["v"])


async def test_a_missing_right_names_the_grant(url: str) -> None:
    await my(url, "CREATE TABLE t (a text, b text)", "CREATE TABLE hidden (a text)")
    role = await my_user(url, "s3gc_columns", f"GRANT SELECT (a) ON {database(url)}.t TO {{user}}")
    with pytest.raises(ConfigurationError, match="GRANT SELECT"):
        await read_once(role, table="hidden", columns=["a"])
    with pytest.raises(ConfigurationError, match="GRANT SELECT"):
        await read_once(role, table="t", columns=["b"])
    with pytest.raises(AccessDeniedError, match=r"where of .*GRANT SELECT ON `t_\w+`\.`t` TO s3gc_columns"):
        await read_once(role, table="t", columns=["a"], where="b is null")
    assert await read_once(role, table="t", columns=["a"]) == {f"{database(url)}.t.a": []}


async def test_one_snapshot_sees_a_row_that_moves_between_tables(url: str) -> None:
    await my(url, "CREATE TABLE a (k text)", "CREATE TABLE b (k text)", "INSERT INTO b VALUES ('moving')")
    async with source_of(
        url, tables=[{"table": "a", "columns": ["k"]}, {"table": "b", "columns": ["k"]}]
    ) as source:
        preflight = await source.preflight(execute=True)
        seen: list[object] = []
        async with source.snapshot() as snapshot:
            for column in preflight.columns:
                async for batch in snapshot.values(column):
                    seen += batch
                await my(url, "INSERT INTO a SELECT k FROM b", "DELETE FROM b")
        assert seen == ["moving"]


async def test_exact_keys_are_compared_byte_by_byte_whatever_the_collation_says(url: str) -> None:
    await my(
        url,
        "CREATE TABLE t (k varchar(50), c char(20), b varbinary(50), f binary(20), u {uuid}, gone int default 0)".format(
            uuid="uuid" if await is_mariadb(url) else "char(36)"
        ),
        "INSERT INTO t (k) VALUES ('Photos/A.JPG'), ('café.jpg'), ('x '), ('/lead.jpg'), ('rest.jpg')",
        "INSERT INTO t (c) VALUES ('char.jpg')", "INSERT INTO t (b) VALUES ('bin.jpg'), (X'00ff')",
        "INSERT INTO t (f) VALUES ('fixed.jpg')", "INSERT INTO t (u) VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')",
        "INSERT INTO t (k, gone) VALUES ('gone.jpg', 1)",
    )  # fmt: skip
    columns = [{"name": name, "format": "key", "keyPrefixes": ["pre/"]} for name in "kcbfu"]
    asked = ["photos/a.jpg", "cafe.jpg", "café.jpg", "x", "x ", "lead.jpg", "char.jpg", "bin.jpg", "00ff", "fixed.jpg",
             "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "gone.jpg", "pre/rest.jpg", "日本.jpg"]  # fmt: skip
    async with source_of(url, table="t", columns=columns, where="gone = 0") as source:
        assert (await source.preflight(execute=True)).can_query
        found = await source.referenced(asked)
    assert set(found) == {"café.jpg", "x ", "lead.jpg", "char.jpg", "bin.jpg", "00ff", "fixed.jpg",
                          "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "pre/rest.jpg"}  # fmt: skip


async def test_many_keys_are_asked_for_in_portions(url: str) -> None:
    await my(
        url, "CREATE TABLE t (k varchar(50))", f"INSERT INTO t SELECT concat('k', seq) FROM {numbers(60000)}"
    )
    async with source_of(url, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        found = await source.referenced([f"k{i}" for i in range(0, 120_000, 3)])
    assert len(found) == 20_000


async def test_with_process_the_barrier_waits_for_writers_and_not_for_readers(url: str) -> None:
    await my(url, "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('x')")
    reader = await my_connection(url, autocommit=False)
    await my_run(reader, "START TRANSACTION WITH CONSISTENT SNAPSHOT", "SELECT * FROM t")
    writer = await my_connection(url, autocommit=False)
    async with source_of(url, table="t", columns=["k"]) as source:
        assert (await source.preflight(execute=True)).barrier == "innodb_trx"
        assert (await source.barrier(5)).passed
        await my_run(writer, "INSERT INTO t VALUES ('y')")
        result = await source.barrier(0.5)
        assert not result.passed
        assert f"thread {writer.thread_id()}" in result.detail
        waiting = asyncio.create_task(source.barrier(10))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        later = await my_connection(url, autocommit=False)
        await my_run(later, "INSERT INTO t VALUES ('later')")
        await writer.commit()
        assert (await waiting).passed  # a transaction that began to write after the call is not waited for
        for connection in (reader, writer, later):
            connection.close()


async def test_the_barrier_sees_a_writer_however_often_others_read_the_same_table(url: str) -> None:
    """INNODB_TRX is cached for as long as somebody reads it more often than every 100 ms."""
    await my(url, "CREATE TABLE t (k text)")
    watcher = await my_connection(url)
    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            await my_run(watcher, "SELECT count(*) FROM information_schema.innodb_trx")
            await asyncio.sleep(0.03)

    watching = asyncio.create_task(watch())
    writer = await my_connection(url, autocommit=False)
    try:
        async with source_of(url, table="t", columns=["k"]) as source:
            await asyncio.sleep(0.3)
            await my_run(writer, "INSERT INTO t VALUES ('y')")
            try:
                result = await source.barrier(1)
            except SourceError:
                pass  # it could not be proved to be fresh: that is said, and nothing is claimed
            else:
                assert not result.passed
    finally:
        stop.set()
        await watching
        watcher.close()
        writer.close()


async def test_the_barrier_waits_for_a_prepared_xa_transaction(url: str) -> None:
    await my(url, "CREATE TABLE t (k text)")
    name = "xa_" + database(url)
    writer = await my_connection(url)
    await my_run(
        writer, f"XA START '{name}'", "INSERT INTO t VALUES ('y')", f"XA END '{name}'", f"XA PREPARE '{name}'"
    )
    writer.close()
    await asyncio.sleep(0.5)
    async with source_of(url, table="t", columns=["k"]) as source:
        assert not (await source.barrier(0.4)).passed
        await my(url, f"XA COMMIT '{name}'")
        assert (await source.barrier(5)).passed


async def test_without_process_and_without_an_index_no_barrier_is_claimed_and_the_grant_is_named(
    url: str,
) -> None:
    await my(url, "CREATE TABLE t (k varchar(50), i varchar(50), KEY (i))")
    role = await select_only(url, "s3gc_reader")
    for columns, why in (
        (["i"], "t.i has format auto, not key"),
        ([{"name": "k", "format": "key"}], "t.k has no index"),
    ):
        async with source_of(role, table="t", columns=columns) as source:
            preflight = await source.preflight(execute=True)
        assert preflight.barrier == ""
        assert "GRANT PROCESS ON *.* TO 's3gc_reader'@'%'" in preflight.barrier_missing
        assert why in preflight.barrier_missing
    async with source_of(
        role, table="t", columns=[{"name": "i", "format": "key"}], derivatives=["{stem}_thumb{ext}"]
    ) as source:
        assert (await source.preflight(execute=True)).barrier == ""
    exact = [{"name": "i", "format": "key"}]
    where = "i IN (SELECT k FROM t)"  # a share lock on a row does not wait for writers of what the condition reads
    async with source_of(role, table="t", columns=exact, where=where) as source:
        assert "where reads other tables" in (await source.preflight(execute=True)).barrier_missing


async def test_with_select_only_an_indexed_key_is_asked_for_under_a_share_lock_that_waits_for_writes_in_flight(
    url: str,
) -> None:
    await my(url, "CREATE TABLE t (id int primary key auto_increment, k varchar(50), KEY (k))",
             f"INSERT INTO t (k) SELECT concat('k', seq) FROM {numbers(2000)}")  # fmt: skip
    role = await select_only(url, "s3gc_reader")
    async with source_of(role, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        preflight = await source.preflight(execute=True)
        assert (preflight.barrier, preflight.can_query) == ("share_lock", True)
        writer = await my_connection(url, autocommit=False)
        await my_run(writer, "INSERT INTO t (k) VALUES ('ghost')")
        waiting = asyncio.create_task(source.referenced(["ghost", "nope"]))
        await asyncio.sleep(0.6)
        assert not waiting.done()
        # Rows of other keys stay free meanwhile.
        await my(url, "UPDATE t SET k = 'changed' WHERE k = 'k77'")
        await writer.commit()
        assert await waiting == {"ghost": f"{database(url)}.t.k"}
        await my_run(writer, "INSERT INTO t (k) VALUES ('undone')")
        waiting = asyncio.create_task(source.referenced(["undone"]))
        await asyncio.sleep(0.3)
        await writer.rollback()
        assert await waiting == {}
        writer.close()


async def test_the_share_lock_is_never_in_a_circle_with_an_application_s_transaction(url: str) -> None:
    """Whoever waits while holding locks can close a circle, and the server may end the application's part of it."""
    await my(url, "CREATE TABLE t (id int primary key, k varchar(50), KEY (k))",
             f"INSERT INTO t SELECT seq, concat('k', lpad(seq, 4, '0')) FROM {numbers(200)}")  # fmt: skip
    keys = [f"k{number:04d}" for number in range(1, 201)]  # asked for in one statement
    role = await select_only(url, "s3gc_reader")
    async with source_of(role, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        assert (await source.preflight(execute=True)).barrier == "share_lock"
        for number in range(5):
            writer = await my_connection(url, autocommit=False)
            await my_run(
                writer, f"UPDATE t SET k = 'late' WHERE id = {199 - number}"
            )  # behind those asked first
            waiting = asyncio.create_task(source.referenced([*keys, "late"]))
            await asyncio.sleep(0.2)
            await my_run(writer, f"DELETE FROM t WHERE id = {2 + number}")  # no deadlock here
            assert not waiting.done()
            await writer.commit()
            found = await waiting  # and none there
            writer.close()
            assert "late" in found
            assert f"k{199 - number:04d}" not in found
            assert {f"k{n:04d}" for n in range(10, 190)} <= set(found)


async def test_a_table_that_is_not_innodb_has_no_barrier(url: str) -> None:
    await my(url, "CREATE TABLE t (k text) ENGINE=MyISAM", "CREATE VIEW v AS SELECT k FROM t")
    for options in ({"table": "t", "columns": ["k"]}, {"table": "v", "columns": ["k"]},
                    {"queries": [{"name": "q", "sql": "select k from t"}]}):  # fmt: skip
        async with source_of(url, **options) as source:
            preflight = await source.preflight(execute=True)
        assert preflight.barrier == ""
        assert "t (MyISAM) is not InnoDB" in preflight.barrier_missing


async def test_a_read_only_server_is_refused_for_execute(url: str) -> None:
    await my(url, "CREATE TABLE t (k text)", "SET GLOBAL read_only = 1")
    try:
        async with source_of(url, table="t", columns=["k"]) as source:
            with pytest.raises(ConfigurationError, match="reads the primary"):
                await source.preflight(execute=True)
            preflight = await source.preflight(execute=False)
            assert any("replica" in warning for warning in preflight.warnings)
    finally:
        await my(url, "SET GLOBAL read_only = 0")


async def test_another_server_behind_the_same_address_is_noticed(url: str) -> None:
    await my(url, "CREATE TABLE t (k text)")
    async with source_of(url, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        preflight = await source.preflight(execute=True)
        await my(url, "SET GLOBAL server_id = 4711")  # as if a proxy had chosen another one
        try:
            for call in (
                source.fingerprint(),
                source.referenced(["a"]),
                source.barrier(1),
                read(source, preflight),
            ):
                with pytest.raises(SourceError, match="another server"):
                    await call
        finally:
            await my(url, "SET GLOBAL server_id = 1")


async def test_the_fingerprint_changes_with_the_schema_and_not_with_data(url: str) -> None:
    await my(url, "CREATE TABLE t (k varchar(50), n int) PARTITION BY RANGE (n) (PARTITION p1 VALUES LESS THAN (10))",
             "CREATE TABLE other (k text)", "CREATE TABLE plain (k text)")  # fmt: skip
    tables = [{"table": "t", "columns": ["k"]}, {"table": "plain", "columns": ["k"]}]
    async with source_of(url, tables=tables) as source:
        before = await source.fingerprint()
        await asyncio.sleep(1.1)  # tables of one second cannot be told apart
        await my(url, "CREATE TABLE plain_new LIKE plain")
        for harmless in ("INSERT INTO t VALUES ('a', 1)", "UPDATE t SET k = 'b'", "DELETE FROM t", "ANALYZE TABLE t",
                         "CREATE INDEX i ON t (k)" if False else "ALTER TABLE other ADD COLUMN x int"):  # fmt: skip
            await my(url, harmless)
            assert await source.fingerprint() == before, harmless
        for change in ("ALTER TABLE t ADD COLUMN x text", "ALTER TABLE t RENAME COLUMN x TO y", "ALTER TABLE t DROP COLUMN y",
                       "ALTER TABLE t ADD PARTITION (PARTITION p2 VALUES LESS THAN (20))",
                       "RENAME TABLE plain TO plain_old, plain_new TO plain", "DROP TABLE plain"):  # fmt: skip
            await my(url, change)
            after = await source.fingerprint()
            assert after != before, change
            before = after


async def test_a_server_that_dies_half_way_is_an_error_and_no_short_read(url: str) -> None:
    await my(
        url,
        "CREATE TABLE t (k varchar(100))",
        "SET sql_log_bin = 0",
        f"INSERT INTO t SELECT repeat('k', 90) FROM {numbers(300000)}",
    )
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        seen = 0
        with pytest.raises(SourceError):
            async with source.snapshot() as snapshot:
                async for batch in snapshot.values(preflight.columns[0], 1000):
                    if not seen:
                        await my(url, f"KILL {_thread(snapshot)}")
                    seen += len(batch)
        assert 0 < seen < 300_000


def _thread(snapshot: object) -> int:
    return int(snapshot._session.thread_id)  # type: ignore[attr-defined]


async def test_a_cancelled_reader_leaves_no_session_on_the_server(url: str) -> None:
    await my(url, "CREATE TABLE t (k int)", f"INSERT INTO t SELECT seq FROM {numbers(3000)}")
    role = await select_only(url, "s3gc_cancelled")
    slow = "select a.k from t a, t b, t c where a.k + b.k + c.k = -1"

    async def sessions() -> int:
        ((count,),) = await my(
            url, "SELECT count(*) FROM information_schema.processlist WHERE user = 's3gc_cancelled'"
        )
        return int(count)

    async with source_of(role, queries=[{"name": "slow", "sql": slow}]) as source:
        task = asyncio.create_task(read(source))
        async with asyncio.timeout(10):
            while await sessions() == 0:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(10):
            while await sessions():
                await asyncio.sleep(0.05)


async def test_a_slow_consumer_does_not_fill_the_memory(url: str) -> None:
    await my(
        url,
        "CREATE TABLE t (k varchar(1000))",
        "SET sql_log_bin = 0",
        f"INSERT INTO t SELECT repeat('k', 1000) FROM {numbers(100000)}",
    )
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        async with source.snapshot() as snapshot:
            rows = 0
            async for batch in snapshot.values(preflight.columns[0]):
                rows += len(batch)
                if rows < 20_000:
                    await asyncio.sleep(0.3)
                buffer = snapshot._session.connection._proto.buffer  # type: ignore[attr-defined]
                assert len(buffer) < 16 * 1024 * 1024
        assert rows == 100_000


async def test_undeclared_columns_are_sampled_newest_rows_included(url: str) -> None:
    await my(
        url,
        "CREATE TABLE t (id int primary key, k text, late varchar(50), n int, secret text, b blob)",
        f"INSERT INTO t (id, k, secret) SELECT seq, concat('k', seq), 's' FROM {numbers(20000)}",
        "INSERT INTO t (id, late, b) VALUES (20001, 'new/one.jpg', X'00ff')",
        "CREATE VIEW v AS SELECT * FROM t", "CREATE TABLE doc (j json)", "INSERT INTO doc VALUES ('{}')",
    )  # fmt: skip
    async with source_of(url, table="t", columns=["k"], ignore_columns=["t.secret"]) as source:
        name = database(url)
        assert await samples(source, 100) == {
            f"{name}.t.late": ["new/one.jpg"], f"{name}.t.b": [b"\x00\xff"], f"{name}.doc.j": ["{}"],
        }  # fmt: skip
