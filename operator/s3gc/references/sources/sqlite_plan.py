"""From a policy to statements on SQLite: names resolved against the schema, each statement compiled once."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import aiosqlite

from s3gc.config import ColumnConfig, ReferenceFormat, SourceConfig, TableConfig
from s3gc.references.sources.identifiers import Dialect, find_column, find_table
from s3gc.references.sources.planning import Problems, one_statement, rules_of
from s3gc.references.sources.templates import Template, parse_template
from s3gc.references.types import ColumnSpec, ReferenceRules

__all__ = ["DIALECT", "Column", "Item", "Plan", "make_plan"]

DIALECT = Dialect(quotes={'"': '"', "`": "`", "[": "]"}, folds_to_lower=False)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    not_null: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to read; the fields mean what they mean in `postgres_plan.Item`."""

    spec: ColumnSpec
    select: str
    template: Template | None = None
    lookup: str = ""  # ?1: a JSON array of texts, ?2: one of blobs in hex
    needs_not_null: str = ""
    first_column: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    items: tuple[Item, ...]
    queries: tuple[str, ...]
    tables: dict[str, tuple[Column, ...]]  # every table and view of the file
    views: frozenset[str]
    declared: frozenset[tuple[str, str]]
    read_tables: frozenset[str]

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        return tuple(item.spec for item in self.items)

    @property
    def reads_everything(self) -> bool:
        """With a query or a view any table may matter."""
        return bool(self.queries) or bool(self.read_tables & self.views)


async def make_plan(
    connection: aiosqlite.Connection, config: SourceConfig, rules: ReferenceRules, problems: Problems
) -> Plan:
    """Resolve everything that `config` declares; what cannot be goes to `problems`."""
    tables, views = await _load(connection)
    catalog = {("main", name): name for name in tables}
    builder = _Builder(connection, config, rules, problems)
    for table in config.tables:
        found = find_table(table.table, catalog, ["main"], "main", DIALECT)
        if found.value is None:
            problems.add(found.problem)
        else:
            await builder.add_table(table, found.value, tables[found.value])
    for query in config.queries:
        await builder.add_query(query.name, one_statement(query.sql), query.format, query.key_prefixes)
    return Plan(
        items=tuple(builder.items),
        queries=tuple(one_statement(query.sql) for query in config.queries),
        tables=tables,
        views=views,
        declared=frozenset(builder.declared),
        read_tables=frozenset(builder.read_tables),
    )


async def _load(
    connection: aiosqlite.Connection,
) -> tuple[dict[str, tuple[Column, ...]], frozenset[str]]:
    master = await connection.execute_fetchall(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    # What a virtual table (full text search) keeps for itself is a copy of what it shows.
    shadows = re.compile(
        "^(?:"
        + "|".join(re.escape(str(n)) for t, n, s in master if "VIRTUAL" in str(s).upper()[:40])
        + ")_\\w+$"
    )
    tables: dict[str, tuple[Column, ...]] = {}
    for _, name, _ in master:
        if shadows.match(str(name)):
            continue
        try:
            columns = await connection.execute_fetchall(
                'SELECT name, "notnull" FROM pragma_table_xinfo(?) WHERE hidden <> 1', (name,)
            )
        except sqlite3.OperationalError:
            columns = []  # a view that is broken, or a virtual table whose module is not loaded
        tables[str(name)] = tuple(Column(str(column), bool(not_null)) for column, not_null in columns)
    return tables, frozenset(str(name) for kind, name, _ in master if kind == "view")


class _Builder:
    def __init__(
        self,
        connection: aiosqlite.Connection,
        config: SourceConfig,
        rules: ReferenceRules,
        problems: Problems,
    ) -> None:
        self._connection = connection
        self._config = config
        self._rules = rules
        self._problems = problems
        self.items: list[Item] = []
        self.declared: set[tuple[str, str]] = set()
        self.read_tables: set[str] = set()

    def _spec(self, label: str, kind: str, of: ReferenceFormat, key_prefixes: Sequence[str]) -> ColumnSpec:
        return ColumnSpec(
            source=self._config.name,
            index=len(self.items),
            label=label,
            format=of,
            rules=rules_of(self._config, self._rules, key_prefixes),
            kind=kind,
        )

    async def add_table(self, table: TableConfig, name: str, columns: tuple[Column, ...]) -> None:
        self.read_tables.add(name)
        condition = f"(\n{one_statement(table.where)}\n)" if table.where and table.where.strip() else ""
        if condition and not await self._compiles(
            f"SELECT 1 FROM {DIALECT.quote(name)} WHERE {condition}", f"where of {name}"
        ):
            return
        by_name = {column.name: column for column in columns}
        for config in table.columns:
            if config.template is not None:
                self._add_template(config, name, by_name, condition)
                continue
            found = find_column(config.name or "", by_name, name, DIALECT)
            if found.value is None:
                self._problems.add(found.problem)
                continue
            self.declared.add((name, found.value.name))
            value = f"{DIALECT.quote(name)}.{DIALECT.quote(found.value.name)}"
            self._add(
                f"main.{name}.{found.value.name}", "column", config, value, DIALECT.quote(name), condition
            )

    def _add(
        self, label: str, kind: str, config: ColumnConfig, value: str, source: str, condition: str
    ) -> None:
        where = [f"{value} IS NOT NULL", *([condition] if condition else [])]
        # A value is compared as its text and, where it is a blob, by its bytes: SQLite itself takes 'a' and x'61'
        # for different values, and 7 and '7' too.
        asked = (
            f"(CAST({value} AS TEXT) IN (SELECT value FROM json_each(?1)) "
            f"OR (typeof({value}) = 'blob' AND lower(hex({value})) IN (SELECT value FROM json_each(?2))))"
        )
        self.items.append(
            Item(
                spec=self._spec(label, kind, config.format, config.key_prefixes),
                select=f"SELECT {value} FROM {source} WHERE {' AND '.join(where)}",
                lookup=f"SELECT DISTINCT {value} FROM {source} WHERE {' AND '.join([*where, asked])}",
            )
        )

    def _add_template(
        self, config: ColumnConfig, table: str, columns: dict[str, Column], condition: str
    ) -> None:
        template, wrong = parse_template(config.template or "")
        for sentence in wrong:
            self._problems.add(f"{table}: {sentence}")
        if template is None:
            return
        parts: list[Column] = []
        for name in template.columns:
            found = find_column(name, columns, table, DIALECT)
            if found.value is None:
                self._problems.add(found.problem)
            else:
                parts.append(found.value)
        if len(parts) < len(template.columns):
            return
        source = DIALECT.quote(table)
        where = f" WHERE {condition}" if condition else ""
        first = parts[template.holes[0][0].column]
        count = ""
        if template.needs_first:
            both = f" AND {condition}" if condition else ""
            count = f"SELECT count(*) FROM {source} WHERE {source}.{DIALECT.quote(first.name)} IS NULL{both}"
        shown = ", ".join(f"{source}.{DIALECT.quote(part.name)}" for part in parts)
        self.items.append(
            Item(
                spec=self._spec(
                    f"main.{table}:{template.text}", "template", config.format, config.key_prefixes
                ),
                select=f"SELECT {shown} FROM {source}{where}",
                template=template,
                needs_not_null=count,
                first_column=first.name,
            )
        )

    async def add_query(self, name: str, sql: str, of: ReferenceFormat, key_prefixes: Sequence[str]) -> None:
        names = await self._compiles(f"SELECT * FROM (\n{sql}\n) AS q LIMIT 0", f"query {name!r}")
        if names:
            config = ColumnConfig(name="value", format=of, key_prefixes=tuple(key_prefixes))
            self._add(
                f"query {name}", "query", config, f"q.{DIALECT.quote(names[0])}", f"(\n{sql}\n) AS q", ""
            )

    async def _compiles(self, statement: str, what: str) -> list[str]:
        """Have SQLite compile one statement; return the names of its columns, none if it is wrong."""
        try:
            async with self._connection.execute(
                statement if statement.endswith("LIMIT 0") else f"{statement} LIMIT 0"
            ) as cursor:
                return [str(item[0]) for item in cursor.description or ()]
        except (
            sqlite3.Error,
            sqlite3.Warning,
        ) as error:  # a second statement is a Warning or a ProgrammingError
            self._problems.add(f"{what}: {error}")
            return []
