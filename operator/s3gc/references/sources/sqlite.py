"""References in SQLite: `SQLiteSource`, the `Source` protocol over aiosqlite. The file is opened read-only.

Column names in statements are always qualified by their table: SQLite takes a quoted name that it does not know
for a string, and a dropped column would read as its own name in every row.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence

import aiosqlite

from s3gc.config import SourceConfig
from s3gc.exceptions import CDCError, ConfigurationError, SourceError
from s3gc.references.cdc.types import Capture
from s3gc.references.sources.batches import batched
from s3gc.references.sources.ignored import IgnoredColumns
from s3gc.references.sources.planning import Problems, byte_spellings, key_spellings, query_obstacle
from s3gc.references.sources.sqlite_plan import DIALECT, Item, Plan, make_plan
from s3gc.references.sources.sqlite_session import CATALOG_SECONDS, IDLE_SECONDS, SQLite
from s3gc.references.sources.templates import empty_prefix_problem, is_empty_prefix
from s3gc.references.types import (
    BarrierResult,
    ColumnSpec,
    PrefixReference,
    ReferenceRules,
    Snapshot,
    SourcePreflight,
)

__all__ = ["SQLiteSource"]

logger = logging.getLogger(__name__)

_SAMPLE_SECONDS = 5.0
_SAMPLE_CHARACTERS = 100_000


class SQLiteSource:
    """One SQLite file. See `references.types.Source` for what each call promises."""

    dialect = "sqlite"

    def __init__(self, config: SourceConfig, rules: ReferenceRules) -> None:
        self._file = SQLite(config.connection_url, config.name)
        self.name = config.name
        self.location = config.location
        self._config = config
        self._rules = rules
        self._ignored = IgnoredColumns(config.ignore_columns, DIALECT)
        self._plan: Plan | None = None

    async def preflight(self, *, execute: bool) -> SourcePreflight:
        """Check everything that is declared; raises with all problems at once."""
        self._file.check_file()
        problems = Problems(self.name, self.location)
        warnings: list[str] = []
        with self._file.translated("preflight"):
            async with asyncio.timeout(CATALOG_SECONDS), self._file.reading() as connection:
                plan = await make_plan(connection, self._config, self._rules, problems)
                for item in plan.items:
                    await self._refuse_empty_prefix(connection, item, problems)
                ((journal,),) = await connection.execute_fetchall("PRAGMA journal_mode")
        self._ignored.check(
            {("main", table): [column.name for column in columns] for table, columns in plan.tables.items()},
            problems,
        )
        if str(journal).lower() != "wal":
            warnings.append(
                f"journal mode is {journal}: the application's commits wait while references are read; "
                "PRAGMA journal_mode=WAL lets both go on"
            )
        missing = await self._barrier_missing()
        problems.raise_if_any()
        self._plan = plan
        reason = query_obstacle(plan.columns)
        return SourcePreflight(
            columns=plan.columns,
            can_query=not reason,
            query_reason=reason,
            barrier="" if missing else "exclusive",
            barrier_missing=missing,
            warnings=tuple(warnings),
        )

    async def _refuse_empty_prefix(
        self, connection: aiosqlite.Connection, item: Item, problems: Problems
    ) -> None:
        if item.needs_not_null:
            ((count,),) = await connection.execute_fetchall(item.needs_not_null)
            if count:
                problems.add(empty_prefix_problem(item.spec.label, item.first_column, count))

    async def _barrier_missing(self) -> str:
        """Return why writers cannot be waited for, or "". The lock of a writer can only be had by one who may write."""
        writable = os.access(self._file.path, os.W_OK) and os.access(self._file.path.parent, os.W_OK)
        if writable:
            return ""
        return (
            f"this user cannot write to {self._file.path} and its folder, so it cannot take SQLite's write lock (BEGIN "
            "IMMEDIATE, rolled back at once) to see that writers are done; give it that right"
        )

    async def _ready(self) -> Plan:
        if self._plan is None:
            await self.preflight(execute=False)
        if self._plan is None:
            raise SourceError(f"source {self.name!r} has no plan to read by")
        return self._plan

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """One read transaction for all columns."""
        plan = await self._ready()
        async with contextlib.AsyncExitStack() as stack:
            with self._file.translated("opening a snapshot"):
                connection = await stack.enter_async_context(self._file.reading())
            yield _SQLiteSnapshot(self._file, connection, plan)

    async def referenced(self, keys: Sequence[str]) -> dict[str, str]:
        """See `Source.referenced`. One read transaction; raises SourceError when not `can_query`."""
        plan = await self._ready()
        if reason := query_obstacle(plan.columns):
            raise SourceError(f"source {self.name!r} cannot be asked for single keys: {reason}")
        found: dict[str, str] = {}
        with self._file.translated("asking for keys"):
            async with asyncio.timeout(IDLE_SECONDS), self._file.reading() as connection:
                for item in plan.items:
                    wanted = key_spellings(keys, item.spec.rules)
                    blobs = {
                        blob.hex(): names for value, names in wanted.items() for blob in byte_spellings(value)
                    }
                    rows = await connection.execute_fetchall(
                        item.lookup, (json.dumps(list(wanted)), json.dumps(list(blobs)))
                    )
                    for (value,) in rows:
                        names = (
                            blobs.get(value.hex()) if isinstance(value, bytes) else wanted.get(_plain(value))
                        )
                        for key in names or ():
                            found.setdefault(key, item.spec.label)
        return found

    async def fingerprint(self) -> str:
        """See `Source.fingerprint`: the file's identity and the text of the schema; not changed by VACUUM."""
        plan = await self._ready()
        with self._file.translated("fingerprint of the schema"):
            async with asyncio.timeout(CATALOG_SECONDS), self._file.reading() as connection:
                # The rank among all tables tells a table from one of the same text that was renamed into its place.
                rows = await connection.execute_fetchall(
                    "SELECT rank() OVER (ORDER BY rowid), type, name, sql FROM sqlite_master "
                    "WHERE type IN ('table', 'view') ORDER BY rowid"
                )
            identity = self._file.path.stat()
        watched = [list(row) for row in rows if plan.reads_everything or str(row[2]) in plan.read_tables]
        facts = [identity.st_dev, identity.st_ino, watched, list(plan.queries)]
        return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()

    async def barrier(self, timeout_seconds: float) -> BarrierResult:
        """See `Source.barrier`: take the file's only write lock, and give it back."""
        started = time.monotonic()
        detail = ""
        while True:
            waited = time.monotonic() - started
            if detail and waited >= timeout_seconds:
                return BarrierResult(passed=False, waited_seconds=waited, detail=detail)
            try:
                with self._file.translated("waiting for writers"):
                    # Short waits inside SQLite, for nothing can interrupt them.
                    async with self._file.connection(mode="rw", busy_seconds=0.1) as connection:
                        # SQLite has one writer at a time: whoever was writing is done once the lock is ours.
                        await connection.execute("BEGIN IMMEDIATE")
                        await connection.execute("ROLLBACK")
                return BarrierResult(passed=True, waited_seconds=time.monotonic() - started)
            except SourceError as error:
                detail = (
                    f"the write lock could not be had in {timeout_seconds:.0f} s (SQLite does not say who has it): "
                    f"{error.message}"
                )
            await asyncio.sleep(0.05)

    async def capture(self) -> Capture:
        """See `Source.capture`: there is none, and none is needed, where one file has one writer."""
        raise CDCError(f"source {self.name!r} ({self.location}): SQLite has no change capture; remove cdc")

    async def undeclared(self, limit: int = 1000) -> AsyncIterator[tuple[str, Sequence[object]]]:
        """See `Source.undeclared`. Every column may hold text in SQLite, whatever its declared type.

        The columns of a template count as undeclared, as `postgres_sample` argues. Half of a sample are the newest
        rows, so that a column that somebody added last week is seen however large the table is.
        """
        plan = await self._ready()
        for table, columns in plan.tables.items():
            if table in plan.views:
                continue
            for column in columns:
                if (table, column.name) in plan.declared or self._ignored.covers("main", table, column.name):
                    continue
                values = await self._sample(table, column.name, limit)
                if values:
                    yield f"main.{table}.{column.name}", values

    async def _sample(self, table: str, column: str, limit: int) -> list[object]:
        name, value = DIALECT.quote(table), f"{DIALECT.quote(table)}.{DIALECT.quote(column)}"
        select = (
            f"SELECT substr({value}, 1, {_SAMPLE_CHARACTERS}) FROM {name} "
            f"WHERE typeof({value}) IN ('text', 'blob')"
        )
        values: dict[object, None] = {}
        for order in (f" ORDER BY {name}.rowid DESC", ""):
            try:
                async with asyncio.timeout(_SAMPLE_SECONDS), self._file.connection() as connection:
                    for (found,) in await connection.execute_fetchall(
                        f"{select}{order} LIMIT {max(limit // 2, 1)}"
                    ):
                        values[found] = None
            except aiosqlite.Error as error:
                if "rowid" not in str(error):  # a table WITHOUT ROWID has no newest rows to ask for
                    logger.warning(
                        "the undeclared column %s.%s could not be sampled: %s", table, column, error
                    )
            except TimeoutError:
                logger.warning(
                    "a sample of the undeclared column %s.%s is incomplete: it took more than %.0f s",
                    table, column, _SAMPLE_SECONDS,
                )  # fmt: skip
        return list(values)

    async def close(self) -> None:
        """Close every connection that is still open. The source can be used again."""
        await self._file.close()


class _SQLiteSnapshot:
    def __init__(self, file: SQLite, connection: aiosqlite.Connection, plan: Plan) -> None:
        self._file = file
        self._connection = connection
        self._plan = plan

    async def values(self, column: ColumnSpec, batch: int = 10_000) -> AsyncIterator[Sequence[object]]:
        """See `Snapshot.values`. Numbers come as their text. Reading a cut-off or damaged file raises."""
        item = self._plan.items[column.index]
        empty = 0
        with self._file.translated(f"reading {item.spec.label}"):
            cursor = await self._connection.execute(item.select)

            async def fetch(rows: int) -> list[Sequence[object]]:
                async with asyncio.timeout(IDLE_SECONDS):
                    return list(await cursor.fetchmany(rows))

            rows = batched(fetch, batch)
        try:
            while True:
                with self._file.translated(f"reading {item.spec.label}"):
                    found = await anext(rows, None)
                if found is None:
                    break
                if item.template is None:
                    yield [_value(row[0]) for row in found]
                    continue
                composed = [
                    item.template.compose([None if v is None else _plain(v) for v in row]) for row in found
                ]
                kept = [k for k in composed if not (isinstance(k, PrefixReference) and is_empty_prefix(k))]
                empty += len(composed) - len(kept)
                if kept:
                    yield kept
        finally:
            with contextlib.suppress(aiosqlite.Error, ValueError):
                await cursor.close()
        if empty:
            problem = empty_prefix_problem(item.spec.label, item.first_column, empty)
            raise ConfigurationError(f"source {item.spec.source!r}: {problem}")


def _value(value: object) -> object:
    return value if isinstance(value, (str, bytes)) else str(value)


def _plain(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
