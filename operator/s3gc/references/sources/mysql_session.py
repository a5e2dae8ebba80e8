"""Connections and read-only transactions on MySQL and MariaDB, and their errors as ours.

Two habits of the driver decide how rows are read here. It takes a row whose first value has 16 MiB or more for the
end of the result, silently: so the first column of every statement is the constant 1. And it reads the socket as
fast as it can whatever its caller does: so reading is paused while a batch is being worked on. The server's own
count of rows is compared at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncmy
import asyncmy.errors
from asyncmy.cursors import SSCursor

from s3gc.exceptions import AccessDeniedError, ConfigurationError, S3GCError, SourceError
from s3gc.references.sources.batches import batched
from s3gc.references.sources.urls import Address

__all__ = ["CATALOG_SECONDS", "CONNECT_SECONDS", "IDLE_SECONDS", "LOCK_SECONDS", "MySQL", "Session"]

CONNECT_SECONDS = 30.0
CATALOG_SECONDS = 120.0
#: How long a scan may send nothing: a filter that matches few rows of a large table is silent for long.
IDLE_SECONDS = 3600.0
#: How long a statement waits for a row lock (share lock) or a metadata lock (a migration).
LOCK_SECONDS = 60

_DENIED = frozenset({1142, 1143, 1227, 1370, 1356})
_REFUSED = frozenset({1045, 1698, 1130, 1251, 2059, 1862, 1820, 1873})
_NO_DATABASE = frozenset({1044, 1049})
_TIMED_OUT = frozenset({3024, 1969})
_LOCKED = frozenset({1205, 1213, 1206})
_NO_SUCH = frozenset({1146, 1054, 1412})


class Session:
    """One connection in which statements run one after the other."""

    def __init__(self, connection: Any, *, is_mariadb: bool) -> None:
        self.connection = connection
        self.is_mariadb = is_mariadb
        self.busy = False
        self.thread_id = 0  # as the server says; 0 until asked

    async def rows(self, statement: str, timeout: float = CATALOG_SECONDS) -> Sequence[Sequence[Any]]:
        """Run one statement whose result is small."""
        self.busy = True
        try:
            async with asyncio.timeout(timeout), self.connection.cursor() as cursor:
                await cursor.execute(statement)
                found: Sequence[Sequence[Any]] = await cursor.fetchall() if cursor.description else ()
        except asyncmy.errors.MySQLError:
            self.busy = False  # the server has answered, or is gone
            raise
        self.busy = False
        return found

    async def names(self, statement: str) -> list[str]:
        """Run a SELECT and return the names of its columns."""
        async with asyncio.timeout(CATALOG_SECONDS), self.connection.cursor() as cursor:
            await cursor.execute(statement)
            return [str(item[0]) for item in cursor.description or ()]

    async def check(self, statement: str) -> None:
        """Have the server parse and resolve exactly one statement, without running it."""
        async with asyncio.timeout(CATALOG_SECONDS):
            prepared = await self.connection.prepare(statement)
            await prepared.close()

    async def stream(self, select: str, batch: int, what: str) -> AsyncIterator[list[Sequence[Any]]]:
        """Yield batches of the rows of ``SELECT 1, …``, all of them or an error.

        Memory is bounded by one batch and the socket's buffer. Raises SourceError when the server counted
        another number of rows than arrived.
        """
        cursor = self.connection.cursor(SSCursor)
        self.busy = True
        async with asyncio.timeout(IDLE_SECONDS):
            await cursor.execute(select)

        async def fetch(count: int) -> Sequence[Sequence[Any]]:
            async with asyncio.timeout(IDLE_SECONDS):
                found: Sequence[Sequence[Any]] = await cursor.fetchmany(count)
                return found

        rows = 0
        async for found in batched(fetch, batch):
            rows += len(found)
            self._pause(True)
            yield found
            self._pause(False)
        await cursor.close()
        self.busy = False
        ((counted,),) = await self.rows("SELECT FOUND_ROWS()")
        if int(counted) != rows:
            raise SourceError(
                f"reading {what}: the server counted {int(counted):,} rows, but {rows:,} arrived"
            )

    def _pause(self, paused: bool) -> None:
        transport = self.connection._transport
        if transport is None or transport.is_closing():
            return
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()


class MySQL:
    """Opens sessions on one server and names its errors."""

    def __init__(self, address: Address, source: str) -> None:
        self.address = address
        self.source = source
        self._open: set[Session] = set()
        self.tls = _TLS.of(address, source)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session that is ended whatever happens. Errors are the driver's: see `translated`."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect()
        except RuntimeError as error:  # the driver's words for a method of authentication that it lacks
            raise ConfigurationError(
                f"source {self.source!r} (MySQL at {self.address.shown}): {self.address.without_secrets(error)}"
            ) from None
        session = Session(connection, is_mariadb="MariaDB" in str(connection.server_version))
        self._open.add(session)
        try:
            for statement in _SETTINGS:
                await session.rows(statement)
            limit = "max_statement_time" if session.is_mariadb else "max_execution_time"
            await session.rows(f"SET SESSION {limit} = 0")
            ((thread_id,),) = await session.rows("SELECT CONNECTION_ID()")
            session.thread_id = int(thread_id)
            yield session
        finally:
            self._open.discard(session)
            await self._end(session)

    @contextlib.asynccontextmanager
    async def reading(self, *, locking: bool = False) -> AsyncIterator[Session]:
        """A session in a read-only transaction: one consistent snapshot, or READ COMMITTED where `locking`."""
        async with self.session() as session:
            level = "READ COMMITTED" if locking else "REPEATABLE READ"
            await session.rows(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
            consistent = "" if locking else "WITH CONSISTENT SNAPSHOT, "
            await session.rows(f"START TRANSACTION {consistent}READ ONLY")
            yield session

    async def close(self) -> None:
        """End every session that is still open."""
        for session in list(self._open):
            self._open.discard(session)
            await self._end(session)

    async def _connect(self) -> Any:
        address, parameters = self.address, self.address.parameters
        host, port = address.hosts[0] if address.hosts else ("localhost", 0)
        arguments: dict[str, Any] = {
            "host": host,
            "port": port or 3306,
            "user": address.user or None,
            "password": address.password.encode(),
            "database": address.database or None,
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_SECONDS,
            "autocommit": True,
            "program_name": "s3gc",
        }
        if unix_socket := parameters.get("unix_socket") or parameters.get("socket"):
            arguments["unix_socket"] = unix_socket
            return await asyncmy.connect(**arguments)
        if self.tls.context is None:
            return await asyncmy.connect(**arguments)
        try:
            return await asyncmy.connect(**arguments, ssl=self.tls.context)
        except asyncmy.errors.OperationalError as error:
            # The driver starts TLS without asking whether the server offers it.
            if self.tls.required or not isinstance(error.__cause__, ssl.SSLError):
                raise
        return await asyncmy.connect(**arguments)

    async def _end(self, session: Session) -> None:
        """Close the session; what it still runs is killed, for the server would not notice until it sends rows."""
        connection = session.connection
        if not session.busy and connection.connected:
            with contextlib.suppress(asyncmy.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await connection.ensure_closed()
        connection.close()
        # Behind a proxy the number may be somebody else's session on another server.
        if session.busy and session.thread_id and session.thread_id == connection.thread_id():
            with contextlib.suppress(asyncmy.errors.Error, OSError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(5):
                    helper = await self._connect()
                    try:
                        async with helper.cursor() as cursor:
                            await cursor.execute(f"KILL {session.thread_id}")
                    finally:
                        helper.close()

    @contextlib.contextmanager
    def translated(self, doing: str = "") -> Iterator[None]:
        """Turn the driver's errors into ours. Only around our own calls, never around a caller's block."""
        try:
            yield
        except S3GCError:
            raise
        except (asyncmy.errors.MySQLError, OSError) as error:
            raise self.error(error, doing) from error

    def error(self, error: BaseException, doing: str = "") -> S3GCError:
        """Return what `error` means to a person on call."""
        where = f"source {self.source!r} (MySQL at {self.address.shown})" + (f", {doing}" if doing else "")
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        said = self.address.without_secrets(error.args[1] if code and len(error.args) > 1 else error)
        if code in _REFUSED:
            return ConfigurationError(
                f"{where}: the server refused user {self.address.user!r} ({said}); check the user name, the password "
                "and the host that the account is for"
            )
        if code in _NO_DATABASE:
            return ConfigurationError(
                f"{where}: there is no database {self.address.database!r}, or the user has no right in it ({said})"
            )
        if code in _DENIED:
            return AccessDeniedError(f"{where}: {said} (see docs/databases.md)", details={"action": "SELECT"})
        if code == 3159 or isinstance(error.__cause__, ssl.SSLError) or isinstance(error, ssl.SSLError):
            return ConfigurationError(f"{where}: TLS failed: {said}; check ssl-mode and ssl-ca in the URL")
        if code in _LOCKED:
            return SourceError(
                f"{where}: a transaction held rows for more than {LOCK_SECONDS} s, so nothing was verified: {said}"
            )
        if code in _NO_SUCH:
            return SourceError(f"{where}: the schema changed after it was checked: {said}")
        if code in _TIMED_OUT:
            return SourceError(f"{where}: the server cancelled the statement: {said}")
        if code in (2002, 2003, 2005) or isinstance(error, TimeoutError):
            return SourceError(
                f"{where}: no answer ({said or 'in time'}); is the server up, and reachable from here?"
            )
        return SourceError(f"{where}: {said or type(error).__name__}")


#: The server's defaults, and what administrators set for applications, must not cut a long reading short. A global
#: sql_select_limit would do so without an error, and so does group_concat_max_len to what a query of the policy's puts
#: together: 1,024 bytes is MySQL's default.
_SETTINGS = (
    "SET SESSION net_write_timeout = 3600, net_read_timeout = 3600, wait_timeout = 28800",
    "SET SESSION sql_select_limit = 18446744073709551615, sql_big_selects = 1, group_concat_max_len = 4294967295",
    f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}",
)


class _TLS:
    """``ssl-mode`` of a URL, as MySQL's own clients write it; without one TLS is used where the server has it."""

    def __init__(self, context: ssl.SSLContext | None, *, required: bool) -> None:
        self.context = context
        self.required = required

    @classmethod
    def of(cls, address: Address, source: str) -> _TLS:
        given = {name.lower().replace("_", "-"): value for name, value in address.parameters.items()}
        mode = (
            given.get("ssl-mode") or given.get("sslmode") or given.get("tls") or given.get("ssl") or ""
        ).lower()
        authority = given.get("ssl-ca") or given.get("sslrootcert") or None
        known = {
            "": "verify-ca" if authority else "preferred",
            "preferred": "preferred", "prefer": "preferred", "allow": "preferred",
            "disabled": "disabled", "disable": "disabled", "false": "disabled", "0": "disabled",
            "required": "required", "require": "required", "true": "required", "1": "required",
            "skip-verify": "required",
            "verify-ca": "verify-ca", "verify-identity": "verify-identity", "verify-full": "verify-identity",
        }  # fmt: skip
        chosen = known.get(mode.replace("_", "-"))
        if chosen is None:
            raise ConfigurationError(
                f"source {source!r}: ssl-mode {mode!r} is not known; use disabled, preferred, required, "
                "verify-ca or verify-identity"
            )
        if chosen == "disabled":
            return cls(None, required=False)
        try:
            context = ssl.create_default_context(cafile=authority)
            if certificate := given.get("ssl-cert"):
                context.load_cert_chain(certificate, given.get("ssl-key"))
        except OSError as error:
            raise ConfigurationError(
                f"source {source!r}: the files for TLS cannot be read: {error}"
            ) from None
        context.check_hostname = chosen == "verify-identity"
        if chosen in ("preferred", "required"):
            context.verify_mode = ssl.CERT_NONE
        return cls(context, required=chosen != "preferred")
