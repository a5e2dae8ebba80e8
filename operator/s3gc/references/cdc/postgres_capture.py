"""Change capture on PostgreSQL: a temporary logical slot with `test_decoding`, read up to a mark of our own.

How it is true.

* *Nothing falls between slot and scan.* A transaction whose commit is in the log before the slot's first place, but
  which is not visible yet (it waits for a synchronous standby), would be in neither. So `open` takes a transaction
  id of its own and waits until every older one is over; whoever takes a snapshot later sees them.
* *Nothing that is visible is left out of a drain.* A commit with ``synchronous_commit = off`` is visible before it
  is flushed, and decoding ends at what is flushed; so a log position that a function returned proves nothing. A
  drain writes a mark (`pg_logical_emit_message`) on a fresh connection through the application's own address, which
  flushes everything before it, and is an error unless the mark comes. That also proves that the server that is
  decoded is the one that the application writes to.
* *What is not in the log is not followed.* Queries, views, unlogged and foreign tables, columns that are made while
  they are read, and tables with a `where` that the clock or other rows can change: `left_over`. A value that was
  stored apart and not changed was in the scan already, unless a `where` or a template stands between; then it is an
  error.

No publication is made: it can break the application's UPDATEs. The slot is temporary and dropped by its name in
`close`. It is never made again within a cycle: what came between would be lost. Source of the rules: the chapter
"Logical Decoding" of PostgreSQL's manual; each trap is a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from s3gc.config import MAX_LAG_BYTES, ReferenceFormat
from s3gc.exceptions import CDCError, S3GCError
from s3gc.references.cdc.postgres_conditions import what_may_change
from s3gc.references.cdc.test_decoding import Message, Row, Unchanged, array_elements, parse
from s3gc.references.cdc.types import Change
from s3gc.references.sources.postgres_catalog import DIALECT, KINDS, Column, load_facts, tree
from s3gc.references.sources.postgres_plan import Item, Plan
from s3gc.references.sources.postgres_session import CATALOG_SECONDS, IDLE_SECONDS, Postgres
from s3gc.references.sources.templates import empty_prefix_problem, is_empty_prefix
from s3gc.references.types import PrefixReference

__all__ = ["PostgresCapture"]

#: How long making the slot, and the transactions that were writing then, may take.
OPEN_SECONDS = 120.0
#: Where the server has a limit of its own, so much of it must be left.
MIN_SAFE_BYTES = 64 * 1024**2
_BATCH = 5_000
_PREFIX = "s3gc"

_LEAVES = """
SELECT c.oid::int8 AS oid, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attgenerated = 'v') AS virtual,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1::oid[])
"""

# A rewriting ALTER TABLE may write new values (TYPE … USING) and changes nothing that a fingerprint shows: its rows are
# asked for as well. The name is cut out by a pattern and looked up in a hashed list: a thousand partitions cost no more
# than one.
_DRAIN = r"""
SELECT data FROM pg_catalog.pg_logical_slot_get_changes($1, NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1',
     'include-rewrites', '1')
WHERE starts_with(data, 'message: ')
   OR substring(data FROM '^table ((?:"(?:[^"]|"")*"|[^".:]+)\.(?:"(?:[^"]|"")*"|[^":]+)): (?:INSERT|UPDATE)')
      = ANY($2::text[])
"""


@dataclass(frozen=True, slots=True)
class _Slot:
    name: str
    connection: asyncpg.Connection


class PostgresCapture:
    """The changes of one source's columns. `server` is the application's address, `direct` the one that is decoded."""

    def __init__(
        self, name: str, server: Postgres, direct: Postgres, plan: Plan, *, max_lag_bytes: int = MAX_LAG_BYTES
    ) -> None:
        self._name = name
        self._server = server
        self._direct = direct
        self._plan = plan
        self._max_lag_bytes = max_lag_bytes
        self._left_over: dict[int, str] = {}
        self._items: dict[str, list[Item]] = {}  # by the name of the table as it is quoted in SQL
        self._slot: _Slot | None = None
        self._is_through = False
        self._largest_lag = 0
        self._stack = contextlib.AsyncExitStack()

    @property
    def left_over(self) -> Mapping[int, str]:
        return self._left_over

    @property
    def largest_lag(self) -> int:
        """See `Capture.largest_lag`."""
        return self._largest_lag

    async def preflight(self) -> None:
        """See `Capture.preflight`."""
        wrong: list[str] = []
        with self._translated("preflight of change capture"):
            async with self._direct.connection() as connection:
                wrong += await _refusals(connection)
            async with self._server.connection() as connection:
                if (await load_facts(connection)).in_recovery:
                    wrong.append("the application's address leads to a replica")
                self._items, self._left_over = await self._choose(connection)
        if wrong:
            raise self._error("; ".join(wrong), errors=wrong)

    async def _choose(self, connection: asyncpg.Connection) -> tuple[dict[str, list[Item]], dict[int, str]]:
        """Return what the log shows, by table, and why it does not show the rest."""
        items: dict[str, list[Item]] = {}
        left_over: dict[int, str] = {}
        for item in self._plan.items:
            relation, index = item.relation, item.spec.index
            if relation is None:
                left_over[index] = "a query"
                continue
            below = await tree(connection, [relation.oid])
            leaves = await connection.fetch(_LEAVES, [oid for oid, _, _ in below], timeout=CATALOG_SECONDS)
            if reason := _cannot_follow(item, leaves):
                left_over[index] = reason
                continue
            for leaf in leaves:
                if leaf["kind"] == "r":
                    items.setdefault(leaf["name"], []).append(item)
        return items, left_over

    async def open(self) -> None:
        """See `Capture.open`. Waits for the transactions that are writing now, at most OPEN_SECONDS."""
        name = f"{_PREFIX}_{secrets.token_hex(8)}"
        with self._translated("opening a slot"):
            connection = await self._stack.enter_async_context(self._direct.connection())
            await connection.execute(_session_settings(connection))
            if wrong := await _refusals(connection):
                raise self._error("; ".join(wrong), errors=wrong)
            try:
                await connection.fetchval(
                    "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'test_decoding', true)",
                    name,
                    timeout=OPEN_SECONDS,
                )
            except TimeoutError:
                raise self._error(
                    f"no slot within {OPEN_SECONDS:.0f} s: a transaction that writes has been open for as long "
                    f"({await self._oldest_writer()}); end it, or run cycles at another time"
                ) from None
            except asyncpg.PostgresError as error:
                raise self._error(_of_creation(error)) from error
            self._slot = _Slot(name, connection)
            await self._wait_for_older(connection)
            # Once more, behind the slot: a partition that was attached since `preflight` would be read, not followed.
            # What changes from here on is seen by whoever compares the catalog after a drain.
            async with self._server.connection() as looking:
                if await self._choose(looking) != (self._items, self._left_over):
                    raise self._error("a declared table was changed after it was checked")
        async for _ in self.drain():  # proves the way before anything relies on it
            pass

    async def _wait_for_older(self, connection: asyncpg.Connection) -> None:
        """Until every transaction that began before now is over: xmax of a snapshot would not do, it may be ahead."""
        ours = await connection.fetchval("SELECT txid_current()", timeout=CATALOG_SECONDS)
        began, pause = time.monotonic(), 0.005
        while await connection.fetchval("SELECT txid_snapshot_xmin(txid_current_snapshot())") <= ours:
            if time.monotonic() - began > OPEN_SECONDS:
                raise self._error(
                    f"transactions that were open {OPEN_SECONDS:.0f} s ago still are ({await self._oldest_writer()}); "
                    "what they wrote would be in neither scan nor stream"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    async def _oldest_writer(self) -> str:
        """Who holds it up, for a person; never an error."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(10), self._server.connection() as connection:
                row = await connection.fetchrow(
                    "SELECT pid, usename::text AS role, application_name AS name, state, "
                    "extract(epoch FROM clock_timestamp() - xact_start)::int AS age FROM pg_catalog.pg_stat_activity "
                    "WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY age(backend_xid) DESC LIMIT 1"
                )
                if row is not None:
                    return f"pid {row['pid']} of {row['role']} ({row['name'] or row['state']}), {row['age']} s old"
                prepared = await connection.fetchval(
                    "SELECT gid FROM pg_catalog.pg_prepared_xacts ORDER BY prepared LIMIT 1"
                )
                if prepared is not None:
                    return f"prepared transaction {prepared!r}"
        return "see pg_stat_activity"

    async def drain(self) -> AsyncIterator[list[Change]]:
        """See `Capture.drain`."""
        slot = self._slot
        if slot is None or self._is_through:
            raise self._error("change capture was not opened, or it ended with an error before")
        self._is_through = True  # until this drain has shown its mark: an error in the middle leaves it so
        with self._translated("reading changes"):
            await self._guard_log(slot)
            mark = await self._mark()
            async with slot.connection.transaction():
                found = False
                cursor = slot.connection.cursor(
                    _DRAIN, slot.name, list(self._items), prefetch=_BATCH, timeout=IDLE_SECONDS
                )
                batch: list[Change] = []
                async for (line,) in cursor:
                    said = self._parsed(line)
                    if isinstance(said, Message):
                        found = found or (said.prefix == _PREFIX and said.content == mark)
                    elif said is not None:
                        batch += self._values(said)
                    if len(batch) >= _BATCH:
                        yield batch
                        batch = []
                if batch:
                    yield batch
        if not found:
            raise self._error(
                "a mark that was written at the application's address did not come in the stream: the server that is "
                "decoded is not the one that the application writes to (a fail-over?)"
            )
        self._is_through = False

    async def _mark(self) -> str:
        """Write a mark where the application writes, flushed, and return it."""
        mark = uuid.uuid4().hex
        async with self._server.connection() as connection, connection.transaction(readonly=False):
            # The role may wait for a standby or for nothing by default; a mark needs this server's own disk.
            await connection.execute("SET LOCAL synchronous_commit = local")
            await connection.fetchval(
                "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)",
                _PREFIX,
                mark,
                timeout=CATALOG_SECONDS,
            )
        return mark

    async def _guard_log(self, slot: _Slot) -> None:
        """Rather end the cycle than fill the server's disk, or have it end us in the middle."""
        limit = "safe_wal_size" if slot.connection.get_server_version() >= (13, 0) else "NULL::int8"
        row = await slot.connection.fetchrow(
            f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 AS lag, {limit} AS safe "
            "FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
            slot.name,
            timeout=CATALOG_SECONDS,
        )
        if row is None or row["lag"] is None:
            raise self._error("the server dropped the slot (max_slot_wal_keep_size?)")
        self._largest_lag = max(self._largest_lag, row["lag"])
        if row["lag"] > self._max_lag_bytes:
            raise self._error(
                f"the slot holds back {row['lag']:,} bytes of the server's log, more than cdc.maxLagBytes = "
                f"{self._max_lag_bytes:,}: an old transaction is open ({await self._oldest_writer()})"
            )
        if row["safe"] is not None and row["safe"] < MIN_SAFE_BYTES:
            raise self._error(
                f"{max(row['safe'], 0) / 1024**2:.0f} MiB are left before the server drops the slot "
                "(max_slot_wal_keep_size)"
            )

    def _parsed(self, line: str) -> Row | Message | None:
        try:
            return parse(line)
        except (ValueError, IndexError) as error:
            raise self._error(f"a change cannot be understood ({error})") from error

    def _values(self, row: Row) -> Iterator[Change]:
        for item in self._items.get(row.table, ()):
            try:
                parts = [row.values[column.name] for column in item.reads]
            except KeyError as error:
                raise self._error(f"{row.table} has no column {error} any more") from error
            if Unchanged.TOAST in parts:
                if item.template is None and not item.condition:
                    continue  # as it was in the scan, or in an earlier change
                raise self._error(
                    f"{item.spec.label}: a row changed whose value the log does not repeat, and a "
                    f"{'template' if item.template is not None else 'where'} may have left it out of the scan"
                )
            texts = [part for part in parts if not isinstance(part, Unchanged)]
            try:
                values = list(_as_read(item, texts))
            except (ValueError, IndexError) as error:
                raise self._error(
                    f"{item.spec.label}: a changed value cannot be understood ({error})"
                ) from error
            for value in values:
                if isinstance(value, PrefixReference) and is_empty_prefix(value):
                    raise self._error(empty_prefix_problem(item.spec.label, item.first_column, 1))
                yield item.spec.index, value

    async def lag(self) -> int | None:
        """See `Capture.lag`."""
        with self._translated("looking at slots"):
            async with self._direct.connection() as connection:
                kept = await connection.fetchval(
                    "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))::int8 "
                    "FROM pg_catalog.pg_replication_slots WHERE starts_with(slot_name::text, $1)",
                    f"{_PREFIX}_",
                    timeout=CATALOG_SECONDS,
                )
        return int(kept or 0)

    async def close(self) -> None:
        """See `Capture.close`."""
        slot, self._slot = self._slot, None
        with contextlib.suppress(Exception):
            if slot is not None and not slot.connection.is_closed():
                async with asyncio.timeout(10):
                    await slot.connection.execute("SELECT pg_catalog.pg_drop_replication_slot($1)", slot.name)
        await self._stack.aclose()
        if slot is not None:
            # It went with its session; behind a pooler that was not recognised it would outlive it.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(10), self._direct.connection() as connection:
                    await connection.execute(
                        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots "
                        "WHERE slot_name = $1 AND NOT active",
                        slot.name,
                    )
        await self._direct.close()

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            with self._direct.translated(doing):
                yield
        except CDCError:
            raise
        except S3GCError as error:
            raise CDCError(error.message, details=error.details) from error

    def _error(self, message: str, errors: Sequence[str] | None = None) -> CDCError:
        return CDCError(
            f"source {self._name!r} (PostgreSQL at {self._direct.address.shown}), change capture: {message}",
            details={"errors": list(errors or [message])},
        )


def _as_read(item: Item, texts: Sequence[str | None]) -> Iterator[object]:
    """A row's columns as the scan would have given them: see `postgres_snapshot`."""
    if item.template is not None:
        row = [
            bytes.fromhex(text[2:]).decode("utf-8", "surrogateescape")
            if text is not None and binary
            else _shown(text, column)
            for text, binary, column in zip(texts, item.template_bytes, item.reads, strict=True)
        ]
        yield item.template.compose(row)
        return
    (column,), (text,) = item.reads, texts
    if text is None:
        return
    exact = item.spec.format in (ReferenceFormat.KEY, ReferenceFormat.URL, ReferenceFormat.PREFIX)
    if column.is_array and (exact or column.element == "bytea"):
        for element in array_elements(text):
            if element is not None:
                yield bytes.fromhex(element[2:]) if column.element == "bytea" else _stripped(element, column)
    elif item.is_bytes:
        yield bytes.fromhex(text[2:])
    else:
        yield _shown(text, column)


def _shown(text: str | None, column: Column) -> str | None:
    """As a SELECT shows it: blanks at the end of a char(n) are padding, and a boolean is a letter."""
    if text is None or column.base not in ("bpchar", "bool"):
        return text
    return text.rstrip(" ") if column.base == "bpchar" else text[:1]


def _stripped(element: str, column: Column) -> str:
    return element.rstrip(" ") if column.element == "bpchar" else element


def _cannot_follow(item: Item, leaves: Sequence[asyncpg.Record]) -> str:
    """Why the log does not show all that would change what `item` reads, or ""."""
    for leaf in leaves:
        if leaf["kind"] not in ("r", "p"):
            return f"{leaf['name']} is a {KINDS.get(leaf['kind'], 'relation')}"
        if leaf["kind"] == "r" and leaf["persistence"] != "p":
            return f"{leaf['name']} is unlogged"
        if virtual := {column.name for column in item.reads} & set(leaf["virtual"]):
            return f"{', '.join(sorted(virtual))} is made while it is read"
    if item.condition:
        names = {name for leaf in leaves for name in leaf["columns"]}
        names |= {item.relation.schema, item.relation.name} if item.relation is not None else set()
        if found := what_may_change(item.condition, names):
            return f"its where may change by itself ({found!r})"
    return ""


async def _refusals(connection: asyncpg.Connection) -> list[str]:
    """Everything that stands in the way of a slot here, each with the way on."""
    facts = await load_facts(connection)
    row = await connection.fetchrow(
        "SELECT current_setting('wal_level') AS level, current_setting('max_replication_slots')::int AS slots, "
        "current_setting('max_wal_senders')::int AS senders, r.rolreplication OR r.rolsuper AS may, "
        "EXISTS (SELECT 1 FROM pg_catalog.pg_roles g WHERE g.rolname = 'rds_replication' "
        "        AND pg_has_role(current_user, g.oid, 'MEMBER')) AS may_on_rds, "
        "EXISTS (SELECT 1 FROM pg_catalog.pg_roles g WHERE g.rolname = 'rds_replication') AS is_rds "
        "FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
        timeout=CATALOG_SECONDS,
    )
    wrong: list[str] = []
    if facts.pooled:
        wrong.append(
            "the address leads to a connection pooler, where a slot would outlive its cycle: give the server's own "
            "address in cdc.urlSecretRef (cdc_connection_url)"
        )
    if facts.in_recovery:
        wrong.append("the address leads to a replica: give the primary's own address")
    if row["level"] != "logical":
        wrong.append(
            f"wal_level is {row['level']}: ALTER SYSTEM SET wal_level = logical, and restart the server (RDS and "
            "Aurora: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on)"
        )
    if not (row["may"] or row["may_on_rds"]):
        role = DIALECT.quote(facts.role)
        grant = f"GRANT rds_replication TO {role}" if row["is_rds"] else f"ALTER ROLE {role} REPLICATION"
        wrong.append(f"role {facts.role!r} may not make a replication slot: {grant}")
    return wrong


def _of_creation(error: asyncpg.PostgresError) -> str:
    said = str(error)
    if isinstance(error, asyncpg.ConfigurationLimitExceededError):
        return f"no slot is free ({said}): raise max_replication_slots"
    if isinstance(error, asyncpg.UndefinedFileError):
        return (
            f"the plug-in test_decoding is not installed ({said}): it belongs to PostgreSQL's contrib package"
        )
    return f"no slot: {said}"


def _session_settings(connection: asyncpg.Connection) -> str:
    """An error or a time-out of this session would drop the slot, so none of the role's own limits may reach it."""
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    if connection.get_server_version() >= (14, 0):
        names.append("idle_session_timeout")
    if connection.get_server_version() >= (17, 0):
        names.append("transaction_timeout")
    limits = "; ".join(f"SET {name} = 0" for name in names)
    return f"{limits}; SET bytea_output = 'hex'; SET default_transaction_read_only = off"
