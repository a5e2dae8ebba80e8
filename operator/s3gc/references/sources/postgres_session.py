"""Connections and read-only transactions on PostgreSQL, and its errors as ours.

Every piece of work opens a connection of its own and closes it: nothing stays idle on the server between two
phases of a cycle, and nothing breaks when a pooler or `idle_session_timeout` ends idle sessions. Settings are
made by SET LOCAL inside the transaction, because a transaction pooler would hand a session's settings to
somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg

from s3gc.exceptions import AccessDeniedError, ConfigurationError, S3GCError, SourceError
from s3gc.references.sources.urls import Address

__all__ = ["CATALOG_SECONDS", "CONNECT_SECONDS", "IDLE_SECONDS", "LOCK_SECONDS", "Postgres"]

CONNECT_SECONDS = 30.0
#: A statement that reads only the catalog.
CATALOG_SECONDS = 120.0
#: How long a scan may send nothing: a filter that matches few rows of a large table is silent for long.
IDLE_SECONDS = 3600.0
#: How long a statement waits for a lock, in practice for a migration that holds ACCESS EXCLUSIVE.
LOCK_SECONDS = 120

#: What the driver raises; its internal error is that of a connection whose statement is being cancelled.
_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)

#: Parameters that clients of other kinds understand; PostgreSQL would refuse them as unknown settings.
_NOT_FOR_US = frozenset(
    {
        # libpq's, which asyncpg does not know
        *("channel_binding", "gssencmode", "krbsrvname", "gsslib", "keepalives", "keepalives_idle"),
        *("keepalives_interval", "keepalives_count", "tcp_user_timeout", "connect_timeout", "requirepeer"),
        *("fallback_application_name", "application_name", "load_balance_hosts", "sslcompression", "sslsni"),
        *("require_auth", "client_encoding", "replication"),
        # Prisma's, SQLAlchemy's and pools'
        *("schema", "pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "sslaccept"),
        *("sslidentity", "statement_cache_size", "prepared_statement_cache_size", "pool_size"),
        *(
            "prepared_statement_name_func",
            "max_overflow",
            "pool_recycle",
            "pool_pre_ping",
            "preparethreshold",
        ),
    }
)


class Postgres:
    """Opens connections to one database and names its errors."""

    def __init__(self, address: Address, source: str) -> None:
        self.address = address
        self.source = source
        self._open: set[asyncpg.Connection] = set()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection that is closed whatever happens. Errors are the driver's: see `translated`."""
        connection = await self._connect()
        self._open.add(connection)
        try:
            yield connection
        finally:
            self._open.discard(connection)
            await _close(connection)

    @contextlib.asynccontextmanager
    async def reading(
        self, *, row_security: bool = False, repeatable: bool = True, statement_seconds: float = 0
    ) -> AsyncIterator[asyncpg.Connection]:
        """A connection in a read-only transaction, ended by ROLLBACK.

        `repeatable`: one snapshot for all statements. `row_security=False` makes the server raise where a
        policy would hide rows from us instead of hiding them: an invisible row is a lost reference.
        """
        async with self.connection() as connection:
            transaction = connection.transaction(
                isolation="repeatable_read" if repeatable else "read_committed", readonly=True
            )
            await transaction.start()
            await connection.execute(
                _settings(
                    connection,
                    row_security=row_security,
                    statement_seconds=statement_seconds,
                    schema=self.address.parameters.get("schema", ""),
                ),
                timeout=CATALOG_SECONDS,
            )
            try:
                yield connection
            finally:
                # A pooler throws its server connection away when a client leaves inside a transaction.
                with contextlib.suppress(*_DRIVER):
                    async with asyncio.timeout(5):
                        await transaction.rollback()

    async def close(self) -> None:
        """End every session that is still open."""
        for connection in list(self._open):
            self._open.discard(connection)
            await _cancel(connection)
            await _close(connection)

    async def _connect(self) -> asyncpg.Connection:
        address = self.address
        hosts = ",".join(
            (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
            for host, port in address.hosts
        )
        parameters = {k: v for k, v in address.parameters.items() if k.lower() not in _NOT_FOR_US}
        dsn = f"postgresql://{hosts}/{quote(address.database, safe='')}"
        if parameters:
            dsn += "?" + urlencode(parameters)
        connection = await asyncpg.connect(
            dsn,
            user=address.user or None,
            password=address.password or None,
            timeout=CONNECT_SECONDS,
            # Named prepared statements do not survive a transaction pooler, and we use none twice.
            statement_cache_size=0,
            server_settings={"application_name": "s3gc"},
        )
        _keep_alive(connection)
        return connection

    @contextlib.contextmanager
    def translated(self, doing: str = "") -> Iterator[None]:
        """Turn the driver's errors into ConfigurationError, AccessDeniedError or SourceError.

        Only around our own calls, never around a caller's block: its full disk is not our lost connection.
        """
        try:
            yield
        except S3GCError:
            raise
        except _DRIVER as error:
            raise self.error(error, doing) from error

    def error(self, error: BaseException, doing: str = "") -> S3GCError:
        """Return what `error` means to a person on call."""
        where, said = self._where(doing), self._say(error)
        user = self.address.user or "the operating system's user"
        match error:
            case asyncpg.InvalidAuthorizationSpecificationError():  # also a wrong password
                return ConfigurationError(
                    f"{where}: the server refused user {user!r} ({said}); check the user name, the password "
                    "and pg_hba.conf"
                )
            case asyncpg.ClientConfigurationError():
                return ConfigurationError(f"{where}: the URL cannot be used: {said}")
            case asyncpg.InvalidCatalogNameError():
                return ConfigurationError(f"{where}: there is no database {self.address.database!r} ({said})")
            case asyncpg.InsufficientPrivilegeError() if "row-level security" in said:
                return ConfigurationError(
                    f"{where}: {said}: rows that a policy hides from {user!r} cannot be counted as references; "
                    f"ALTER ROLE {user} BYPASSRLS, or use a role that owns the tables"
                )
            case asyncpg.InsufficientPrivilegeError():
                return AccessDeniedError(
                    f"{where}: {said}; GRANT SELECT on it to {user!r} (see docs/databases.md)",
                    details={"action": "SELECT"},
                )
            case asyncpg.LockNotAvailableError():
                return SourceError(
                    f"{where}: a lock on a table was not released within {LOCK_SECONDS} s (a migration?): {said}"
                )
            case asyncpg.QueryCanceledError():
                return SourceError(f"{where}: the server cancelled the statement: {said}")
            case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
                return SourceError(f"{where}: the schema changed after it was checked: {said}")
            case asyncpg.TooManyConnectionsError():
                return SourceError(f"{where}: the server has no connection left: {said}")
            case ssl.SSLError():
                return ConfigurationError(
                    f"{where}: TLS failed: {said}; check sslmode and sslrootcert in the URL"
                )
            case ConnectionError() if "rejected SSL" in said:
                return ConfigurationError(
                    f"{where}: the server does not offer TLS; the URL demands it by sslmode"
                )
            case asyncpg.PostgresError() if "no such database" in said or "no such user" in said:  # PgBouncer
                return ConfigurationError(f"{where}: {said}")
            case TimeoutError() if not said:
                return SourceError(f"{where}: no answer in time; is the server up, and reachable from here?")
            case OSError():
                return SourceError(
                    f"{where}: cannot reach the server ({said}); is it up, and reachable from here?"
                )
            case _:
                return SourceError(f"{where}: {said or type(error).__name__}")

    def _where(self, doing: str) -> str:
        return f"source {self.source!r} (PostgreSQL at {self.address.shown})" + (
            f", {doing}" if doing else ""
        )

    def _say(self, error: BaseException) -> str:
        return self.address.without_secrets(error)


def _settings(
    connection: asyncpg.Connection, *, row_security: bool, statement_seconds: float, schema: str
) -> str:
    """SET LOCALs of one transaction. The role's and the pooler's own limits must not cut a scan short.

    `schema` is what Prisma's URLs name: there the application's tables are, and a table of the same name that lies in
    `public` from an earlier time is not the one that is meant.
    """
    settings = {
        "statement_timeout": str(int(statement_seconds * 1000)),
        "lock_timeout": f"'{LOCK_SECONDS}s'",
        "idle_in_transaction_session_timeout": "0",
        "row_security": "on" if row_security else "off",
        "bytea_output": "'hex'",
        # A generic plan for `= ANY($1)` does not hash the array: 95 s in place of 2 s for 100,000 keys.
        "plan_cache_mode": "force_custom_plan",
    }
    if schema:
        settings["search_path"] = '"' + schema.replace('"', '""') + '"'
    if connection.get_server_version() >= (17, 0):
        settings["transaction_timeout"] = "0"
    return "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())


def _keep_alive(connection: Any) -> None:
    """Notice within some two minutes that a server or the way to it is gone; asyncpg itself never would."""
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    wanted = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 6),
        ("TCP_USER_TIMEOUT", 120_000),
    ):
        if hasattr(socket, name):
            wanted.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    for level, option, value in wanted:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)


async def _cancel(connection: Any) -> None:
    """Ask the server to stop what somebody still waits for on `connection`: it would notice a closed socket only
    when it has rows to send. asyncpg does this by itself for a task that is cancelled."""
    waiter = asyncio.get_running_loop().create_future()
    with contextlib.suppress(AttributeError, *_DRIVER):
        connection._cancel_current_command(waiter)
        async with asyncio.timeout(5):
            await waiter


async def _close(connection: asyncpg.Connection) -> None:
    """End a session: its transaction is rolled back by the server, and what it still runs is cancelled first."""
    try:
        await connection.close(timeout=5)
    except _DRIVER:
        pass  # the session is over either way
    finally:
        if not connection.is_closed():
            connection.terminate()
