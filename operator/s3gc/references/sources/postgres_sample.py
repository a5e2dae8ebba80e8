"""Samples of the columns that nobody declared: the guard against the column that somebody added last week.

A sample must catch a column that is new, with a handful of values in a large table, as well as one that has
always been there. So it is taken three ways: the first rows that have a value at all, the newest rows, and
rows from anywhere. Each statement has a bounded time; what ran out of it is said, not hidden.

The columns of a template count as undeclared: the template declares the composed key, not what the column says
by itself. A part such as a file name does no harm here, because the guard trips only when the sampled value
alone names an object that the plan would delete, and that is worth a person's look.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from s3gc.exceptions import AccessDeniedError, SourceError
from s3gc.references.sources.ignored import IgnoredColumns
from s3gc.references.sources.postgres_catalog import Column, Relation, load_columns, tree
from s3gc.references.sources.postgres_plan import Plan
from s3gc.references.sources.postgres_session import Postgres

__all__ = ["SAMPLE_SECONDS", "Undeclared", "sample_columns", "undeclared_columns"]

logger = logging.getLogger(__name__)

#: For one statement.
SAMPLE_SECONDS = 5.0
#: A table of fewer pages (8 KiB each) is read from its beginning only: that is all of it, or nearly.
_SMALL_PAGES = 1000
#: Read from the end of a large table, or of each of a few young partitions; and sampled from all over it.
_NEWEST_PAGES = 200
_YOUNG_PARTITIONS = 4
_SAMPLED_PAGES = 500
#: Longer values are cut: a sample need not be whole, and must not fill the memory.
_MOST_CHARACTERS = 100_000

_TEXTS = frozenset({"text", "varchar", "bpchar", "citext", "json", "jsonb", "hstore", "bytea", "xml", "name"})


@dataclass(frozen=True, slots=True)
class Undeclared:
    relation: Relation
    column: Column
    newest: tuple[Relation, ...]  # tables whose last pages hold the newest rows: itself, or young partitions

    @property
    def label(self) -> str:
        return f"{self.relation.label}.{self.column.name}"


def _may_hold_references(column: Column) -> bool:
    base = column.element if column.is_array else column.base
    return base in _TEXTS or column.typtype == "c"


async def undeclared_columns(
    connection: asyncpg.Connection, plan: Plan, ignored: IgnoredColumns
) -> tuple[list[Undeclared], list[str]]:
    """Return the text-like columns nobody declared or ignored, and labels of tables that we may not read.

    Base tables and partitioned parents only: a view or a foreign table shows rows of others, and an inherited
    column is read through its parent.
    """
    relations = [
        relation
        for relation in plan.catalog.values()
        if relation.kind in ("r", "p") and not relation.is_partition
    ]
    by_oid = {relation.oid: relation for relation in plan.catalog.values()}
    columns = await load_columns(connection, [relation.oid for relation in relations])
    found: list[Undeclared] = []
    hidden: list[str] = []
    for relation in relations:
        newest: tuple[Relation, ...] | None = None
        for column in columns[relation.oid].values():
            if column.inherited or not _may_hold_references(column):
                continue
            if (relation.oid, column.name) in plan.declared:
                continue
            if ignored.covers(relation.schema, relation.name, column.name):
                continue
            if column.readable and relation.usage:
                if newest is None:
                    newest = await _newest(connection, relation, by_oid)
                found.append(Undeclared(relation, column, newest))
            elif relation.label not in hidden:
                hidden.append(relation.label)
    return found, hidden


async def _newest(
    connection: asyncpg.Connection, relation: Relation, by_oid: Mapping[int, Relation]
) -> tuple[Relation, ...]:
    if relation.kind == "r":
        return (relation,)
    below = [
        by_oid[oid]
        for oid, kind, _ in await tree(connection, [relation.oid])
        if kind == "r" and oid in by_oid
    ]
    # A partition is its own table as to rights: SELECT on the parent does not open it.
    young = [leaf for leaf in sorted(below, key=lambda leaf: -leaf.oid) if leaf.readable]
    return tuple(young[:_YOUNG_PARTITIONS])


async def sample_columns(
    database: Postgres, columns: Sequence[Undeclared], limit: int
) -> AsyncIterator[tuple[str, Sequence[object]]]:
    """Yield (label, up to `limit` different values) for each of `columns` that has any."""
    for undeclared in columns:
        values: dict[object, None] = {}
        try:
            with database.translated(f"sampling {undeclared.label}"):
                await _sample(database, undeclared, limit, values)
        except (SourceError, AccessDeniedError) as error:
            logger.warning("the undeclared column %s could not be sampled: %s", undeclared.label, error)
        if values:
            yield undeclared.label, list(values)[:limit]


async def _sample(database: Postgres, undeclared: Undeclared, limit: int, values: dict[object, None]) -> None:
    # Rows that a policy hides cannot be had by a sample either; what is visible is still worth looking at.
    async with database.reading(
        row_security=True, repeatable=False, statement_seconds=SAMPLE_SECONDS
    ) as connection:
        for statement in _statements(undeclared, limit):
            try:
                async with connection.transaction():
                    rows = await connection.fetch(statement, timeout=SAMPLE_SECONDS + 30)
            except asyncpg.QueryCanceledError:
                logger.warning(
                    "a sample of the undeclared column %s is incomplete: a statement took more than %.0f s",
                    undeclared.label,
                    SAMPLE_SECONDS,
                )
                continue
            values.update((row[0], None) for row in rows if row[0] is not None)
            if len(values) >= limit:
                return


def _statements(undeclared: Undeclared, limit: int) -> list[str]:
    relation, column = undeclared.relation, undeclared.column
    if column.is_array and column.element == "bytea":
        value = f"array_to_string({column.sql}, ' ')"
    elif column.base == "bytea":
        value = f"substring({column.sql} FOR {_MOST_CHARACTERS})"
    else:
        value = f"left({column.sql}::text, {_MOST_CHARACTERS})"
    select = f"SELECT {value} FROM {relation.sql}"
    has = f"{column.sql} IS NOT NULL"
    if relation.kind == "r" and relation.pages < _SMALL_PAGES:
        return [f"{select} WHERE {has} LIMIT {limit}"]
    half, quarter = max(limit // 2, 1), max(limit // 4, 1)
    statements: list[str] = []
    for table in undeclared.newest:
        # The last pages of the heap, by their address: no index is needed, and nothing else is read.
        block = "current_setting('block_size')::int8"
        from_page = f"greatest(pg_relation_size({table.oid}::oid::regclass) / {block} - {_NEWEST_PAGES}, 0)"
        statements.append(
            f"SELECT {value} FROM {table.sql} WHERE ctid >= (format('(%s,0)', {from_page})::tid) AND {has} "
            f"ORDER BY ctid DESC LIMIT {max(quarter // len(undeclared.newest), 1)}"
        )
    percent = 1.0 if relation.kind == "p" else min(100.0, 100.0 * _SAMPLED_PAGES / max(relation.pages, 1))
    statements.append(f"{select} TABLESAMPLE SYSTEM ({max(percent, 0.0001):.4f}) WHERE {has} LIMIT {quarter}")
    # Last, because it may have to read the whole table to find the few rows that have a value.
    statements.append(f"{select} WHERE {has} LIMIT {half}")
    return statements
