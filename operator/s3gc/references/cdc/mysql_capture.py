"""Change capture on MySQL and MariaDB: from a snapshot's place in the binary log to now, as often as asked.

How it is true. `open` notes a place in the log before which every commit is visible to whoever takes a snapshot later:
so what a later scan does not see is behind that place. `drain` asks the server that the application writes to how far
its log is, reads up to there, and is an error unless it comes there: so every commit that was visible when it was
asked was delivered. That it is that server's log, and not a copy's or an old primary's, is proven on each
connection. Uncommitted rows are not in the log; the barrier after the deletions waits for their transactions.

The rooms: `mysql_settings` (what must hold), `mysql_position` (places), `mysql_reader` (events), `mysql_rows` (values),
`mysql_statements` (DDL).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncmy.errors
import pymysql

from s3gc.exceptions import CDCError, S3GCError
from s3gc.references.cdc.mysql_position import (
    Position,
    behind,
    gtids_at,
    snapshot_position,
    written_gtids,
    written_position,
)
from s3gc.references.cdc.mysql_reader import BinlogReader
from s3gc.references.cdc.mysql_rows import WatchedTable
from s3gc.references.cdc.mysql_settings import (
    grant,
    refusals_of_rights,
    refusals_of_settings,
)
from s3gc.references.cdc.mysql_watched import watched_tables
from s3gc.references.cdc.types import Change
from s3gc.references.sources.mysql_catalog import load_server
from s3gc.references.sources.mysql_plan import Plan
from s3gc.references.sources.mysql_session import CONNECT_SECONDS, MySQL, Session

__all__ = ["MySQLCapture"]

#: How long the log may send nothing while there is more of it.
_SILENT_SECONDS = 600
#: Connections that one drain may open: the library asks again by itself when a dump is cut off.
_CONNECTIONS = 200
#: Snapshots that `open` may take where each is judged by whether anything was written around it.
_SNAPSHOTS = 50


class MySQLCapture:
    """The changes of one source's columns. `server` is the application's address, `direct` the one that is dumped."""

    def __init__(self, name: str, server: MySQL, direct: MySQL, plan: Plan) -> None:
        self._name = name
        self._server = server
        self._direct = direct
        self._plan = plan
        self._tables: tuple[WatchedTable, ...] = ()
        self._left: dict[int, str] = {}
        self._reader: BinlogReader | None = None
        self._gtid_set = ""
        self._thread: ThreadPoolExecutor | None = None
        self._connections: list[Any] = []
        self._opened = 0
        self._stopping = threading.Event()

    @property
    def left_over(self) -> Mapping[int, str]:
        """Columns that the log does not show, by their index, and why."""
        return self._left

    async def preflight(self) -> None:
        """Find out whether changes can be captured. Raises CDCError with all that is missing, and what to grant."""
        wrong: list[str] = []
        with self._translated("preflight of change capture"):
            async with self._direct.session() as session:
                await self._same_server(session)
                tables, self._left = await watched_tables(session, self._plan)
                self._tables = tuple(tables)
                if not tables:
                    labels = {item.spec.index: item.spec.label for item in self._plan.items}
                    wrong += [
                        f"{labels[index]} cannot be followed: {why}" for index, why in self._left.items()
                    ]
                wrong += await refusals_of_settings(session, self._tables)
                if not wrong:
                    wrong += await refusals_of_rights(session, await load_server(session))
                if not wrong:
                    wrong += await self._try_to_read(session)
        if wrong:
            raise self._error("; ".join(wrong), errors=wrong)

    async def _try_to_read(self, session: Session) -> list[str]:
        """Open a dump where the log ends now: the one right that can be known only by using it."""
        position = await written_position(session)
        assert position is not None  # noqa: S101 - `refusals_of_rights` asked before
        reader = self._new_reader()
        reader.position = position
        try:
            await self._look(reader)
        except CDCError as error:
            if "REPLICATION SLAVE" not in error.message:
                raise
            return [
                f"the account may not read the binary log: {grant(session, (await load_server(session)).user)}"
            ]
        return []

    async def _look(self, reader: BinlogReader) -> None:
        async with contextlib.aclosing(self._in_thread(reader.look())) as nothing:
            async for _ in nothing:
                pass

    async def open(self) -> None:
        """Note the place from which changes count. Every scan that begins after this returns is covered.

        Visibility only grows: what the snapshot taken here sees, a later one sees as well, and what this one does not
        see stands behind its place in the log. A later scan may also see rows that the stream has: seen twice.
        """
        if not self._tables:
            await self.preflight()
        reader = self._new_reader()
        with self._translated("looking for the snapshot's place in the binary log"):
            async with self._server.session() as session:
                await self._same_server(session)
                if not session.is_mariadb:
                    _, self._gtid_set = await snapshot_position(session)
                else:
                    reader.position, reader.gtids = await self._snapshot_of_mariadb(session)
            # Once more, behind that place: DDL before it is seen here, DDL behind it in the stream.
            async with self._direct.session() as session:
                tables, left = await watched_tables(session, self._plan)
            if (tuple(tables), left) != (self._tables, self._left):
                raise self._error("a declared table was changed after it was checked")
        if reader.position is not None:
            await self._look(reader)
        self._reader = reader

    async def _snapshot_of_mariadb(self, session: Session) -> tuple[Position, dict[int, tuple[int, int]]]:
        """A snapshot's place, and the last GTIDs before it."""
        await session.rows("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for _ in range(_SNAPSHOTS):
            before = await written_gtids(session)
            await session.rows("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            position, _set = await snapshot_position(session)
            assert position is not None  # noqa: S101 - MariaDB tells it, or `snapshot_position` raises
            if (exact := await gtids_at(session, position)) is not None:
                return position, exact
            # They only grow: where nothing was written around the snapshot, they were the same within it.
            if before == await written_gtids(session):
                return position, before
            await session.rows("ROLLBACK")
        raise self._error(
            f"the server cannot tell the GTIDs at {position}: an event in that file of its log is larger than "
            "max_allowed_packet; FLUSH BINARY LOGS begins a new one"
        )

    async def drain(self) -> AsyncIterator[list[Change]]:
        """Yield (index of the column, value) of every change up to now, in batches; see the module for what it proves.

        Raises CDCError when that cannot be proven: then nothing may be concluded, and the capture is over.
        """
        reader = self._reader
        if reader is None:
            raise self._error("change capture was not opened, or it ended with an error before")
        self._reader = None  # until this drain is through: an error in the middle leaves it closed
        until, gtids = await self._fence()
        if reader.position is not None and reader.position != until and reader.position.reaches(until):
            raise self._error(
                f"the binary log ends at {until}, before {reader.position}: the logs were reset"
            )
        if reader.position != until:
            async with contextlib.aclosing(self._in_thread(reader.read(until, self._gtid_set))) as batches:
                async for batch in batches:
                    yield batch
        if gtids and (missing := behind(reader.gtids, gtids)):
            raise self._error(
                f"the stream did not come to what the application's server has written ({missing})"
            )
        self._reader = reader

    async def _fence(self) -> tuple[Position, dict[int, tuple[int, int]]]:
        """Ask the server that the application writes to how far its log is, now; and that it is still what it was."""
        with self._translated("asking how far the binary log is"):
            async with self._server.session() as session:
                await self._same_server(session)
                if wrong := await refusals_of_settings(session, self._tables):
                    raise self._error("since the cycle began " + "; ".join(wrong))
                gtids = await written_gtids(session) if session.is_mariadb else {}
                until = await written_position(session)
            if until is None:
                # This account may not ask; the one that dumps may, and it is the same server's log.
                async with self._direct.session() as session:
                    await self._same_server(session)
                    until = await written_position(session)
        if until is None:
            raise self._error("the account may not ask any more where the binary log stands")
        return until, gtids

    async def _in_thread(
        self, batches: Generator[list[Change], None, None]
    ) -> AsyncGenerator[list[Change], None]:
        """Run the reader in its thread, one batch at a time."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"s3gc-binlog-{self._name}")
        loop = asyncio.get_running_loop()
        self._stopping.clear()
        self._opened = 0
        done = False
        try:
            while not done:
                batch = await loop.run_in_executor(self._thread, next, batches, None)
                if batch is None:
                    done = True
                else:
                    yield batch
        except CDCError as error:
            done = True
            raise self._error(error.message) from error
        finally:
            if (
                not done
            ):  # cancelled, or the caller had enough: what blocks in the thread is woken by its socket
                self._stopping.set()
                self._hang_up()
            await asyncio.shield(loop.run_in_executor(self._thread, batches.close))
            self._hang_up()

    def _new_reader(self) -> BinlogReader:
        tables = {(table.schema, table.name): table for table in self._tables}
        # A server drops the older of two readers of one number, so ours is far from those that people give replicas.
        number = 2_147_483_648 + secrets.randbelow(2_147_483_000)
        return BinlogReader(self._connect, number, tables)

    def _connect(self, **settings: Any) -> Any:
        """Open a connection for the reader, prove whose it is, and remember it: none may be left behind. Blocks."""
        self._opened += 1
        if self._stopping.is_set() or self._opened > _CONNECTIONS:
            raise CDCError(
                "reading the binary log was stopped"
                if self._stopping.is_set()
                else "the dump is cut off again and again"
            )
        connection = self._dial(settings)
        self._connections.append(connection)
        with connection.cursor(pymysql.cursors.Cursor) as cursor:
            cursor.execute("SET SESSION net_write_timeout = 3600")
            cursor.execute("SELECT VERSION()")
            ((version,),) = cursor.fetchall()
            cursor.execute(
                "SHOW VARIABLES WHERE Variable_name IN ('hostname', 'port', 'server_id', 'server_uuid', 'server_uid')"
            )
            found = {str(name).lower(): str(value) for name, value in cursor.fetchall()}
        names = ("hostname", "port", "server_id", "server_uuid", "server_uid")
        if (str(version), *(found.get(name, "") for name in names)) != self._plan.server.identity:
            raise CDCError(
                "the direct address leads to another server than the one that the application writes to"
            )
        return connection

    def _dial(self, settings: dict[str, Any]) -> Any:
        address, tls = self._direct.address, self._direct.tls
        host, port = address.hosts[0] if address.hosts else ("localhost", 0)
        arguments: dict[str, Any] = {
            **{{"db": "database"}.get(name, name): value for name, value in settings.items()},
            "host": host,
            "port": port or 3306,
            "user": address.user or None,
            "password": address.password.encode(),
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": _SILENT_SECONDS,
            "program_name": "s3gc",
        }
        if unix_socket := address.parameters.get("unix_socket") or address.parameters.get("socket"):
            return pymysql.connect(**arguments, unix_socket=unix_socket)
        if tls.context is None:
            return pymysql.connect(**arguments, ssl_disabled=True)
        try:
            return pymysql.connect(**arguments, ssl=tls.context)
        except pymysql.OperationalError:
            if tls.required:
                raise
        return pymysql.connect(**arguments, ssl_disabled=True)

    def _hang_up(self) -> None:
        for connection in self._connections:
            sock = getattr(connection, "_sock", None)
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        if not self._stopping.is_set():
            for connection in self._connections:
                with contextlib.suppress(pymysql.MySQLError, OSError):
                    connection._force_close()
            self._connections.clear()

    async def _same_server(self, session: Session) -> None:
        server = await load_server(session)
        if server.identity != self._plan.server.identity or server.read_only:
            raise self._error(
                "another server answers than the one that was checked, or it became read-only (a fail-over, a proxy, "
                "or cdc.url is not the primary's own address)"
            )

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Any:
        try:
            yield
        except CDCError as error:
            raise error if error.message.startswith("source ") else self._error(error.message) from error
        except S3GCError:
            raise
        except (asyncmy.errors.MySQLError, OSError) as error:
            raise self._error(f"{doing}: {self._direct.error(error).message}") from error

    def _error(self, message: str, errors: list[str] | None = None) -> CDCError:
        return CDCError(
            f"source {self._name!r} ({self._direct.address.shown}): {message}",
            details={"errors": errors or [message]},
        )

    @property
    def largest_lag(self) -> None:
        """See `Capture.largest_lag`."""
        return

    async def lag(self) -> None:
        """See `Capture.lag`: the log's own expiry decides how long it is kept, whoever reads it."""
        return

    async def close(self) -> None:
        """End what is still open. Nothing of a capture lives on the server, so there is nothing to drop."""
        self._reader = None
        self._stopping.set()
        self._hang_up()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)
            self._thread = None
        self._stopping.clear()
        self._hang_up()
        await self._direct.close()
