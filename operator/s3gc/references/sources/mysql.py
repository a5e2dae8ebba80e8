"""References in MySQL and MariaDB: `MySQLSource`, the `Source` protocol over asyncmy.

The rooms it calls: `mysql_session` (connections, errors, streams), `mysql_catalog` and `mysql_plan` (names,
statements), `mysql_snapshot` (values), `mysql_watch` (fingerprint, barrier), `mysql_sample` (undeclared columns).
Every transaction is READ ONLY.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import asyncmy.errors

from s3gc.config import CDCBackend, SourceConfig
from s3gc.exceptions import CDCError, ConfigurationError, SourceError
from s3gc.references.cdc.types import Capture
from s3gc.references.sources.ignored import IgnoredColumns
from s3gc.references.sources.mysql_catalog import DIALECT, SYSTEM_SCHEMAS, literal, load_server, tables_of
from s3gc.references.sources.mysql_locking import WAYS_TO_LOCK, locked_rows
from s3gc.references.sources.mysql_plan import Item, Plan, make_plan
from s3gc.references.sources.mysql_sample import sample_columns
from s3gc.references.sources.mysql_session import CATALOG_SECONDS, IDLE_SECONDS, MySQL, Session
from s3gc.references.sources.mysql_snapshot import MySQLSnapshot, first_column
from s3gc.references.sources.mysql_values import decoded, spellings_asked
from s3gc.references.sources.mysql_watch import (
    fingerprint,
    reads_of,
    transactions_hidden,
    wait_for_writers,
)
from s3gc.references.sources.planning import (
    Problems,
    bounded,
    capture_address,
    key_spellings,
    query_obstacle,
)
from s3gc.references.sources.templates import empty_prefix_problem
from s3gc.references.sources.urls import parse_url
from s3gc.references.types import (
    BarrierResult,
    ReferenceRules,
    Snapshot,
    SourcePreflight,
)

__all__ = ["MySQLSource"]

#: Literals in one IN list, and their bytes: max_allowed_packet is 16 MiB or more on every server of today.
_LOOKUP_VALUES = 20_000
_LOOKUP_BYTES = 4 * 1024 * 1024
#: With a share lock fewer: MariaDB turns a list of 1,000 into a join, which could walk, and lock, the whole table.
_LOCKED_VALUES = 500
_ENGINES = frozenset({"innodb", "rocksdb"})


class MySQLSource:
    """One MySQL or MariaDB database. See `references.types.Source` for what each call promises."""

    dialect = "mysql"

    def __init__(self, config: SourceConfig, rules: ReferenceRules) -> None:
        self._address = parse_url(config.connection_url, config.name)
        self.name = config.name
        self.location = config.location
        self._config = config
        self._rules = rules
        self._server = MySQL(self._address, config.name)
        self._ignored = IgnoredColumns(config.ignore_columns, DIALECT)
        self._plan: Plan | None = None
        self._lock = ""  # the clause of the share lock, where that is the barrier

    async def preflight(self, *, execute: bool) -> SourcePreflight:
        """Check everything that is declared; raises with all problems at once. `execute` refuses a replica."""
        problems = Problems(self.name, self.location)
        warnings: list[str] = []
        with self._server.translated("preflight"):
            async with self._server.reading() as session:
                plan = await make_plan(session, self._config, self._rules, self._address.database, problems)
                for item in plan.items:
                    await self._refuse_empty_prefix(session, item, problems)
                await self._check_ignored(session, plan, problems)
                unfit = await _unfit(session, plan, warnings)
            async with self._server.session() as session:  # a new one: see `transactions_hidden`
                hidden = await transactions_hidden(session)
            if plan.server.read_only:
                sentence = "this server is read-only, so probably a replica: it may not have yet what the primary has"
                if execute:
                    problems.add(f"{sentence}; mode Execute reads the primary: give its address")
                else:
                    warnings.append(f"{sentence}; a dry run may do, mode Execute refuses it")
            if plan.server.proxied:
                warnings.append(
                    "the address leads to a proxy; each answer is checked to come from the same server"
                )
            problems.raise_if_any()
            reason = query_obstacle(plan.columns)
            barrier, missing = await self._barrier(plan, hidden, unfit, reason)
        self._plan = plan
        self._lock = self._lock if barrier == "share_lock" else ""
        return SourcePreflight(
            columns=plan.columns,
            can_query=not reason,
            query_reason=reason,
            barrier=barrier,
            barrier_missing=missing,
            warnings=tuple(warnings),
        )

    async def _refuse_empty_prefix(self, session: Session, item: Item, problems: Problems) -> None:
        if not item.needs_not_null or item.template is None:
            return
        try:
            ((count,),) = await session.rows(item.needs_not_null, timeout=CATALOG_SECONDS)
        except asyncmy.errors.MySQLError:
            return  # reading the column counts them as well
        if int(count):
            problems.add(empty_prefix_problem(item.spec.label, first_column(item), int(count)))

    async def _check_ignored(self, session: Session, plan: Plan, problems: Problems) -> None:
        if self._config.ignore_columns:
            rows = await session.rows(
                "SELECT table_schema, table_name, column_name FROM information_schema.columns "
                f"WHERE table_schema NOT IN {SYSTEM_SCHEMAS}"
            )
            columns: dict[tuple[str, str], list[str]] = {}
            for schema, table, column in rows:
                columns.setdefault((str(schema), str(table)), []).append(str(column))
            self._ignored.check(columns, problems)

    async def _barrier(self, plan: Plan, hidden: str, unfit: str, not_exact: str) -> tuple[str, str]:
        """Return how the end of writers can be seen, or why not and what to do."""
        if unfit:
            return "", unfit
        if plan.server.read_only:
            return "", "a replica does not know the primary's open transactions: read the primary"
        if not hidden:
            return "innodb_trx", ""
        granted = (
            hidden if "PROCESS" not in hidden else f"GRANT PROCESS ON *.* TO {_account(plan.server.user)}"
        )
        obstacle = not_exact or _not_lockable(plan)
        if not obstacle:
            obstacle = await self._try_to_lock(plan)
        if obstacle:
            return (
                "",
                f"{granted} (without it every column must have format key and an index, but {obstacle})",
            )
        return "share_lock", ""

    async def _try_to_lock(self, plan: Plan) -> str:
        """Find out how this server locks; returns why it does not, or ""."""
        obstacle = ""
        for self._lock in WAYS_TO_LOCK:
            try:
                with self._server.translated("trying a share lock"):
                    await self._ask(plan, ["s3gc-probe"], self._lock)
            except SourceError as error:
                obstacle = error.message  # another dialect's words, or no share lock at all
            except ConfigurationError as error:
                return f"LOCK IN SHARE MODE is refused: {error.message}"
            else:
                return ""
        return obstacle

    async def _ready(self) -> Plan:
        if self._plan is None:
            await self.preflight(execute=False)
        if self._plan is None:
            raise SourceError(f"source {self.name!r} has no plan to read by")
        return self._plan

    async def _same_server(self, session: Session, plan: Plan) -> None:
        """Raise SourceError when another server answers than the one that was checked (proxy, fail-over)."""
        server = await load_server(session)
        if server.identity != plan.server.identity or server.read_only != plan.server.read_only:
            raise SourceError(
                f"source {self.name!r} ({self.location}): another server answers than at the beginning; behind a "
                "proxy that splits reads from writes, give the primary's own address"
            )

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """One consistent snapshot for all columns. Read them one after the other."""
        plan = await self._ready()
        async with contextlib.AsyncExitStack() as stack:
            with self._server.translated("opening a snapshot"):
                session = await stack.enter_async_context(self._server.reading())
                await self._same_server(session, plan)
            yield MySQLSnapshot(self._server, session, plan)

    async def referenced(self, keys: Sequence[str]) -> dict[str, str]:
        """See `Source.referenced`. Raises SourceError when not `can_query`, or when a lock is not had in time.

        With barrier "share_lock" it waits for writes in flight on the keys asked for, and sees what they wrote.
        """
        plan = await self._ready()
        if reason := query_obstacle(plan.columns):
            raise SourceError(f"source {self.name!r} cannot be asked for single keys: {reason}")
        with self._server.translated("asking for keys"):
            return await self._ask(plan, keys, self._lock)

    async def _ask(self, plan: Plan, keys: Sequence[str], lock: str) -> dict[str, str]:
        found: dict[str, str] = {}
        async with self._server.reading(locking=bool(lock)) as session:
            await self._same_server(session, plan)
            for item in plan.items:
                wanted = spellings_asked(item.column, key_spellings(keys, item.spec.rules))

                def statement(part: Sequence[str | bytes], item: Item = item) -> str:
                    return item.lookup([literal(value) for value in part], lock)

                for part in _portions(list(wanted), _LOCKED_VALUES if lock else _LOOKUP_VALUES):
                    rows = (
                        await locked_rows(session, part, statement)
                        if lock
                        else await session.rows(statement(part), timeout=IDLE_SECONDS)
                    )
                    for row in rows:
                        # A collation takes more for equal than we asked: compared again, byte by byte.
                        for value in decoded(item.column, row[1]):
                            for key in wanted.get(value, ()):
                                found.setdefault(key, item.spec.label)
        return found

    async def fingerprint(self) -> str:
        """See `Source.fingerprint` and `mysql_watch.fingerprint`: OPTIMIZE TABLE counts as a change."""
        plan = await self._ready()
        with self._server.translated("fingerprint of the catalog"):
            async with self._server.session() as session:
                await self._same_server(session, plan)
                return await fingerprint(session, plan)

    async def barrier(self, timeout_seconds: float) -> BarrierResult:
        """See `Source.barrier`. Waits for every writer of the server; with "share_lock" `referenced` itself waits."""
        plan = await self._ready()
        if self._lock:
            return BarrierResult(
                passed=True, waited_seconds=0.0, detail="asking for keys waits for writes in flight"
            )
        with self._server.translated("waiting for writers"):
            async with self._server.session() as session:
                result = await wait_for_writers(session, timeout_seconds)
                await self._same_server(session, plan)
                return result

    async def capture(self) -> Capture:
        """Return change capture of this source, checked: raises CDCError with all that is missing, and what to grant.

        The log is read at `cdc.url`, where that is given: the primary's own address, past any proxy.
        """
        direct = capture_address(self._config, CDCBackend.MYSQL, ("mysql", "mariadb"), "MySQL or MariaDB")
        plan = await self._ready()
        try:
            from s3gc.references.cdc.mysql_capture import MySQLCapture
        except ModuleNotFoundError as error:
            if error.name not in ("pymysqlreplication", "pymysql"):
                raise
            raise CDCError(
                f"source {self.name!r}: change capture of MySQL and MariaDB needs the package mysql-replication: "
                "pip install 's3gc[mysql]'"
            ) from None
        if self._lock:
            # That barrier waits for nobody by itself: it is the asking for keys that waits, and a stream asks nobody.
            raise CDCError(
                f"source {self.name!r} ({self.location}): with change capture the end of open writers must be seen: "
                f"GRANT PROCESS ON *.* TO {_account(plan.server.user)}, or remove cdc"
            )
        capture = MySQLCapture(self.name, self._server, MySQL(direct, self.name), plan)
        await capture.preflight()
        return capture

    async def undeclared(self, limit: int = 1000) -> AsyncIterator[tuple[str, Sequence[object]]]:
        """See `Source.undeclared` and `mysql_sample`: bounded in time; what ran out of it is logged."""
        plan = await self._ready()
        async for sample in sample_columns(self._server, plan, self._ignored, limit):
            yield sample

    async def close(self) -> None:
        """End every session that is still open. The source can be used again."""
        await self._server.close()


def _portions(values: Sequence[str | bytes], most: int) -> list[list[str | bytes]]:
    portions: list[list[str | bytes]] = [[]]
    size = 0
    for value in values:
        width = 4 * len(value) + 16
        if portions[-1] and (len(portions[-1]) >= most or size + width > _LOOKUP_BYTES):
            portions.append([])
            size = 0
        portions[-1].append(value)
        size += width
    return [portion for portion in portions if portion]


def _account(user: str) -> str:
    name, _, host = user.rpartition("@")
    return f"'{name}'@'{host}'"


def _not_lockable(plan: Plan) -> str:
    if plan.queries and all(item.table is not None for item in plan.items):
        return "a where reads other tables, whose writers a share lock on ours does not wait for"
    for item in plan.items:
        if item.table is None:
            return f"{item.spec.label} is a query"
        if item.table.is_view:
            return f"{item.table.label} is a view"
        if not item.index:
            return f"{item.spec.label} has no index that begins with it"
        if item.spec.rules.derivatives:
            return f"{item.spec.label} keeps derivatives"
    return ""


async def _unfit(session: Session, plan: Plan, warnings: list[str]) -> str:
    """Return why this server's transactions say nothing about all writers of what is read, or ""."""
    reads = await reads_of(session, plan)
    other = [
        f"{table.label} ({table.engine or 'no engine'})"
        for table in await tables_of(session, reads.tables)
        if not table.is_view and table.engine.lower() not in _ENGINES
    ]
    reasons: list[str] = []
    if other:
        warnings.append(f"{bounded(other)}: not InnoDB, so not part of the snapshot that all columns share")
        reasons.append(
            f"{bounded(other)} is not InnoDB: ALTER TABLE … ENGINE=InnoDB, or declare what it copies"
        )
    if reads.unknown:
        warnings.append(f"the text of {bounded(reads.unknown)} cannot be seen: GRANT SHOW VIEW")
    nodes = await session.rows("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")
    if any(str(size).isdigit() and int(size) > 1 for _, size in nodes):
        reasons.append("this is one node of a Galera cluster, and writers of the others cannot be seen")
    group = await session.rows("SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode'")
    if any(str(value).upper() in ("OFF", "0") for _, value in group):
        reasons.append("this is a multi-primary group, and writers of the other members cannot be seen")
    return "; ".join(reasons)
