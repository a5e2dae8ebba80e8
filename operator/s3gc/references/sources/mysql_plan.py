"""From a policy to statements on MySQL and MariaDB.

A `Plan` is made by the preflight and holds all that later calls need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncmy.errors

from s3gc.config import ColumnConfig, ReferenceFormat, SourceConfig, TableConfig
from s3gc.references.sources.identifiers import find_column, find_table
from s3gc.references.sources.mysql_catalog import (
    DIALECT,
    SHAPES,
    SYSTEM_SCHEMAS,
    Column,
    Server,
    Table,
    load_server,
    tables_of,
)
from s3gc.references.sources.mysql_session import Session
from s3gc.references.sources.planning import Problems, one_statement, own_sql, rules_of, single_line
from s3gc.references.sources.templates import Template, parse_template
from s3gc.references.types import ColumnSpec, ReferenceRules

__all__ = ["Item", "Plan", "make_plan"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to read; ``SELECT 1, value …``."""

    spec: ColumnSpec
    select: str
    column: Column | None = None  # None: a query, whose values are taken as they come
    template: Template | None = None
    parts: tuple[Column, ...] = ()
    table: Table | None = None
    condition: str = ""
    query: str = ""
    query_column: str = ""
    needs_not_null: str = ""

    @property
    def index(self) -> str:
        """The index that a locking read may walk: it locks what it finds, and without one the whole table."""
        if self.column is None or self.table is None or not (self.column.is_text or self.column.is_binary):
            return ""
        if self.column.compared != DIALECT.quote(self.column.name):
            return ""
        return self.table.indexes.get(self.column.name, "")

    def lookup(self, literals: Sequence[str], lock: str = "") -> str:
        """Return the statement that asks which of `literals` are there, with a clause that locks."""
        if self.table is not None and self.column is not None:
            value, source, compared = self.column.sql, self.table.sql, self.column.compared
            if lock:
                source += f" FORCE INDEX ({DIALECT.quote(self.index)})"
        else:
            value, source = f"q.{DIALECT.quote(self.query_column)}", f"(\n{self.query}\n) AS q"
            value = compared = f"CAST({value} AS CHAR CHARACTER SET utf8mb4)"
        both = f"{self.condition} AND " if self.condition else ""
        listed = ", ".join(literals)
        return (
            f"SELECT DISTINCT 1, {value} FROM {source} WHERE {both}{compared} IN ({listed}) {lock}".rstrip()
        )


@dataclass(frozen=True, slots=True)
class Plan:
    items: tuple[Item, ...]
    tables: tuple[Table, ...]
    queries: tuple[str, ...]  # SQL that may read other tables, see `own_sql`
    declared: frozenset[tuple[str, str, str]]
    names: frozenset[tuple[str, str]]  # every table that we see
    schemas: tuple[str, ...]  # the database of the URL and those of declared tables
    server: Server

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        return tuple(item.spec for item in self.items)


async def make_plan(
    session: Session, config: SourceConfig, rules: ReferenceRules, database: str, problems: Problems
) -> Plan:
    """Resolve everything that `config` declares; what cannot be goes to `problems`."""
    server = await load_server(session)
    rows = await session.rows(
        f"SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN {SYSTEM_SCHEMAS}"
    )
    catalog = {(str(schema), str(name)): (str(schema), str(name)) for schema, name in rows}
    wanted: list[tuple[TableConfig, tuple[str, str]]] = []
    for table in config.tables:
        found = find_table(table.table, catalog, [database] if database else [], database, DIALECT)
        if found.value is None:
            problems.add(
                f"{found.problem} (a table on which {server.user} has no right looks the same: GRANT SELECT)"
            )
        else:
            wanted.append((table, found.value))
    tables = {
        (table.schema, table.name): table for table in await tables_of(session, [name for _, name in wanted])
    }
    builder = _Builder(session, config, rules, problems, server.user)
    for table, name in wanted:
        if name in tables:
            await builder.add_table(table, tables[name])
    for query in config.queries:
        await builder.add_query(query.name, one_statement(query.sql), query.format, query.key_prefixes)
    return Plan(
        items=tuple(builder.items),
        tables=tuple(tables.values()),
        queries=own_sql(config),
        declared=frozenset(builder.declared),
        names=frozenset(catalog),
        schemas=tuple(dict.fromkeys([*([database] if database else []), *(schema for schema, _ in tables)])),
        server=server,
    )


class _Builder:
    def __init__(
        self, session: Session, config: SourceConfig, rules: ReferenceRules, problems: Problems, user: str
    ) -> None:
        self._session = session
        self._config = config
        self._rules = rules
        self._problems = problems
        self._user = user
        self.items: list[Item] = []
        self.declared: set[tuple[str, str, str]] = set()

    def _spec(self, label: str, kind: str, of: ReferenceFormat, key_prefixes: Sequence[str]) -> ColumnSpec:
        return ColumnSpec(
            source=self._config.name,
            index=len(self.items),
            label=label,
            format=of,
            rules=rules_of(self._config, self._rules, key_prefixes),
            kind=kind,
        )

    async def add_table(self, table: TableConfig, found: Table) -> None:
        condition = f"(\n{one_statement(table.where)}\n)" if table.where and table.where.strip() else ""
        for config in table.columns:
            names = config.template_columns or (config.name or "",)
            columns = [self._column(name, found) for name in names]
            parts = [column for column in columns if column is not None]
            if len(parts) < len(columns):
                continue
            if config.template is None:
                item = self._plain(config, found, parts[0], condition)
            else:
                item = self._template(config, found, parts, condition)
            if item is not None and await self._compiles(item.select, f"where of {found.label}", found.sql):
                self.items.append(item)

    def _column(self, name: str, table: Table) -> Column | None:
        found = find_column(name, table.columns, table.label, DIALECT)
        if found.value is None:
            self._problems.add(
                f"{found.problem} (a column on which {self._user} has no right looks the same: "
                f"GRANT SELECT ON {table.sql})"
            )
        elif found.value.type in SHAPES:
            self._problems.add(
                f"{table.label}.{found.value.name} is of type {found.value.type}, which references nothing"
            )
            return None
        return found.value

    def _plain(self, config: ColumnConfig, table: Table, column: Column, condition: str) -> Item | None:
        label = f"{table.label}.{column.name}"
        self.declared.add((table.schema, table.name, column.name))
        if config.format is ReferenceFormat.KEY and column.type == "json":
            self._problems.add(
                f"{label} is of type json, but has format key, which means that the whole value is the key; "
                "use format json or auto, or a query that selects the key"
            )
            return None
        where = [f"{DIALECT.quote(column.name)} IS NOT NULL", *([condition] if condition else [])]
        return Item(
            spec=self._spec(label, "column", config.format, config.key_prefixes),
            select=f"SELECT 1, {column.sql} FROM {table.sql} WHERE {' AND '.join(where)}",
            column=column,
            table=table,
            condition=condition,
        )

    def _template(
        self, config: ColumnConfig, table: Table, parts: Sequence[Column], condition: str
    ) -> Item | None:
        template, wrong = parse_template(config.template or "")
        for sentence in wrong:
            self._problems.add(f"{table.label}: {sentence}")
        if template is None:
            return None
        first = parts[template.holes[0][0].column]
        count = ""
        if template.needs_first and not first.not_null:
            both = f" AND {condition}" if condition else ""
            count = f"SELECT COUNT(*) FROM {table.sql} WHERE {DIALECT.quote(first.name)} IS NULL{both}"
        where = f" WHERE {condition}" if condition else ""
        return Item(
            spec=self._spec(f"{table.label}:{template.text}", "template", config.format, config.key_prefixes),
            select=f"SELECT 1, {', '.join(part.sql for part in parts)} FROM {table.sql}{where}",
            template=template,
            parts=tuple(parts),
            table=table,
            needs_not_null=count,
        )

    async def add_query(self, name: str, sql: str, of: ReferenceFormat, key_prefixes: Sequence[str]) -> None:
        what = f"query {name!r}"
        source = f"(\n{sql}\n) AS q"
        if not await self._compiles(f"SELECT * FROM {source} LIMIT 0", what, "what it reads"):
            return
        column = (await self._session.names(f"SELECT * FROM {source} LIMIT 0"))[0]
        value = f"q.{DIALECT.quote(column)}"
        self.items.append(
            Item(
                spec=self._spec(f"query {name}", "query", of, key_prefixes),
                select=f"SELECT 1, {value} FROM {source} WHERE {value} IS NOT NULL",
                query=sql,
                query_column=column,
            )
        )

    async def _compiles(self, statement: str, what: str, table: str) -> bool:
        try:
            await self._session.check(statement)
        except asyncmy.errors.MySQLError as error:
            code, said = error.args[0], single_line(error.args[-1])
            if code in (1142, 1143, 1356, 1370, 1227):
                self._problems.deny(f"{what}: {said}: GRANT SELECT ON {table} TO {self._user}")
            elif code == 1060:
                self._problems.add(f"{what}: {said}: give each column of the query a name of its own")
            else:
                self._problems.add(f"{what}: {said}")
            return False
        return True
