"""Values of PostgreSQL's columns as they arrive by COPY, in the one snapshot of `PostgresSource.snapshot`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import asyncpg

from s3gc.exceptions import ConfigurationError
from s3gc.references.sources.postgres_copy import NULL, copy_rows, unescape
from s3gc.references.sources.postgres_plan import Plan
from s3gc.references.sources.postgres_session import IDLE_SECONDS, Postgres
from s3gc.references.sources.postgres_watch import refuse_rewritten
from s3gc.references.sources.templates import Template, empty_prefix_problem, is_empty_prefix
from s3gc.references.types import ColumnSpec

__all__ = ["PostgresSnapshot"]


class PostgresSnapshot:
    """What `PostgresSource.snapshot` gives."""

    def __init__(
        self, database: Postgres, connection: asyncpg.Connection, plan: Plan, watched: Sequence[int]
    ) -> None:
        self._database = database
        self._connection = connection
        self._plan = plan
        self._watched = watched  # all that the plan reads from, by oid
        self._streams: set[AsyncIterator[Sequence[str]]] = set()

    async def values(self, column: ColumnSpec, batch: int = 10_000) -> AsyncIterator[Sequence[object]]:
        """See `Snapshot.values`. Raises ConfigurationError when a template would reference the whole bucket."""
        item = self._plan.items[column.index]
        doing = f"reading {item.spec.label}"
        rows = copy_rows(
            self._connection,
            item.select,
            batch=batch,
            idle_seconds=IDLE_SECONDS,
            what=item.spec.label,
            encoding=self._plan.facts.copy_encoding,
        )
        self._streams.add(rows)
        empty = 0
        try:
            while True:
                with self._database.translated(doing):
                    lines = await anext(rows, None)
                if lines is None:
                    break
                if item.template is not None:
                    values, skipped = _compose(item.template, item.template_bytes, lines)
                    empty += skipped
                elif item.is_bytes:
                    values = [bytes.fromhex(line[3:]) for line in lines]  # \\x6162
                else:
                    values = [unescape(line) if "\\" in line else line for line in lines]
                if values:
                    yield values
        finally:
            self._streams.discard(rows)
            await _finish(rows)
        with self._database.translated(doing):
            named = [relation.oid for relation in self._plan.relations]
            await refuse_rewritten(self._connection, self._watched, named)
        if empty:
            raise ConfigurationError(
                f"source {item.spec.source!r}: {empty_prefix_problem(item.spec.label, item.first_column, empty)}"
            )

    async def close(self) -> None:
        """Cancel what is still being read: a reader may leave a column half way."""
        for rows in list(self._streams):
            await _finish(rows)


async def _finish(rows: AsyncIterator[Sequence[str]]) -> None:
    close = getattr(rows, "aclose", None)
    if close is not None:
        with contextlib.suppress(RuntimeError):  # it is running: whoever runs it ends it
            await close()


def _compose(template: Template, is_bytes: Sequence[bool], lines: Sequence[str]) -> tuple[list[object], int]:
    """Return the keys of a template's rows, and how many rows would reference the whole bucket."""
    values: list[object] = []
    empty = 0
    for line in lines:
        row: list[str | None] = []
        for field, binary in zip(line.split("\t"), is_bytes, strict=True):
            if field == NULL:
                row.append(None)
            elif binary:
                row.append(bytes.fromhex(field[3:]).decode("utf-8", "surrogateescape"))
            else:
                row.append(unescape(field) if "\\" in field else field)
        key = template.compose(row)
        if is_empty_prefix(key) and type(key) is not str:
            empty += 1
        else:
            values.append(key)
    return values, empty
