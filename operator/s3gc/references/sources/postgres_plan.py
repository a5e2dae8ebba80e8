"""From a policy to statements on PostgreSQL: every declared name resolved, every type given its way to be read.

A `Plan` is made by the preflight and holds all that later calls need. Identifiers in its statements come from
the catalog and are quoted; `where` and queries are the policy's own SQL, each in parentheses on lines of its own
and checked to be one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from s3gc.config import ColumnConfig, ReferenceFormat, SourceConfig, TableConfig
from s3gc.references.sources.identifiers import find_column, find_table
from s3gc.references.sources.planning import Problems, one_statement, own_sql, rules_of
from s3gc.references.sources.postgres_catalog import (
    DIALECT,
    KINDS,
    Column,
    Facts,
    Relation,
    load_columns,
    load_relations,
)
from s3gc.references.sources.templates import Template, parse_template
from s3gc.references.types import ColumnSpec, ReferenceRules

__all__ = ["Item", "Plan", "make_plan"]

#: Types whose text is a document: a value can hold references, but never be a key.
_DOCUMENTS = frozenset({"json", "jsonb", "hstore", "xml"})


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to read. `select` yields non-NULL values (or a template's columns) and nothing else."""

    spec: ColumnSpec
    select: str
    is_bytes: bool = False
    template: Template | None = None
    template_bytes: tuple[bool, ...] = ()  # which of the template's columns are bytea
    lookup: str = ""  # a statement with $1, the values asked for; "" when exact keys cannot be asked for
    lookup_kind: str = "text"  # of $1: text | bytea | uuid
    relation: Relation | None = None
    needs_not_null: str = ""  # counts rows that a template would turn into a reference to everything
    first_column: str = ""
    reads: tuple[Column, ...] = ()  # what of `relation` it is made of; empty for a query
    condition: str = ""  # the policy's own `where`


@dataclass(frozen=True, slots=True)
class Plan:
    items: tuple[Item, ...]
    relations: tuple[Relation, ...]  # declared tables, each once
    queries: tuple[str, ...]  # SQL that may read other tables, see `own_sql`
    declared: frozenset[tuple[int, str]]  # (relation, column) read as a column of its own
    catalog: dict[tuple[str, str], Relation]
    facts: Facts

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        return tuple(item.spec for item in self.items)


async def make_plan(
    connection: asyncpg.Connection,
    config: SourceConfig,
    rules: ReferenceRules,
    facts: Facts,
    problems: Problems,
) -> Plan:
    """Resolve everything that `config` declares; what cannot be goes to `problems`."""
    catalog = await load_relations(connection)
    tables: list[tuple[TableConfig, Relation]] = []
    for table in config.tables:
        found = find_table(table.table, catalog, facts.search_path, facts.database, DIALECT)
        if found.value is None:
            problems.add(found.problem)
        else:
            tables.append((table, found.value))
    columns = await load_columns(connection, [relation.oid for _, relation in tables])
    builder = _Builder(config, rules, problems)
    for table, relation in tables:
        builder.add_table(table, relation, columns[relation.oid])
    for query in config.queries:
        sql = one_statement(query.sql)
        base = await _query_type(connection, sql, query.name, problems)
        builder.add_query(query.name, sql, query.format, query.key_prefixes, base)
    return Plan(
        items=tuple(builder.items),
        relations=tuple({relation.oid: relation for _, relation in tables}.values()),
        queries=own_sql(config),
        declared=frozenset(builder.declared),
        catalog=catalog,
        facts=facts,
    )


async def _query_type(
    connection: asyncpg.Connection, sql: str, name: str, problems: Problems
) -> tuple[str, str]:
    """Return base type and category of the query's first column; an error of the query is a problem."""
    probe = f"""
        SELECT t.typname::text AS base, t.typcategory::text AS category FROM pg_catalog.pg_type t WHERE t.oid = (
          SELECT pg_catalog.pg_typeof(probe.s3gc_value)::oid FROM (SELECT 1) one LEFT JOIN
          (SELECT q.s3gc_value FROM (\n{sql}\n) AS q(s3gc_value) LIMIT 0) probe ON true)
    """
    try:
        async with connection.transaction():
            row = await connection.fetchrow(probe, timeout=120)
    except asyncpg.InsufficientPrivilegeError as error:
        if "row-level security" in str(error):
            return "text", "S"  # said once, where policies are looked at
        problems.deny(f"query {name!r}: {error}; GRANT SELECT on what it reads")
    except asyncpg.PostgresError as error:
        hint = f" ({error.hint})" if getattr(error, "hint", None) else ""
        problems.add(f"query {name!r}: {error}{hint}")
    else:
        return (row["base"], row["category"]) if row is not None else ("text", "S")
    return "text", "S"


class _Builder:
    """Collects items in the order of the policy, so that an index means the same in every run of it."""

    def __init__(self, config: SourceConfig, rules: ReferenceRules, problems: Problems) -> None:
        self._config = config
        self._rules = rules
        self._problems = problems
        self.items: list[Item] = []
        self.declared: set[tuple[int, str]] = set()

    def _spec(self, label: str, kind: str, of: ReferenceFormat, key_prefixes: Sequence[str]) -> ColumnSpec:
        return ColumnSpec(
            source=self._config.name,
            index=len(self.items),
            label=label,
            format=of,
            rules=rules_of(self._config, self._rules, key_prefixes),
            kind=kind,
        )

    def add_table(self, table: TableConfig, relation: Relation, columns: dict[str, Column]) -> None:
        if not relation.usage:
            self._problems.deny(
                f"schema {relation.schema!r} cannot be used: "
                f"GRANT USAGE ON SCHEMA {DIALECT.quote(relation.schema)} TO our role"
            )
        condition = f"(\n{one_statement(table.where)}\n)" if table.where and table.where.strip() else ""
        for config in table.columns:
            if config.template is not None:
                self._add_template(config, relation, columns, condition)
            elif (column := self._column(config.name or "", relation, columns)) is not None:
                self.declared.add((relation.oid, column.name))
                self._add_column(config, relation, column, condition)

    def _column(self, name: str, relation: Relation, columns: dict[str, Column]) -> Column | None:
        found = find_column(name, columns, f"{KINDS[relation.kind]} {relation.label}", DIALECT)
        if found.value is None:
            self._problems.add(found.problem)
            return None
        if not found.value.readable:
            self._problems.deny(
                f"{relation.label}.{found.value.name} cannot be read: GRANT SELECT ON {relation.sql} TO our role"
            )
        return found.value

    def _add_column(self, config: ColumnConfig, relation: Relation, column: Column, condition: str) -> None:
        label = f"{relation.label}.{column.name}"
        exact = config.format in (ReferenceFormat.KEY, ReferenceFormat.URL, ReferenceFormat.PREFIX)
        if config.format is ReferenceFormat.KEY and (column.base in _DOCUMENTS or column.typtype == "c"):
            self._problems.add(
                f"{label} is of type {column.type}, but has format key, which means that the whole value is the key; "
                "use format json or auto, or a query that selects the key"
            )
        value = column.sql
        where = [condition] if condition else []
        if column.is_array and (exact or column.element == "bytea"):
            # Each element is a value of its own: the text {a,b} is no key.
            inner = f"SELECT unnest({value}) AS s3gc_value FROM {relation.sql}" + _where(where)
            base = column.element
            source, value, outer = f"(\n{inner}\n) AS q", "q.s3gc_value", ["q.s3gc_value IS NOT NULL"]
        else:
            base = column.base
            # IS NOT NULL is false for a composite value with one NULL in it.
            test = "IS DISTINCT FROM NULL" if column.typtype == "c" else "IS NOT NULL"
            source, outer = relation.sql, [f"{value} {test}", *where]
        # Blanks at the end of a char(n) are padding, as PostgreSQL itself says by leaving them out in a cast.
        shown = f"{value}::text" if base == "bpchar" else value
        if column.is_array and column.element == "bpchar" and value == column.sql:
            shown = f"{value}::text[]"
        spec = self._spec(label, "column", config.format, config.key_prefixes)
        lookup, kind = ("", "text")
        if config.format is ReferenceFormat.KEY:
            written = "" if column.is_array else column.type
            lookup, kind = _lookup(base, written, value, source, outer)
        self.items.append(
            Item(
                spec=spec,
                select=f"SELECT {shown} FROM {source}{_where(outer)}",
                is_bytes=base == "bytea",
                lookup=lookup,
                lookup_kind=kind,
                relation=relation,
                reads=(column,),
                condition=condition,
            )
        )

    def _add_template(
        self, config: ColumnConfig, relation: Relation, columns: dict[str, Column], condition: str
    ) -> None:
        template, wrong = parse_template(config.template or "")
        for sentence in wrong:
            self._problems.add(f"{relation.label}: {sentence}")
        if template is None:
            return
        found = [self._column(name, relation, columns) for name in template.columns]
        parts = [column for column in found if column is not None]
        if len(parts) < len(found):
            return
        shown = ", ".join(f"{part.sql}::text" if part.base == "bpchar" else part.sql for part in parts)
        where = [condition] if condition else []
        first = parts[template.holes[0][0].column]
        count = ""
        if template.needs_first and not first.not_null:
            count = f"SELECT count(*) FROM {relation.sql}{_where([f'{first.sql} IS NULL', *where])}"
        self.items.append(
            Item(
                spec=self._spec(
                    f"{relation.label}:{template.text}", "template", config.format, config.key_prefixes
                ),
                select=f"SELECT {shown} FROM {relation.sql}{_where(where)}",
                template=template,
                template_bytes=tuple(part.base == "bytea" for part in parts),
                relation=relation,
                needs_not_null=count,
                first_column=first.name,
                reads=tuple(parts),
                condition=condition,
            )
        )

    def add_query(
        self, name: str, sql: str, of: ReferenceFormat, key_prefixes: Sequence[str], base: tuple[str, str]
    ) -> None:
        typname, category = base
        if of is ReferenceFormat.KEY and (typname in _DOCUMENTS or category == "A"):
            shown_type = typname.removeprefix("_") + ("[]" if category == "A" else "")
            self._problems.add(
                f"query {name!r} selects a value of type {shown_type}, but has format key, which means that the whole "
                "value is the key; select the key itself (unnest, ->>)"
            )
        source, value, outer = f"(\n{sql}\n) AS q(s3gc_value)", "q.s3gc_value", ["q.s3gc_value IS NOT NULL"]
        shown = f"{value}::text" if typname == "bpchar" else value
        lookup, kind = (
            _lookup(typname, "", value, source, outer) if of is ReferenceFormat.KEY else ("", "text")
        )
        self.items.append(
            Item(
                spec=self._spec(f"query {name}", "query", of, key_prefixes),
                select=f"SELECT {shown} FROM {source}{_where(outer)}",
                is_bytes=typname == "bytea",
                lookup=lookup,
                lookup_kind=kind,
            )
        )


def _where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(conditions) if conditions else ""


def _lookup(base: str, written: str, value: str, source: str, conditions: Sequence[str]) -> tuple[str, str]:
    """Return the statement that asks for exact values, and what $1 is.

    The comparison is the column's own where an index could serve it; what a type takes for equal (citext,
    blanks of char) is more than we asked for, and sorted out by the caller.
    """
    if base == "bytea":
        test, shown, kind = f"{value} = ANY($1::bytea[])", value, "bytea"
    elif base == "uuid":
        test, shown, kind = f"{value} = ANY($1::uuid[])", f"{value}::text", "uuid"
    elif base in ("text", "varchar"):
        test, shown, kind = f"{value} = ANY($1::text[])", f"{value}::text", "text"
    elif base == "bpchar":
        test, shown, kind = f"{value} = ANY($1::text[]::bpchar[])", f"{value}::text", "text"
    elif base == "citext" and written:
        test, shown, kind = f"{value} = ANY($1::text[]::{written}[])", f"{value}::text", "text"
    else:
        test, shown, kind = f"{value}::text = ANY($1::text[])", f"{value}::text", "text"
    return f"SELECT DISTINCT {shown} FROM {source}{_where([*conditions, test])}", kind
