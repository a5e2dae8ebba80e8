"""References in PostgreSQL: `PostgresSource`, the `Source` protocol over asyncpg.

The rooms it calls: `postgres_session` (connections, errors), `postgres_catalog` (names, types, rights),
`postgres_plan` (statements), `postgres_snapshot` and `postgres_copy` (rows), `postgres_watch` (fingerprint, barrier)
and `postgres_sample` (undeclared columns). Nothing is ever written: every transaction is READ ONLY.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence

import asyncpg

from s3gc.config import MAX_LAG_BYTES, CDCBackend, SourceConfig
from s3gc.exceptions import SourceError
from s3gc.references.cdc.types import Capture
from s3gc.references.sources.ignored import IgnoredColumns
from s3gc.references.sources.planning import (
    Problems,
    bounded,
    byte_spellings,
    capture_address,
    key_spellings,
    query_obstacle,
)
from s3gc.references.sources.postgres_catalog import (
    DIALECT,
    KINDS,
    Facts,
    load_columns,
    load_facts,
    mentioned,
    tree,
)
from s3gc.references.sources.postgres_plan import Item, Plan, make_plan
from s3gc.references.sources.postgres_sample import sample_columns, undeclared_columns
from s3gc.references.sources.postgres_session import CATALOG_SECONDS, IDLE_SECONDS, Postgres
from s3gc.references.sources.postgres_snapshot import PostgresSnapshot
from s3gc.references.sources.postgres_watch import fingerprint, refuse_rewritten, wait_for_writers
from s3gc.references.sources.templates import empty_prefix_problem
from s3gc.references.sources.urls import parse_url
from s3gc.references.types import BarrierResult, ReferenceRules, Snapshot, SourcePreflight

__all__ = ["PostgresSource"]

#: Values asked for in one statement: a pass over an unindexed column costs the same for 1,000 as for 100,000.
_LOOKUP_VALUES = 200_000
#: How long the preflight counts rows that a template would turn into a reference to everything.
_COUNT_SECONDS = 60


class PostgresSource:
    """One PostgreSQL database. See `references.types.Source` for what each call promises."""

    dialect = "postgresql"

    def __init__(self, config: SourceConfig, rules: ReferenceRules) -> None:
        self._database = Postgres(parse_url(config.connection_url, config.name), config.name)
        self.name = config.name
        self.location = config.location
        self._config = config
        self._rules = rules
        self._ignored = IgnoredColumns(config.ignore_columns, DIALECT)
        self._plan: Plan | None = None
        # False: the server raises where a policy would hide rows. Only a dry run, having warned, reads around it.
        self._row_security = False

    async def preflight(self, *, execute: bool) -> SourcePreflight:
        """Check everything that is declared. Raises with all problems at once; `execute` refuses what a dry run
        only warns of: a replica, and rows hidden by row-level security."""
        with self._database.translated("preflight"):
            async with self._database.reading() as connection:
                return await self._check(connection, execute=execute)

    async def _check(self, connection: asyncpg.Connection, *, execute: bool) -> SourcePreflight:
        problems = Problems(self.name, self.location)
        warnings: list[str] = []
        facts = await load_facts(connection)
        plan = await make_plan(connection, self._config, self._rules, facts, problems)
        hidden = [
            item.spec.label for item in plan.items if item.relation is not None and item.relation.row_security
        ]
        for item in plan.items:
            if await self._cannot_run(connection, item, problems) and item.spec.label not in hidden:
                hidden.append(item.spec.label)
        if hidden:
            sentence = (
                f"row-level security hides rows from role {facts.role!r} in {bounded(hidden)}: what cannot be seen "
                f"cannot be counted as referenced; "
                f"ALTER ROLE {DIALECT.quote(facts.role)} BYPASSRLS, or use the tables' owner"
            )
            (problems.add if execute else warnings.append)(sentence)
        else:
            await self._refuse_empty_prefixes(connection, plan, problems)
        await self._check_ignored(connection, plan, problems, warnings)
        warnings += _where_we_are(facts, execute, problems)
        missing = await _barrier_missing(connection, facts, plan, warnings)
        problems.raise_if_any()
        self._plan = plan
        self._row_security = bool(hidden)
        reason = query_obstacle(plan.columns)
        return SourcePreflight(
            columns=plan.columns,
            can_query=not reason,
            query_reason=reason,
            barrier="" if missing else "locks",
            barrier_missing=missing,
            warnings=tuple(warnings),
        )

    async def _cannot_run(self, connection: asyncpg.Connection, item: Item, problems: Problems) -> bool:
        """Have the server plan the statement, which checks names, rights and that it is one statement.

        Returns whether row-level security stands in the way.
        """
        try:
            async with connection.transaction():
                await connection.fetch(f"EXPLAIN {item.select}", timeout=CATALOG_SECONDS)
        except asyncpg.InsufficientPrivilegeError as error:
            if "row-level security" in str(error):
                return True
            table = item.relation.sql if item.relation is not None else "the tables that it reads"
            problems.deny(f"{item.spec.label}: {error}: GRANT SELECT ON {table} TO our role")
        except asyncpg.PostgresError as error:
            if item.spec.kind != "query":  # a query's own errors have been said
                table = item.relation.label if item.relation is not None else item.spec.label
                problems.add(f"where of {table}: {error}")
        return False

    async def _refuse_empty_prefixes(
        self, connection: asyncpg.Connection, plan: Plan, problems: Problems
    ) -> None:
        for item in plan.items:
            if not item.needs_not_null:
                continue
            try:
                async with connection.transaction():
                    await connection.execute(f"SET LOCAL statement_timeout = '{_COUNT_SECONDS}s'")
                    count = await connection.fetchval(item.needs_not_null, timeout=CATALOG_SECONDS)
            except asyncpg.PostgresError:
                continue  # too slow, or wrong and said already: reading the column counts them as well
            if count:
                problems.add(empty_prefix_problem(item.spec.label, item.first_column, count))

    async def _check_ignored(
        self, connection: asyncpg.Connection, plan: Plan, problems: Problems, warnings: list[str]
    ) -> None:
        if self._config.ignore_columns:
            relations = {r.oid: r for r in plan.catalog.values() if not r.is_partition}
            columns = await load_columns(connection, list(relations))
            names = {(r.schema, r.name): list(columns[oid]) for oid, r in relations.items()}
            self._ignored.check(names, problems)
        _, unreadable = await undeclared_columns(connection, plan, self._ignored)
        if unreadable:
            warnings.append(
                f"undeclared columns of {bounded(unreadable)} cannot be sampled, because they cannot be read: "
                "GRANT SELECT, or list them in ignoreColumns"
            )

    async def _ready(self) -> Plan:
        if self._plan is None:
            await self.preflight(execute=False)
        if self._plan is None:
            raise SourceError(f"source {self.name!r} has no plan to read by")
        return self._plan

    async def _same_kind(self, connection: asyncpg.Connection, plan: Plan) -> None:
        """Raise SourceError when a replica answers where the primary was checked: a proxy, or several hosts in the
        URL, may lead elsewhere each time, and a replica does not have yet what was just committed."""
        if not plan.facts.in_recovery and await connection.fetchval(
            "SELECT pg_is_in_recovery()", timeout=CATALOG_SECONDS
        ):
            raise SourceError(
                f"source {self.name!r} ({self.location}): a replica answers now; give the primary's own address "
                "(target_session_attrs=read-write where the URL has several hosts)"
            )

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """One REPEATABLE READ transaction for all columns. Read them one after the other."""
        plan = await self._ready()
        async with contextlib.AsyncExitStack() as stack:
            with self._database.translated("opening a snapshot"):
                connection = await stack.enter_async_context(
                    self._database.reading(row_security=self._row_security)
                )
                await self._same_kind(connection, plan)
                oids = [oid for oid, _, _ in await _watched(connection, plan)]
            view = PostgresSnapshot(self._database, connection, plan, oids)
            stack.push_async_callback(view.close)
            yield view

    async def referenced(self, keys: Sequence[str]) -> dict[str, str]:
        """See `Source.referenced`. One snapshot for all columns; raises SourceError when not `can_query`."""
        plan = await self._ready()
        if reason := query_obstacle(plan.columns):
            raise SourceError(f"source {self.name!r} cannot be asked for single keys: {reason}")
        found: dict[str, str] = {}
        with self._database.translated("asking for keys"):
            async with self._database.reading(row_security=self._row_security) as connection:
                await self._same_kind(connection, plan)
                for item in plan.items:
                    wanted = key_spellings(keys, item.spec.rules)
                    for asked, names in _askable(item, wanted):
                        rows = await connection.fetch(item.lookup, asked, timeout=IDLE_SECONDS)
                        for row in rows:
                            # What the type takes for equal (citext, char) may be more than what was asked.
                            for key in names.get(row[0], ()):
                                found.setdefault(key, item.spec.label)
                oids = [oid for oid, _, _ in await _watched(connection, plan)]
                await refuse_rewritten(connection, oids, [r.oid for r in plan.relations])
        return found

    async def fingerprint(self) -> str:
        """See `Source.fingerprint`. Does not change by VACUUM (FULL), ANALYZE, TRUNCATE or any write."""
        plan = await self._ready()
        with self._database.translated("fingerprint of the catalog"):
            async with self._database.reading(repeatable=False) as connection:
                oids = [oid for oid, _, _ in await _watched(connection, plan)]
                return await fingerprint(connection, oids, plan.queries)

    async def barrier(self, timeout_seconds: float) -> BarrierResult:
        """See `Source.barrier`. With queries or views: writers of any table of the database."""
        plan = await self._ready()
        with self._database.translated("waiting for writers"):
            async with self._database.connection() as connection:
                everything = bool(plan.queries) or any(r.kind in ("v", "m") for r in plan.relations)
                oids = None if everything else [oid for oid, _, _ in await _watched(connection, plan)]
                return await wait_for_writers(connection, oids, timeout_seconds)

    async def capture(self) -> Capture:
        """See `Source.capture`. The slot is made at `cdc.url`, where that is given: the server's own address."""
        from s3gc.references.cdc.postgres_capture import PostgresCapture  # heavy, and few cycles need it

        address = capture_address(self._config, CDCBackend.POSTGRES, ("postgresql", "postgres"), "PostgreSQL")
        capture = PostgresCapture(
            self.name,
            self._database,
            Postgres(address, self.name),
            await self._ready(),
            max_lag_bytes=self._config.cdc.max_lag_bytes if self._config.cdc else MAX_LAG_BYTES,
        )
        await capture.preflight()
        return capture

    async def undeclared(self, limit: int = 1000) -> AsyncIterator[tuple[str, Sequence[object]]]:
        """See `Source.undeclared` and `postgres_sample`: bounded in time; what ran out of it is logged."""
        plan = await self._ready()
        with self._database.translated("looking for undeclared columns"):
            async with self._database.reading(row_security=True) as connection:
                columns, _ = await undeclared_columns(connection, plan, self._ignored)
        async for sample in sample_columns(self._database, columns, limit):
            yield sample

    async def close(self) -> None:
        """End every session that is still open. The source can be used again."""
        await self._database.close()


def _askable(item: Item, wanted: dict[str, list[str]]) -> list[tuple[list[object], dict[object, list[str]]]]:
    """Return what to ask the server for, in portions, each with the keys that an answer stands for."""
    by_value: dict[object, list[str]] = {}
    for value, keys in wanted.items():
        if item.lookup_kind == "bytea":
            for spelling in byte_spellings(value):
                by_value.setdefault(spelling, []).extend(keys)
        elif item.lookup_kind == "uuid":
            with contextlib.suppress(ValueError):
                if str(uuid.UUID(value)) == value:
                    by_value[value] = keys
        elif "\0" not in value:  # which no text in PostgreSQL can hold
            by_value[value] = keys
    values = list(by_value)
    return [
        (part, by_value)
        for part in (
            values[start : start + _LOOKUP_VALUES] for start in range(0, len(values), _LOOKUP_VALUES)
        )
    ]


async def _watched(connection: asyncpg.Connection, plan: Plan) -> list[tuple[int, str, str]]:
    """Everything the policy reads from, as it is now: a partition attached since belongs to it."""
    named = await mentioned(connection, plan.queries)
    return await tree(connection, [*(relation.oid for relation in plan.relations), *named])


def _where_we_are(facts: Facts, execute: bool, problems: Problems) -> list[str]:
    warnings: list[str] = []
    if facts.in_recovery:
        sentence = (
            "this server is a replica (pg_is_in_recovery): it may not have yet what the primary has committed, "
            "and does not see who is writing"
        )
        if execute:
            problems.add(f"{sentence}; mode Execute reads the primary: give its address")
        else:
            warnings.append(f"{sentence}; a dry run may do, mode Execute refuses it")
    if facts.pooled:
        warnings.append(
            "the address leads to a connection pooler: reading works through it; "
            "change capture needs the direct address"
        )
    return warnings


async def _barrier_missing(
    connection: asyncpg.Connection, facts: Facts, plan: Plan, warnings: list[str]
) -> str:
    """Return why the end of open writers cannot be seen here, or ""."""
    watched = await _watched(connection, plan)
    stale = [label for _, kind, label in watched if kind == "m"]
    foreign = [label for _, kind, label in watched if kind == "f"]
    reasons: list[str] = []
    if stale:
        warnings.append(
            f"{bounded(stale)}: a {KINDS['m']} shows what was there at its last REFRESH; later references are not seen"
        )
        reasons.append(
            f"{bounded(stale)} is as old as its last REFRESH: declare the tables that it is made of"
        )
    if foreign:
        warnings.append(f"{bounded(foreign)}: a {KINDS['f']} is not part of this database's snapshot")
        reasons.append(
            f"{bounded(foreign)} is written on another server: declare that database as a source of its own"
        )
    if facts.in_recovery:
        reasons.append("a replica does not know the primary's open transactions: read the primary")
    try:
        async with connection.transaction():
            replicated = await connection.fetch(
                "SELECT DISTINCT srrelid::regclass::text AS name FROM pg_catalog.pg_subscription_rel "
                "WHERE srrelid = ANY($1::oid[])",
                [oid for oid, _, _ in watched],
                timeout=CATALOG_SECONDS,
            )
    except asyncpg.PostgresError:
        replicated = []  # no right to look; then it is not known, as on any server that is fed from elsewhere
    if replicated:
        names = bounded([row["name"] for row in replicated])
        warnings.append(
            f"{names}: filled by logical replication, so what its publisher commits arrives later"
        )
        reasons.append(f"{names} is written by a publisher elsewhere: read that database")
    return "; ".join(reasons)
