"""Values of MySQL's columns as they arrive, in the one snapshot of `MySQLSource.snapshot`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from s3gc.exceptions import ConfigurationError
from s3gc.references.sources.mysql_plan import Item, Plan
from s3gc.references.sources.mysql_session import MySQL, Session
from s3gc.references.sources.mysql_values import decoded, spelled
from s3gc.references.sources.templates import empty_prefix_problem, is_empty_prefix
from s3gc.references.types import ColumnSpec, PrefixReference

__all__ = ["MySQLSnapshot", "first_column"]


class MySQLSnapshot:
    """What `MySQLSource.snapshot` gives."""

    def __init__(self, server: MySQL, session: Session, plan: Plan) -> None:
        self._server = server
        self._session = session
        self._plan = plan

    async def values(self, column: ColumnSpec, batch: int = 10_000) -> AsyncIterator[Sequence[object]]:
        """See `Snapshot.values`. Raises ConfigurationError when a template would reference the whole bucket."""
        item = self._plan.items[column.index]
        empty = 0
        rows = self._session.stream(item.select, batch, item.spec.label)
        try:
            while True:
                with self._server.translated(f"reading {item.spec.label}"):
                    found = await anext(rows, None)
                if found is None:
                    break
                if item.template is None:
                    yield [value for row in found for value in decoded(item.column, row[1])]
                    continue
                composed = [item.template.compose(_parts(item, row)) for row in found]
                kept = [
                    key for key in composed if not (isinstance(key, PrefixReference) and is_empty_prefix(key))
                ]
                empty += len(composed) - len(kept)
                if kept:
                    yield kept
        finally:
            with contextlib.suppress(RuntimeError):  # it is running: whoever runs it ends it
                await rows.aclose()  # type: ignore[attr-defined]  # an async generator
        if empty:
            problem = empty_prefix_problem(item.spec.label, first_column(item), empty)
            raise ConfigurationError(f"source {item.spec.source!r}: {problem}")


def _parts(item: Item, row: Sequence[Any]) -> list[str | None]:
    return [
        None if value is None else spelled(column, value)
        for column, value in zip(item.parts, row[1:], strict=True)
    ]


def first_column(item: Item) -> str:
    """Return the column of a template's first part, "" for other items."""
    return item.parts[item.template.holes[0][0].column].name if item.template is not None else ""
