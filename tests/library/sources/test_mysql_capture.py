"""Change capture on MariaDB: what a drain must have seen, and everything that must end it instead of hiding a row."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.library.sources.helpers import (
    is_mariadb,
    log_end,
    monitor_right,
    my,
    my_connection,
    my_run,
    my_user,
    numbers,
    read,
    reset_log,
    source_of,
    until,
)
from tests.testbed.services import MariaDB, MySQL, start_mariadb

from s3gc.exceptions import CDCError, ConfigurationError
from s3gc.references.cdc.mysql_capture import MySQLCapture
from s3gc.references.cdc.mysql_position import Position
from s3gc.references.types import PrefixReference

TABLE = "CREATE TABLE f (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, k varchar(200), note text, KEY (k))"
#: More than the sockets' buffers hold, so that the server is still sending when a batch is there.
MANY = f"INSERT INTO f (k, note) SELECT CONCAT('k', seq), REPEAT('x', 2000) FROM {numbers(20000)}"


@pytest.fixture(params=["mariadb", "mysql"])
async def url(request: pytest.FixtureRequest) -> str:
    """A database on each server in turn."""
    server: MySQL = request.getfixturevalue(request.param)
    return await server.fresh_database()


@pytest.fixture
async def mariadb_url(mariadb: MariaDB) -> str:
    """A database on MariaDB: for what MySQL has not, or has otherwise."""
    return await mariadb.fresh_database()


@contextlib.asynccontextmanager
async def captured(url: str, *, columns: Any = ("k",), **options: Any) -> AsyncIterator[MySQLCapture]:
    """A capture that is open."""
    async with source_of(url, table=options.pop("table", "f"), columns=columns, **options) as source:
        await source.preflight(execute=False)
        capture = await source.capture()  # type: ignore[attr-defined]
        try:
            await capture.open()
            yield capture
        finally:
            await capture.close()


async def drain(capture: MySQLCapture) -> list[Any]:
    return [value for batch in [batch async for batch in capture.drain()] for _, value in batch]


async def refused(url: str, columns: Any = ("k",), **options: Any) -> str:
    """Why preflight refuses."""
    with pytest.raises(CDCError) as caught:
        async with captured(url, columns=columns, **options):
            pass
    return str(caught.value)


async def dumps(url: str) -> list[Any]:
    return [row for row in await my(url, "SHOW PROCESSLIST") if "Binlog Dump" in str(row[4])]


@contextlib.asynccontextmanager
async def globally(url: str, **settings: object) -> AsyncIterator[None]:
    """Settings of the whole server, and back."""
    before = {name: (await my(url, f"SELECT @@global.{name}"))[0][0] for name in settings}

    def spelled(value: object) -> str:
        return str(value) if isinstance(value, int) else f"'{value}'"

    await my(url, *(f"SET GLOBAL {name} = {spelled(value)}" for name, value in settings.items()))
    try:
        yield
    finally:
        await my(url, *(f"SET GLOBAL {name} = {spelled(value)}" for name, value in before.items()))


# --- what must be seen


async def test_every_commit_since_it_was_opened_is_seen_once_and_nothing_else(url: str) -> None:
    await my(url, TABLE, "INSERT INTO f (k) VALUES ('before')")
    async with captured(url) as capture:
        assert await drain(capture) == []
        await my(url, "CREATE TABLE g (k varchar(9))", "INSERT INTO g VALUES ('other')",
                 "INSERT INTO f (k) VALUES ('a'), (NULL)", "UPDATE f SET k = 'b' WHERE k = 'a'",
                 "DELETE FROM f WHERE k = 'b'", "ANALYZE TABLE f", "FLUSH BINARY LOGS",
                 "INSERT INTO f (k) VALUES ('c')")  # fmt: skip
        assert await drain(capture) == ["a", "b", "c"]
        assert await drain(capture) == []
    assert await dumps(url) == []


async def test_a_transaction_is_seen_after_its_commit_and_never_after_its_rollback(url: str) -> None:
    await my(url, TABLE)
    kept, dropped = await my_connection(url, autocommit=False), await my_connection(url, autocommit=False)
    try:
        for session in (kept, dropped):  # what is taken back leaves no gap locked, in which others wait
            await my_run(session, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        await my_run(kept, "INSERT INTO f (k) VALUES ('kept')")
        async with captured(url) as capture:
            await my_run(dropped, "INSERT INTO f (k) VALUES ('dropped')")
            await my_run(kept, "SAVEPOINT s", "INSERT INTO f (k) VALUES ('taken back')", "ROLLBACK TO s")
            await my(url, "INSERT INTO f (k) VALUES ('now')")
            assert await drain(capture) == ["now"]
            await kept.commit()
            await dropped.rollback()
            assert await drain(capture) == ["kept"]
    finally:
        await kept.ensure_closed()
        await dropped.ensure_closed()


async def test_a_commit_that_waits_for_a_replica_is_in_the_stream_if_it_is_not_in_the_scan(url: str) -> None:
    """In the log already, visible to nobody yet: who asks for the log's end first has it in neither."""
    await my(url, TABLE)
    source, replica = ("master", "slave") if await is_mariadb(url) else ("source", "replica")
    if source == "source":
        await my(url, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
    prefix = f"rpl_semi_sync_{source}"
    semi = {"enabled": 1, "timeout": 60_000, f"wait_no_{replica}": 1, "wait_point": "AFTER_SYNC"}
    async with globally(url, **{f"{prefix}_{name}": value for name, value in semi.items()}):
        writer = asyncio.create_task(my(url, "INSERT INTO f (k) VALUES ('hidden')"))
        try:

            async def hangs() -> bool:
                return any("semi-sync" in str(row[6]) for row in await my(url, "SHOW PROCESSLIST"))

            await until(hangs)
            async with captured(url) as capture, source_of(url, table="f", columns=["k"]) as reading:
                assert list((await read(reading)).values()) == [[]]
                assert await drain(capture) == ["hidden"]
        finally:
            await my(url, f"SET GLOBAL {prefix}_enabled = 0")
            await writer
    if source == "source":
        await my(url, "UNINSTALL PLUGIN rpl_semi_sync_source")


async def test_a_log_with_an_event_that_the_server_itself_finds_too_large_is_followed(url: str) -> None:
    """An UPDATE of a large value is twice the value: more than max_allowed_packet, and BINLOG_GTID_POS knows nothing."""
    await my(url, TABLE, "ALTER TABLE f MODIFY note longtext")
    await my(
        url, "INSERT INTO f (note) VALUES (REPEAT('x', 9000000))", "UPDATE f SET note = CONCAT(note, 'y')"
    )
    if await is_mariadb(url):
        file, offset = await log_end(url)
        assert await my(url, f"SELECT BINLOG_GTID_POS('{file}', {offset})") == ((None,),)
    async with captured(url) as capture:
        await my(url, "INSERT INTO f (k) VALUES ('seen')")
        assert await drain(capture) == ["seen"]
    await my(url, "FLUSH BINARY LOGS")


async def test_scan_and_stream_together_miss_nothing_of_busy_writers(url: str) -> None:
    """Four writers; whatever is committed when a drain begins was in the scan or came by."""
    await my(url, TABLE)
    stop = asyncio.Event()
    committed: set[str] = set()

    async def write(number: int) -> None:
        connection, count = await my_connection(url, autocommit=False), 0
        while not stop.is_set():
            names = [f"{number}/{count}/{place}" for place in range(count % 3 + 1)]
            await my_run(connection, *(f"INSERT INTO f (k) VALUES ('{name}')" for name in names))
            if count % 5 == 4:
                await connection.rollback()
            else:
                await connection.commit()
                committed.update(names)
            count += 1
        await connection.ensure_closed()

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    try:
        for _ in range(2):
            async with captured(url) as capture, source_of(url, table="f", columns=["k"]) as source:
                (found,) = (await read(source)).values()
                seen = set(found)
                for _ in range(4):
                    known = set(committed)
                    seen.update(await drain(capture))
                    assert known <= seen
    finally:
        stop.set()
        await asyncio.gather(*writers)
    assert len(committed) > 20


async def test_values_are_what_a_scan_would_show(url: str) -> None:
    """Names by position, bytes by the catalog's character sets, signs, words, padding."""
    types = {
        "a": ("varchar(40) CHARACTER SET latin1", "'é€.jpg'"),
        "b": ("char(10) CHARACTER SET utf8mb4", "'🦀'"),
        "c": ("text CHARACTER SET utf16", "'Größe/日本'"),
        "d": ("varchar(20) CHARACTER SET cp1251", "'Юг.jpg'"),
        "e": ("enum('x','y''z','Ł') CHARACTER SET latin2", "'y''z'"),
        "g": ("set('p','q','r')", "'r,p'"),
        "h": ("bigint unsigned", "18446744073709551615"),
        "i": ("int(6) zerofill", "42"),
        "j": ("decimal(10,7)", "-0.0000001"),
        "l": ("json", '\'{"k": "ü\\\\/1"}\''),
        "m": ("varbinary(20)", "X'61FF00'"),
        "n": ("binary(6)", "X'6162FF'"),
        "o": ("uuid" if await is_mariadb(url) else "char(36)", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a00'"),
        "p": ("char(200) CHARACTER SET utf8mb4", "'wide'"),
        "q": ("longtext", "REPEAT('x', 70000)"),
        "s": ("varchar(50) AS (CONCAT('s/', h)) STORED", ""),
    }
    columns = ", ".join(f"{name} {of}" for name, (of, _) in types.items())
    await my(
        url,
        f"CREATE TABLE f (id int PRIMARY KEY, at timestamp, fl float, {columns}, r varchar(9) DEFAULT 'x')",
    )
    given = {name: literal for name, (_, literal) in types.items() if literal}
    template = {"template": "t/{i}/{o}.jpg"}
    async with captured(url, columns=[*types, template]) as capture:
        await my(url, f"INSERT INTO f (id, {', '.join(given)}) VALUES (1, {', '.join(given.values())}), "
                 f"(2, {', '.join('NULL' for _ in given)})")  # fmt: skip
        streamed: dict[int, set[Any]] = {}
        async for batch in capture.drain():
            for index, value in batch:
                streamed.setdefault(index, set()).add(value)
    async with source_of(url, table="f", columns=[*types, template]) as source:
        scanned = list((await read(source)).values())
    for index, name in enumerate([*types, "template"]):
        assert streamed.get(index, set()) >= set(scanned[index]), name
        assert streamed.get(index) or not scanned[index], name
    assert any(type(value) is PrefixReference for value in streamed[len(types)])


async def test_random_rows_of_a_wide_partitioned_table_are_what_a_scan_would_show(url: str) -> None:
    """Bitmaps of NULLs, lengths of one and two bytes, partition moves: one bit off, and values would be others'."""
    chance = random.Random(7)
    inet6 = "inet6" if await is_mariadb(url) else "varchar(39)"
    texts = [chr(c) for c in (65, 0xE9, 0x142, 0x20AC, 0x65E5, 0x1F980, 39, 92, 37, 32)]
    fillers = ["tinyint", "smallint unsigned", "mediumint", "float", "double", "datetime(3)", "time(6)", "date", "year",
               "timestamp NULL", "bit(11)", "decimal(30,11)", inet6, "enum('a','b')", "set('a','b')", "tinytext",
               "varbinary(400)", "char(90) CHARACTER SET utf8mb4", "mediumblob", "json"]  # fmt: skip
    values = ["1", "2", "3", "1.5", "-2.5", "'2024-01-02 03:04:05.678'", "'-11:22:33.4'", "'2024-01-02'", "2024",
              "'2024-01-02 03:04:05'", "b'101'", "-12345.6789", "'::1'", "'b'", "'a,b'", "'t'", "REPEAT('v', 300)", "'c'",
              "REPEAT('m', 70000)", "JSON_OBJECT('a', 1)"]  # fmt: skip
    watched = {
        "a": "varchar(50)",
        "b": "varchar(300) CHARACTER SET utf16",
        "c": "char(70)",
        "d": "blob",
        "e": "binary(9)",
    }

    def text() -> str:
        return "".join(chance.choices(texts, k=chance.randrange(12)))

    def literal(name: str) -> str:
        if chance.random() < 0.3:
            return "NULL"
        if name in "de":
            return f"X'{chance.randbytes(chance.randrange(9)).hex()}'"
        return f"CONVERT(X'{text().encode().hex()}' USING utf8mb4)"

    names: list[str] = []
    definitions: list[str] = []
    for number in range(60):
        names.append(f"z{number}")
        definitions.append(f"z{number} {fillers[number % len(fillers)]}")
        if number % 12 == 7:
            name = list(watched)[number // 12]
            names.append(name)
            definitions.append(f"{name} {watched[name]}")
    await my(
        url,
        f"CREATE TABLE f (id int PRIMARY KEY, {', '.join(definitions)}) PARTITION BY HASH (id) PARTITIONS 3",
    )
    async with captured(url, columns=list(watched)) as capture:
        for number in range(60):
            row = [
                literal(name) if name in watched
                else "NULL" if chance.random() < 0.4 else values[int(name[1:]) % len(fillers)]
                for name in names
            ]  # fmt: skip
            await my(url, f"INSERT INTO f (id, {', '.join(names)}) VALUES ({number}, {', '.join(row)})",
                     f"UPDATE f SET id = {number + 1000}, a = {literal('a')} WHERE id = {number}")  # fmt: skip
        streamed: dict[int, set[Any]] = {}
        async for batch in capture.drain():
            for index, value in batch:
                streamed.setdefault(index, set()).add(value)
    async with source_of(url, table="f", columns=list(watched)) as source:
        scanned = list((await read(source)).values())
    assert all(len(found) > 20 for found in scanned)
    for index, name in enumerate(watched):
        assert streamed[index] >= set(scanned[index]), name
        # Column "a" was updated; of the others nothing may come that no row holds.
        assert name == "a" or streamed[index] == set(scanned[index]), name


async def test_a_dump_that_is_killed_goes_on_where_it_was(url: str) -> None:
    await my(url, TABLE)
    async with captured(url) as capture:
        await my(url, MANY)
        found: set[Any] = set()
        killed = 0
        async for batch in capture.drain():
            found.update(value for _, value in batch)
            if killed < 3:
                for row in await dumps(url):
                    await my(url, f"KILL {row[0]}")
                    killed += 1
        assert killed
        assert len(found) == 20_000
        await my(url, "INSERT INTO f (k) VALUES ('after')")
        assert await drain(capture) == ["after"]
    assert await dumps(url) == []


async def test_a_drain_that_is_cancelled_leaves_no_session_and_no_second_chance(url: str) -> None:
    await my(url, TABLE)
    async with captured(url) as capture:
        await my(url, MANY)
        begun = asyncio.Event()

        async def slowly() -> None:
            async for _ in capture.drain():
                begun.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(slowly())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async def gone() -> bool:
            return not await dumps(url)

        await until(gone)
        with pytest.raises(CDCError, match="ended with an error before"):
            await drain(capture)


# --- what must end it

#: The reader does not know every status of MySQL's statements; then it ends all the same.
_STATEMENT = "binlog_format=ROW|cannot be read"


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["ALTER TABLE f ADD z int", "INSERT INTO f (k) VALUES ('x')"], "was changed"),
        (["TRUNCATE f"], "was changed"),
        (["CREATE TABLE f_new LIKE f", "RENAME TABLE f TO f_old, f_new TO f"], "was changed"),
        (["CREATE INDEX i ON f (note(9))"], "was changed"),
        (["SET SESSION binlog_format = STATEMENT", "INSERT INTO f (k) VALUES (RAND())"], _STATEMENT),
        (["SET SESSION binlog_format = MIXED", "INSERT INTO f (k) VALUES ('x')"], _STATEMENT),
        (["XA COMMIT 'early'"], "prepared transaction"),
    ],
    ids=["alter", "truncate", "swap", "index", "statement", "mixed", "xa"],
)
async def test_a_statement_that_hides_rows_or_changes_their_meaning_ends_it(
    url: str, statements: list[str], words: str
) -> None:
    await my(url, TABLE)
    await my(url, "XA START 'early'", "INSERT INTO f (k) VALUES ('prepared')", "XA END 'early'",
             "XA PREPARE 'early'")  # fmt: skip
    try:
        async with captured(url) as capture:
            if "XA" not in statements[0]:
                await my(url, "XA ROLLBACK 'early'")
            await my(url, *statements)
            with pytest.raises(CDCError, match=words):
                await drain(capture)
            with pytest.raises(CDCError, match="ended with an error before"):
                await drain(capture)
    finally:
        with contextlib.suppress(Exception):
            await my(url, "XA ROLLBACK 'early'")


@pytest.mark.parametrize(
    "ddl",
    ["MODIFY k varchar(200) CHARACTER SET latin1", "ADD first int FIRST", "ADD CONSTRAINT FOREIGN KEY (k) REFERENCES pa (k) ON UPDATE CASCADE"],
    ids=["charset", "place", "cascade"],
)  # fmt: skip
async def test_a_table_that_was_changed_between_preflight_and_scan_is_not_followed(
    url: str, ddl: str
) -> None:
    await my(url, TABLE, "CREATE TABLE pa (k varchar(200) PRIMARY KEY)")
    async with source_of(url, table="f", columns=["k", "note"]) as source:
        await source.preflight(execute=False)
        capture = await source.capture()  # type: ignore[attr-defined]
        await my(url, f"ALTER TABLE f {ddl}")
        with pytest.raises(CDCError, match="was changed after it was checked"):
            await capture.open()
        await capture.close()


async def test_ddl_on_a_table_of_the_same_name_elsewhere_is_nobody_s_business(
    url: str, mariadb: MariaDB
) -> None:
    other = await mariadb.fresh_database()
    await my(url, TABLE)
    async with captured(url) as capture:
        await my(other, TABLE, "ALTER TABLE f ADD z int", "INSERT INTO f (k) VALUES ('other')")
        await my(url, "INSERT INTO f (k) VALUES ('mine')", "GRANT SELECT ON f TO root@'127.0.0.1'")
        assert await drain(capture) == ["mine"]


async def test_prepared_transactions_that_were_seen_may_commit(url: str) -> None:
    await my(url, TABLE)
    async with captured(url) as capture:
        await my(url, "XA START 'q'", "INSERT INTO f (k) VALUES ('xa')", "XA END 'q'", "XA PREPARE 'q'")
        assert await drain(capture) == ["xa"]
        await my(url, "XA COMMIT 'q'", "INSERT INTO f (k) VALUES ('b')")
        assert await drain(capture) == ["b"]


async def test_a_compressed_event_ends_it(url: str) -> None:
    await my(url, TABLE)
    async with captured(url) as capture:
        here = {"log_bin_compress": 1, "log_bin_compress_min_len": 10}
        async with globally(
            url, **(here if await is_mariadb(url) else {"binlog_transaction_compression": 1})
        ):
            await my(url, "INSERT INTO f (k) VALUES (REPEAT('n', 150))")
        with pytest.raises(CDCError, match="compress"):
            await drain(capture)


@pytest.mark.parametrize("kinds", [("CRC32", "NONE"), ("NONE", "CRC32")], ids="-".join)
async def test_a_log_of_two_kinds_of_checksums_ends_it(url: str, kinds: tuple[str, str]) -> None:
    """Read as the other kind, each event would be four bytes short, its last rows perhaps missing."""
    await my(url, "CREATE TABLE f (k char(1))")
    async with globally(url, binlog_checksum=kinds[0]):
        async with captured(url) as capture:
            await my(url, "INSERT INTO f VALUES ('a')")
            assert await drain(capture) == ["a"]
            await my(url, "INSERT INTO f VALUES ('b'), ('c')", f"SET GLOBAL binlog_checksum = {kinds[1]}",
                     "INSERT INTO f VALUES ('d'), ('e')")  # fmt: skip
            with pytest.raises(CDCError, match="checksum"):
                await drain(capture)
        async with captured(url) as capture:
            await my(url, "INSERT INTO f VALUES ('x'), ('y')")
            assert await drain(capture) == ["x", "y"]


async def test_a_setting_that_changes_in_mid_cycle_is_seen_at_the_next_drain(url: str) -> None:
    await my(url, TABLE)
    async with captured(url) as capture, globally(url, binlog_format="STATEMENT"):
        with pytest.raises(CDCError, match="SET GLOBAL binlog_format = ROW"):
            await drain(capture)


async def test_a_log_that_was_purged_or_reset_ends_it(url: str) -> None:
    await my(url, TABLE)
    async with captured(url) as purged, captured(url) as reset:
        await my(url, "INSERT INTO f (k) VALUES ('x')", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        last = (await log_end(url))[0]

        async def is_purged() -> bool:  # a file that a session still reads stays
            await my(url, f"PURGE BINARY LOGS TO '{last}'")
            return (await my(url, "SHOW BINARY LOGS"))[0][0] == last

        await until(is_purged)
        with pytest.raises(CDCError, match="does not have the binary log"):
            await drain(purged)
        await reset_log(url)
        await my(url, "INSERT INTO f (k) VALUES ('y')")
        with pytest.raises(CDCError, match="reset|does not have|did not come|has more GTIDs"):
            await drain(reset)


async def test_a_log_that_grew_again_under_the_same_name_is_not_taken_for_the_old_one(url: str) -> None:
    await reset_log(url)
    await my(url, TABLE)
    async with captured(url) as capture:
        position = await log_end(url)
        await asyncio.sleep(1.05)  # files of one second cannot be told apart
        await reset_log(url)
        await my(url, "DROP TABLE f", TABLE, "INSERT INTO f (k) VALUES ('lost')")
        while (now := await log_end(url))[1] <= position[1]:
            await my(url, "INSERT INTO f (k) VALUES ('lost')")
        assert now[0] == position[0]
        with pytest.raises(CDCError):
            await drain(capture)


async def test_a_stream_that_falls_short_of_the_log_s_end_is_waited_for_and_then_not_believed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL tells an end before it sends it; what never comes is of another log."""
    await my(url, TABLE)
    ends = []
    for name in "ab":
        await my(url, f"INSERT INTO f (k) VALUES ('{name}')")
        ends.append(await log_end(url))
    expected = Position(ends[1][0], 2 * ends[1][1] - ends[0][1])
    later: list[asyncio.Task[Any]] = []

    async def ahead(_: MySQLCapture) -> Any:
        async def insert() -> None:
            await asyncio.sleep(0.6)  # the first dump has ended by then, or the second sees it all the same
            await my(url, "INSERT INTO f (k) VALUES ('c')")

        later.append(asyncio.create_task(insert()))
        return expected, {}

    async with captured(url) as capture:
        monkeypatch.setattr(MySQLCapture, "_fence", ahead)
        assert await drain(capture) == ["c"]
        monkeypatch.setattr("s3gc.references.cdc.mysql_reader._WAITS", 3)
        expected = Position(expected.file, expected.offset + 1_000_000)
        with pytest.raises(CDCError, match="ended at .* before"):
            await drain(capture)
    await asyncio.gather(*later)


async def test_another_server_a_replica_and_a_log_with_gaps_are_refused(
    mariadb_url: str, testbed_home: Any, mariadb: MariaDB
) -> None:
    url = mariadb_url
    await my(url, TABLE)
    other = start_mariadb(
        testbed_home, "mariadb-other", ["--server-id=2", "--binlog-ignore-db=secret", "--skip-slave-start"]
    )
    try:
        said = await refused(url, cdc={"backend": "mysql", "url": other.url})
        assert "another server" in said
        assert other.password not in said
        here = await other.fresh_database()
        await my(here, TABLE)
        assert "leaves databases out (binlog_do_db or binlog_ignore_db: secret)" in await refused(here)
        file, offset = await log_end(url)
        await my(
            here,
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={mariadb.port}, MASTER_USER='{mariadb.user}', "
            f"MASTER_PASSWORD='{mariadb.password}', MASTER_LOG_FILE='{file}', MASTER_LOG_POS={offset}",
            "START SLAVE",
        )
        assert "set log_slave_updates" in await refused(here)
        await my(here, "STOP SLAVE")
    finally:
        other.close()


async def test_the_words_of_another_database_are_refused(url: str) -> None:
    await my(url, TABLE)
    for cdc in ({"backend": "postgres"}, {"backend": "mysql", "url": "postgresql://u:secret@h/d"}):
        with pytest.raises(ConfigurationError, match="cdc.backend is mysql") as caught:
            async with captured(url, cdc=cdc):
                pass
        assert "secret" not in str(caught.value)


async def test_a_server_without_a_binary_log_is_refused(testbed_home: Any) -> None:
    other = start_mariadb(testbed_home, "mariadb-without-log", ["--skip-log-bin"])
    try:
        url = await other.fresh_database()
        await my(url, TABLE)
        assert "log_bin is off" in await refused(url)
    finally:
        other.close()


# --- what preflight names


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"binlog_format": "STATEMENT"}, "SET GLOBAL binlog_format = ROW"),
        ({"binlog_format": "MIXED"}, "binlog_format is MIXED"),
        ({"log_bin_compress": 1}, "SET GLOBAL log_bin_compress = OFF"),
    ],
    ids=["statement", "mixed", "compressed"],
)
async def test_preflight_names_a_setting_and_the_way_on(
    url: str, settings: dict[str, Any], words: str
) -> None:
    await my(url, TABLE)
    if "log_bin_compress" in settings and not await is_mariadb(url):
        settings, words = (
            {"binlog_transaction_compression": 1},
            "SET GLOBAL binlog_transaction_compression = OFF",
        )
    async with globally(url, **settings):
        assert words in await refused(url)


async def test_preflight_gives_the_exact_grant_and_it_suffices(url: str) -> None:
    await my(url, TABLE)
    database = url.rpartition("/")[2]
    reader = await my_user(url, "cdc_reader", f"GRANT SELECT ON {database}.* TO {{user}}")
    right = await monitor_right(url)
    statement = f"GRANT REPLICATION SLAVE, {right} ON *.* TO 'cdc_reader'@'%'"
    assert statement in await refused(reader)
    await my(url, f"GRANT {right} ON *.* TO cdc_reader")
    assert statement in await refused(reader)
    # The rights may be an account's of its own: the application's needs none.
    dumper = await my_user(url, "cdc_dumper", f"GRANT SELECT ON {database}.* TO {{user}}")
    assert "'cdc_dumper'@'%'" in await refused(reader, cdc={"backend": "mysql", "url": dumper})
    await my(url, f"REVOKE {right} ON *.* FROM cdc_reader",
             statement.replace("cdc_reader", "cdc_dumper"))  # fmt: skip
    async with captured(reader, cdc={"backend": "mysql", "url": dumper}) as capture:
        await my(url, "INSERT INTO f (k) VALUES ('a')")
        assert await drain(capture) == ["a"]


async def test_without_process_a_stream_is_no_substitute_for_asking_under_a_share_lock(url: str) -> None:
    await my(url, TABLE)
    reader = await my_user(url, "cdc_locker", f"GRANT SELECT ON {url.rpartition('/')[2]}.* TO {{user}}",
                           f"GRANT REPLICATION SLAVE, {await monitor_right(url)} ON *.* TO {{user}}")  # fmt: skip
    keyed = [{"name": "k", "format": "key"}]
    assert "GRANT PROCESS ON *.* TO 'cdc_locker'@'%'" in await refused(reader, columns=keyed)
    await my(url, "GRANT PROCESS ON *.* TO cdc_locker")
    async with captured(reader, columns=keyed) as capture:
        assert await drain(capture) == []


async def left_over(url: str, **options: Any) -> dict[str, str]:
    """What is read again beside an open capture: label without its database -> why."""
    async with source_of(url, **options) as source:
        columns = (await source.preflight(execute=False)).columns
        capture = await source.capture()  # type: ignore[attr-defined]
        await capture.close()
    return {
        columns[index].label.partition(".")[2] or columns[index].label: why
        for index, why in capture.left_over.items()
    }


async def test_what_a_foreign_key_changes_below_the_log_is_read_again_unless_its_parent_is_followed(
    url: str,
) -> None:
    await my(url, "CREATE TABLE gp (k varchar(50) PRIMARY KEY)",
             "CREATE TABLE pa (k varchar(50) PRIMARY KEY, FOREIGN KEY (k) REFERENCES gp (k) ON UPDATE CASCADE)",
             "CREATE TABLE f (id int PRIMARY KEY, k varchar(50), t varchar(9), "
             "FOREIGN KEY (k) REFERENCES pa (k) ON DELETE SET NULL ON UPDATE CASCADE)",
             "INSERT INTO gp VALUES ('old')", "INSERT INTO pa VALUES ('old')", "INSERT INTO f VALUES (1, 'old', 't')")  # fmt: skip
    reader = await my_user(url, "cdc_child", f"GRANT SELECT ON {url.rpartition('/')[2]}.* TO {{user}}",
                           f"GRANT REPLICATION SLAVE, {await monitor_right(url)} ON *.* TO {{user}}")  # fmt: skip
    f = {"table": "f", "columns": ["k", "t", {"template": "t/{k}"}]}
    pa, gp = {"table": "pa", "columns": ["k"]}, {"table": "gp", "columns": ["k"]}
    assert set(await left_over(reader, tables=[f])) == {"f.k", "f:t/{k}"}
    assert set(await left_over(reader, tables=[f, pa])) == {"f.k", "f:t/{k}", "pa.k"}, "pa is a child as well"
    assert set(await left_over(reader, tables=[f, pa, gp])) == {"f:t/{k}"}
    assert "gp.k" in (await left_over(reader, tables=[f, pa]))["pa.k"]
    async with captured(reader, tables=[pa, gp]) as capture:
        await my(url, "UPDATE gp SET k = 'new'")
        assert set(await drain(capture)) == {"new"}  # newer MySQL logs what it cascades as well


async def test_minimal_row_images_count_defaults_and_unchanged_columns_rightly(url: str) -> None:
    await my(url, "CREATE TABLE f (id int AUTO_INCREMENT PRIMARY KEY, k varchar(50) DEFAULT 'it''s/a.png', "
             "e enum('x','y') NOT NULL, n int)")  # fmt: skip
    async with globally(url, binlog_row_image="MINIMAL"):
        async with captured(url, columns=["k", "e"]) as capture:
            await my(url, "INSERT INTO f (n) VALUES (1)")
            assert await drain(capture) == ["it's/a.png", "x"]
            await my(url, "UPDATE f SET n = 2")
            assert await drain(capture) == []
            await my(url, "UPDATE f SET k = 'b'")
            assert await drain(capture) == ["b"]
        assert "SET GLOBAL binlog_row_image = FULL" in await refused(url, columns=[{"template": "t/{k}/{n}"}])
        await my(url, "ALTER TABLE f MODIFY k varchar(50) DEFAULT (CONCAT('a', 'b'))")
        assert "has an expression for a default" in await refused(url)


async def test_one_session_s_minimal_images_end_a_capture_that_needs_whole_ones(url: str) -> None:
    await my(url, TABLE)
    async with captured(url, columns=[{"template": "t/{k}/{note}.jpg"}]) as capture:
        await my(url, "SET SESSION binlog_row_image = MINIMAL", "INSERT INTO f (k) VALUES ('x')")
        with pytest.raises(CDCError, match="incomplete row images"):
            await drain(capture)


async def test_what_the_log_does_not_show_exactly_is_read_again_beside_it(url: str) -> None:
    only_mariadb = {"c": "read", "h": "rows"} if await is_mariadb(url) else {}
    await my(url, "CREATE TABLE f (id int PRIMARY KEY, k varchar(90), at timestamp, "
             "s varchar(90) CHARACTER SET swe7, v varchar(90) AS (CONCAT('v/', id)) VIRTUAL)",
             "CREATE VIEW w AS SELECT k FROM f")  # fmt: skip
    if only_mariadb:
        await my(url, "CREATE TABLE c (k varchar(90), z text COMPRESSED)",
                 f"{TABLE.replace(' f ', ' h ')} WITH SYSTEM VERSIONING")  # fmt: skip
    found = await left_over(
        url,
        table="f", columns=["k", "at", "s", "v", {"template": "x/{id}/{at}"}],
        tables=[{"table": table, "columns": ["k"]} for table in (*only_mariadb, "w")],
        queries=[{"name": "q", "sql": "SELECT k FROM f"}],
    )  # fmt: skip
    assert {label: why.split(" ")[-1] for label, why in found.items()} == {
        "f.at": "log", "f.s": "here", "f.v": "(VIRTUAL)", "f:x/{id}/{at}": "log", "w.k": "log", "query q": "log",
        **{f"{table}.k": why for table, why in only_mariadb.items()},
    }  # fmt: skip
    assert "k cannot be followed: a view's rows are not in the binary log" in await refused(url, table="w")
