"""Samples of the columns that nobody declared, on MySQL and MariaDB: see `postgres_sample` for what they are for.

Tables of the URL's database and of the databases of declared tables. Half of a sample are the newest rows by primary
key, the rest the first rows that have a value. Each statement has a bounded time; what ran out of it is logged.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

import asyncmy.errors

from s3gc.exceptions import ConfigurationError, SourceError
from s3gc.references.sources.ignored import IgnoredColumns
from s3gc.references.sources.mysql_catalog import DIALECT, Column, Table, tables_of
from s3gc.references.sources.mysql_plan import Plan
from s3gc.references.sources.mysql_session import MySQL

__all__ = ["sample_columns"]

logger = logging.getLogger(__name__)

_SAMPLE_SECONDS = 5
_SAMPLE_CHARACTERS = 100_000


async def sample_columns(
    server: MySQL, plan: Plan, ignored: IgnoredColumns, limit: int
) -> AsyncIterator[tuple[str, Sequence[object]]]:
    """Yield (label, up to `limit` different values) for each undeclared text-like column that has any."""
    for name in sorted(name for name in plan.names if name[0] in plan.schemas):
        with server.translated("looking for undeclared columns"):
            async with server.session() as session:
                tables = await tables_of(session, [name])
        for table in tables:
            for column in table.columns.values():
                if _is_undeclared(plan, ignored, table, column):
                    values = await _sample(server, table, column, limit)
                    if values:
                        yield f"{table.label}.{column.name}", values


def _is_undeclared(plan: Plan, ignored: IgnoredColumns, table: Table, column: Column) -> bool:
    return (
        not table.is_view
        and (column.is_binary or (column.is_text and column.type not in ("enum", "set", "uuid")))
        and (table.schema, table.name, column.name) not in plan.declared
        and not ignored.covers(table.schema, table.name, column.name)
    )


async def _sample(server: MySQL, table: Table, column: Column, limit: int) -> list[object]:
    name = DIALECT.quote(column.name)
    select = f"SELECT 1, LEFT({name}, {_SAMPLE_CHARACTERS}) FROM {table.sql} WHERE {name} IS NOT NULL"
    orders = [""]
    if table.primary:
        orders.insert(0, " ORDER BY " + ", ".join(f"{DIALECT.quote(part)} DESC" for part in table.primary))
    values: dict[object, None] = {}
    try:
        with server.translated(f"sampling {table.label}.{column.name}"):
            async with server.reading() as session:
                unit = "max_statement_time" if session.is_mariadb else "max_execution_time"
                amount = _SAMPLE_SECONDS if session.is_mariadb else _SAMPLE_SECONDS * 1000
                await session.rows(f"SET SESSION {unit} = {amount}")
                for order in orders:
                    try:
                        rows = await session.rows(f"{select}{order} LIMIT {max(limit // len(orders), 1)}")
                        values.update((row[1], None) for row in rows)
                    except asyncmy.errors.MySQLError as error:
                        if error.args[0] not in (1969, 3024):
                            raise
                        logger.warning(
                            "a sample of the undeclared column %s.%s is incomplete: it took more than %s s",
                            table.label, column.name, _SAMPLE_SECONDS,
                        )  # fmt: skip
    except (SourceError, ConfigurationError) as error:
        logger.warning(
            "the undeclared column %s.%s could not be sampled: %s", table.label, column.name, error
        )
    return list(values)
