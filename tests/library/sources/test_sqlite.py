"""SQLite as a source: values of every storage class, one snapshot, waiting for its one writer, never a new file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.library.sources.helpers import read, read_once, samples, source_of

from s3gc.exceptions import ConfigurationError, SourceError
from s3gc.references.types import PrefixReference


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app data.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    yield connection
    connection.close()


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


async def test_every_storage_class_comes_out_as_text_or_bytes(db: sqlite3.Connection, url: str) -> None:
    db.execute("CREATE TABLE t (v)")
    db.executemany(
        "INSERT INTO t VALUES (?)", [("a.jpg",), (b"\xff\x00",), (7,), (1.5,), (None,), ("",), ("tab\tnl\n",)]
    )
    db.execute("INSERT INTO t VALUES (CAST(x'636166e9' AS TEXT))")
    found = (await read_once(url, table="t", columns=["v"]))["main.t.v"]
    assert set(found) == {"a.jpg", b"\xff\x00", "7", "1.5", "", "tab\tnl\n", "caf\udce9"}


async def test_relative_absolute_and_percent_encoded_paths_are_understood(
    db: sqlite3.Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.execute("CREATE TABLE t (v)")
    db.execute("INSERT INTO t VALUES ('x')")
    monkeypatch.chdir(path.parent)
    for url in (
        f"sqlite:///{path}", "sqlite:///app data.db", "sqlite:///app%20data.db", f"sqlite+aiosqlite:///{path}",
    ):  # fmt: skip
        assert await read_once(url, table="t", columns=["v"]) == {"main.t.v": ["x"]}


async def test_a_missing_file_is_an_error_with_the_nearest_name_and_is_never_made(
    db: sqlite3.Connection, path: Path
) -> None:
    missing = path.with_name("app_data.db")
    with pytest.raises(ConfigurationError, match="no such file; did you mean 'app data.db'"):
        await read_once(f"sqlite:///{missing}", table="t", columns=["v"])
    assert not missing.exists()
    for url in ("sqlite://", "sqlite:///:memory:", "sqlite://relative.db"):
        with pytest.raises(ConfigurationError):
            await read_once(url, table="t", columns=["v"])


async def test_a_file_that_is_no_database_is_said_to_be_none(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConfigurationError, match="not an SQLite database"):
        await read_once(f"sqlite:///{path}", table="t", columns=["v"])


async def test_all_problems_come_at_once_with_the_nearest_names(db: sqlite3.Connection, url: str) -> None:
    db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, avatar_url TEXT)")
    with pytest.raises(ConfigurationError) as caught:
        await read_once(
            url,
            tables=[
                {"table": "user", "columns": ["x"]},
                {
                    "table": "users",
                    "columns": ["avatar", {"template": "{idd}.jpg"}, {"template": "{id:shout}"}],
                },
                {"table": "users", "columns": ["id"], "where": "nope = 1"},
                {"table": "users", "columns": ["id"], "where": "1); DELETE FROM users; --"},
            ],
            queries=[{"name": "q", "sql": "select nope from users"}],
            ignore_columns=["users.avatar_ur", "usrs.*"],
        )
    message = caught.value.message
    for part in (
        "'main.users'", "'avatar_url'", "no column 'idd'", "no filter 'shout'", "where of users: no such column: nope",
        "query 'q': no such column: nope", "no column 'avatar_ur'; did you mean 'avatar_url'", "'usrs.*' names no table",
    ):  # fmt: skip
        assert part in message
    assert len(caught.value.details["errors"]) == 9  # type: ignore[arg-type]
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


async def test_names_are_quoted_and_a_column_dropped_meanwhile_never_reads_as_its_name(
    db: sqlite3.Connection, url: str
) -> None:
    db.execute('CREATE TABLE "we""ird; drop" ("col ""x" TEXT, y TEXT)')
    db.execute("INSERT INTO \"we\"\"ird; drop\" VALUES ('k', 'l')")
    async with source_of(url, table='we"ird; drop', columns=['COL "X']) as source:
        preflight = await source.preflight(execute=True)
        assert await read(source, preflight) == {'main.we"ird; drop.col "x': ["k"]}
        db.execute('ALTER TABLE "we""ird; drop" DROP COLUMN "col ""x"')
        with pytest.raises(SourceError, match="schema changed"):
            await read(source, preflight)


async def test_queries_views_where_and_templates(db: sqlite3.Connection, url: str) -> None:
    db.execute("CREATE TABLE u (id INTEGER, tenant TEXT, k TEXT)")
    db.executemany("INSERT INTO u VALUES (?, ?, ?)", [(1, "a", "x"), (2, None, "y"), (3, "c", None)])
    db.execute("CREATE VIEW v AS SELECT k FROM u WHERE id = 1")
    found = await read_once(
        url,
        tables=[
            {"table": "u", "columns": [{"template": "t/{tenant}/{id:idpart}.png"}]},
            {"table": "u", "columns": ["k"], "where": "id > 1 -- late"},
            {"table": "v", "columns": ["k"]},
        ],
        queries=[{"name": "q", "sql": "select k || '.jpg', k, k from u order by id;"}],
    )
    template = found["main.u:t/{tenant}/{id:idpart}.png"]
    assert set(template) == {"t/a/000/000/001.png", "t/", "t/c/000/000/003.png"}
    assert [type(value) for value in template if value == "t/"] == [PrefixReference]
    assert found["main.u.k"] == ["y"]
    assert found["main.v.k"] == ["x"]
    assert found["query q"] == ["x.jpg", "y.jpg"]


async def test_a_template_that_would_reference_everything_is_refused(
    db: sqlite3.Connection, url: str
) -> None:
    db.execute("CREATE TABLE u (id INTEGER)")
    db.execute("INSERT INTO u VALUES (1), (NULL)")
    with pytest.raises(ConfigurationError, match="column 'id' is NULL in 1 row,"):
        await read_once(url, table="u", columns=[{"template": "./{id}"}])


async def test_one_snapshot_sees_a_row_that_moves_between_tables(db: sqlite3.Connection, url: str) -> None:
    db.execute("CREATE TABLE a (k)")
    db.execute("CREATE TABLE b (k)")
    db.execute("INSERT INTO b VALUES ('moving')")
    async with source_of(
        url, tables=[{"table": "a", "columns": ["k"]}, {"table": "b", "columns": ["k"]}]
    ) as source:
        preflight = await source.preflight(execute=True)
        seen = []
        async with source.snapshot() as snapshot:
            for column in preflight.columns:
                async for batch in snapshot.values(column):
                    seen += batch
                db.execute("INSERT INTO a SELECT k FROM b")
                db.execute("DELETE FROM b")
        assert seen == ["moving"]


async def test_exact_keys_are_asked_for_as_text_blob_and_number(db: sqlite3.Connection, url: str) -> None:
    db.execute("CREATE TABLE t (k TEXT COLLATE NOCASE, n INTEGER)")
    db.executemany(
        "INSERT INTO t VALUES (?, ?)",
        [
            ("a.jpg", 1),
            ("/b.jpg", 2),
            ("C.JPG", 3),
            (b"blob.jpg", 4),
            (bytes.fromhex("00ff"), 5),
            ("gone", 6),
        ],
    )
    columns = [{"name": "k", "format": "key", "keyPrefixes": ["media/"]}, {"name": "n", "format": "key"}]
    async with source_of(url, table="t", columns=columns, where="n <> 6") as source:
        assert (await source.preflight(execute=True)).can_query
        asked = [
            "a.jpg",
            "b.jpg",
            "c.jpg",
            "blob.jpg",
            "00ff",
            "gone",
            "7",
            "4",
            "media/a.jpg",
            "media/b.jpg",
            "medi",
        ]
        found = await source.referenced(asked)
    assert set(found) == {"a.jpg", "b.jpg", "blob.jpg", "00ff", "4", "media/a.jpg", "media/b.jpg"}
    assert found["4"] == "main.t.n"


async def test_a_source_with_another_format_says_why_it_cannot_be_asked(
    db: sqlite3.Connection, url: str
) -> None:
    db.execute("CREATE TABLE t (k TEXT)")
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        assert not preflight.can_query
        assert preflight.query_reason == "main.t.k has format auto, not key"
        with pytest.raises(SourceError, match="format auto"):
            await source.referenced(["a"])


async def test_the_barrier_waits_for_an_open_writer_and_not_for_a_reader(
    db: sqlite3.Connection, url: str, path: Path
) -> None:
    db.execute("CREATE TABLE t (k TEXT)")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    async with source_of(url, table="t", columns=["k"]) as source:
        assert (await source.preflight(execute=True)).barrier == "exclusive"
        assert (await source.barrier(5)).passed
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES ('x')")
        result = await source.barrier(0.5)
        assert not result.passed
        assert "write lock" in result.detail
        waiting = asyncio.create_task(source.barrier(10))
        await asyncio.sleep(0.4)
        assert not waiting.done()
        db.execute("COMMIT")
        result = await waiting
        assert result.passed
        assert result.waited_seconds >= 0.3
    reader.close()


async def test_where_the_lock_cannot_be_had_no_barrier_is_claimed(
    db: sqlite3.Connection, url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.execute("CREATE TABLE t (k TEXT)")
    import os

    real = os.access
    path.chmod(stat.S_IRUSR)
    # root may write whatever the mode says, so the answer for another user is given here.
    monkeypatch.setattr(os, "access", lambda file, mode: False if mode == os.W_OK else real(file, mode))
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
    assert preflight.barrier == ""
    assert "cannot write" in preflight.barrier_missing


async def test_the_fingerprint_changes_with_the_schema_and_not_with_data(
    db: sqlite3.Connection, url: str
) -> None:
    db.execute("CREATE TABLE t (k TEXT)")
    db.execute("CREATE TABLE t_new (k TEXT)")
    db.execute("CREATE TABLE other (k TEXT)")
    async with source_of(url, table="t", columns=["k"]) as source:
        await source.preflight(execute=True)
        first = await source.fingerprint()
        for harmless in ("INSERT INTO t VALUES ('a')", "DELETE FROM t", "VACUUM", "ANALYZE", "CREATE INDEX i ON t (k)",
                         "ALTER TABLE other ADD COLUMN x"):  # fmt: skip
            db.execute(harmless)
            assert await source.fingerprint() == first, harmless
        seen = {first}
        for change in ("ALTER TABLE t ADD COLUMN x TEXT", "ALTER TABLE t RENAME COLUMN x TO y", "ALTER TABLE t DROP COLUMN y",
                       "ALTER TABLE t RENAME TO t_old", "ALTER TABLE t_new RENAME TO t"):  # fmt: skip
            before = await source.fingerprint()
            db.execute(change)
            assert await source.fingerprint() != before, change
            seen.add(await source.fingerprint())
        assert first not in seen - {first}


async def test_undeclared_columns_are_sampled_newest_rows_included(db: sqlite3.Connection, url: str) -> None:
    db.execute("CREATE TABLE t (k TEXT, late TEXT, n INTEGER, secret TEXT)")
    db.execute("CREATE TABLE w (id TEXT PRIMARY KEY, doc) WITHOUT ROWID")
    db.execute("INSERT INTO w VALUES ('1', x'00ff')")
    db.executemany("INSERT INTO t (k, n) VALUES (?, 1)", [(f"k{i}",) for i in range(5000)])
    db.execute("INSERT INTO t (k, late, secret) VALUES ('k', 'new/one.jpg', 's')")
    async with source_of(url, table="t", columns=["k"], ignore_columns=["t.secret"]) as source:
        await source.preflight(execute=False)
        assert await samples(source, 100) == {
            "main.t.late": ["new/one.jpg"],
            "main.w.id": ["1"],
            "main.w.doc": [b"\x00\xff"],
        }


async def test_a_damaged_file_is_an_error_and_no_short_read(
    db: sqlite3.Connection, url: str, path: Path
) -> None:
    db.execute("PRAGMA journal_mode=DELETE")
    db.execute("CREATE TABLE t (k TEXT)")
    db.executemany("INSERT INTO t VALUES (?)", [("k" * 500,) for _ in range(5000)])
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=False)
        assert any("journal mode is delete" in warning for warning in preflight.warnings)
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(size // 2)
        with pytest.raises(SourceError):
            await read(source, preflight)


async def test_a_column_left_half_way_and_a_cancelled_reader_leave_nothing_behind(
    db: sqlite3.Connection, url: str
) -> None:
    db.execute("CREATE TABLE t (k TEXT)")
    db.executemany("INSERT INTO t VALUES (?)", [(f"k{i}",) for i in range(20000)])
    slow = "select a.k from t a, t b where a.k || b.k = 'nothing'"
    async with source_of(url, table="t", columns=["k"], queries=[{"name": "slow", "sql": slow}]) as source:
        preflight = await source.preflight(execute=False)
        async with source.snapshot() as snapshot:
            async for batch in snapshot.values(preflight.columns[0], 100):
                assert len(batch) == 100
                break
        task = asyncio.create_task(read(source, preflight))
        await asyncio.sleep(0.5)
        task.cancel()
        async with asyncio.timeout(20):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # nobody reads any longer
