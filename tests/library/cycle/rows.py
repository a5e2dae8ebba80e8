"""The rows of a test's world, the same in PostgreSQL, MariaDB and SQLite: ``files(id, key, note)``.

Written past s3gc, by the databases' own drivers. `Late` is a transaction that has inserted a row and is still open:
no other session sees it, and it may commit at the worst moment.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
from tests.testbed.services import MySQL, Postgres

__all__ = ["Late", "MariaRows", "PostgresRows", "Rows", "SqliteRows"]

COLUMN = "key"


class Late(ABC):
    """An open transaction that has inserted a reference to `key`."""

    key: str

    @abstractmethod
    async def commit(self) -> None: ...

    @abstractmethod
    async def rollback(self) -> None: ...


class Rows(ABC):
    """One database with one table; `url` is what a policy gets."""

    url: str
    dialect: str
    column = f'"{COLUMN}"'  # quoted

    @abstractmethod
    async def begin(self) -> None:
        """Make the table."""

    @abstractmethod
    async def execute(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run one statement with ``?`` for each argument, committed; return its rows."""

    @abstractmethod
    async def insert(self, keys: Iterable[str]) -> None: ...

    @abstractmethod
    async def late(self, key: str) -> Late: ...

    async def keys(self) -> list[str]:
        """Every committed reference; a key that two rows name is there twice."""
        return [
            row[0]
            for row in await self.execute(f"select {self.column} from files where {self.column} is not null")
        ]

    async def delete(self, keys: Iterable[str]) -> None:
        for number in await self._numbers(keys):
            await self.execute("delete from files where id = ?", number)

    async def change(self, old: str, new: str) -> None:
        for number in await self._numbers([old]):
            await self.execute(f"update files set {self.column} = ? where id = ?", new, number)

    async def _numbers(self, keys: Iterable[str]) -> list[int]:
        """By number, so that no other row is locked on the way, and nobody waits for an open transaction."""
        found = [await self.execute(f"select id from files where {self.column} = ?", key) for key in keys]
        return [row[0] for rows in found for row in rows]


# --- PostgreSQL


class PostgresRows(Rows):
    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    async def fresh(cls, server: Postgres) -> PostgresRows:
        rows = cls(await server.fresh_database())
        await rows.begin()
        return rows

    async def begin(self) -> None:
        await self.execute(f"create table files(id bigserial primary key, {self.column} text, note text)")

    async def partition(self) -> None:
        """The same table in partitions by number: an UPDATE of the number moves a row between them."""
        await self.execute("drop table files")
        await self.execute(
            f"create table files(id bigserial, {self.column} text, note text) partition by hash (id)"
        )
        for number in range(3):
            await self.execute(
                f"create table files_{number} partition of files for values with (modulus 3, remainder {number})"
            )

    async def execute(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(_numbered(statement), *arguments)]
        finally:
            await connection.close()

    async def insert(self, keys: Iterable[str]) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            rows = [(key,) for key in keys]
            await connection.executemany(f"insert into files({self.column}) values ($1)", rows)
        finally:
            await connection.close()

    async def late(self, key: str) -> Late:
        connection = await asyncpg.connect(self.url)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"insert into files({self.column}) values ($1)", key)
        return _PostgresLate(key, connection, transaction)


class _PostgresLate(Late):
    def __init__(self, key: str, connection: Any, transaction: Any) -> None:
        self.key, self._connection, self._transaction = key, connection, transaction

    async def commit(self) -> None:
        await self._transaction.commit()
        await self._connection.close()

    async def rollback(self) -> None:
        await self._transaction.rollback()
        await self._connection.close()


def _numbered(statement: str) -> str:
    head, *rest = statement.split("?")
    return head + "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))


# --- MariaDB


class MariaRows(Rows):
    """MariaDB's or MySQL's. `url` may be that of a user with fewer rights; the rows are written as the server's administrator."""

    dialect = "mysql"
    column = f"`{COLUMN}`"

    def __init__(self, admin_url: str) -> None:
        self.url = self._admin = admin_url

    @classmethod
    async def fresh(cls, server: MySQL) -> MariaRows:
        rows = cls(await server.fresh_database())
        await rows.begin()
        return rows

    @property
    def database(self) -> str:
        return urlsplit(self._admin).path.strip("/")

    async def begin(self) -> None:
        # A binary collation and an index: what a share lock on exact keys needs.
        await self.execute(
            f"create table files(id bigint auto_increment primary key, {self.column} varchar(700) collate utf8mb4_bin, "
            f"note text, key by_key({self.column})) engine=innodb"
        )

    async def user(self, name: str, *grants: str) -> str:
        """Make a user that may do just that (``{user}``, ``{database}`` in a grant; ``{monitor}`` is the right to ask where
        the binary log stands) and return its URL."""
        account = f"'{name}'@'%'"
        ((version,),) = await self.execute("select version()")
        monitor = "binlog monitor" if "MariaDB" in version else "replication client"
        await self.execute(f"drop user if exists {account}")
        await self.execute(f"create user {account} identified by 'sesame-open'")
        for grant in grants:
            await self.execute(grant.format(user=account, database=f"`{self.database}`", monitor=monitor))
        parts = urlsplit(self._admin)
        return parts._replace(netloc=f"{name}:sesame-open@{parts.hostname}:{parts.port}").geturl()

    async def connect(self, *, autocommit: bool = True) -> Any:
        import asyncmy

        parts = urlsplit(self._admin)
        return await asyncmy.connect(
            host=parts.hostname, port=parts.port, user=parts.username, password=unquote(parts.password or ""),
            database=self.database, autocommit=autocommit, connect_timeout=30,
            init_command="set session transaction isolation level read committed",  # no locks between rows
        )  # fmt: skip

    async def execute(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        connection = await self.connect()
        try:
            return await self._run(connection, statement, arguments)
        finally:
            await connection.ensure_closed()

    @staticmethod
    async def _run(connection: Any, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        async with connection.cursor() as cursor:
            await cursor.execute(statement.replace("?", "%s"), tuple(arguments) or None)
            return [tuple(row) for row in await cursor.fetchall()] if cursor.description else []

    async def insert(self, keys: Iterable[str]) -> None:
        connection = await self.connect(autocommit=False)
        try:
            for key in keys:
                await self._run(connection, f"insert into files({self.column}) values (?)", (key,))
            await connection.commit()
        finally:
            await connection.ensure_closed()

    async def late(self, key: str) -> Late:
        connection = await self.connect(autocommit=False)
        await self._run(connection, f"insert into files({self.column}) values (?)", (key,))
        return _MariaLate(key, connection)


class _MariaLate(Late):
    def __init__(self, key: str, connection: Any) -> None:
        self.key, self._connection = key, connection

    async def commit(self) -> None:
        await self._connection.commit()
        await self._connection.ensure_closed()

    async def rollback(self) -> None:
        await self._connection.rollback()
        await self._connection.ensure_closed()


# --- SQLite


class SqliteRows(Rows):
    """One file in WAL mode, as applications have it: one writer, and readers beside it."""

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    @classmethod
    async def fresh(cls, path: Path) -> SqliteRows:
        rows = cls(path)
        await rows.begin()
        return rows

    async def begin(self) -> None:
        await self._do(lambda db: db.execute("pragma journal_mode=wal"))
        await self.execute(f"create table files(id integer primary key, {self.column} text, note text)")

    async def execute(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return await self._do(lambda db: db.execute(statement, arguments).fetchall())

    async def insert(self, keys: Iterable[str]) -> None:
        rows = [(key,) for key in keys]
        await self._do(lambda db: db.executemany(f"insert into files({self.column}) values (?)", rows))

    async def _do(self, action: Callable[[sqlite3.Connection], Any]) -> Any:
        def do() -> Any:
            db = sqlite3.connect(self.path, timeout=30)
            try:
                with db:
                    return action(db)
            finally:
                db.close()

        return await asyncio.to_thread(do)

    async def late(self, key: str) -> Late:
        db = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
        await asyncio.to_thread(db.execute, f"insert into files({self.column}) values (?)", (key,))
        return _SqliteLate(key, db)


class _SqliteLate(Late):
    def __init__(self, key: str, db: sqlite3.Connection) -> None:
        self.key, self._db = key, db

    async def commit(self) -> None:
        await asyncio.to_thread(self._db.commit)
        self._db.close()

    async def rollback(self) -> None:
        await asyncio.to_thread(self._db.rollback)
        self._db.close()
