"""`ignore_columns`: the columns that a person knows to reference nothing.

Written ``schema.table.column``, ``table.column``, ``schema.table.*`` or ``table.*``. Each pattern must cover
something: a typing error there would leave the guard of undeclared columns saying what it said before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3gc.references.sources.identifiers import Dialect, Part, find_column, nearest, readings
from s3gc.references.sources.planning import Problems

__all__ = ["IgnoredColumns"]

_EVERY = Part("*")


class IgnoredColumns:
    """Answers whether a column is ignored; `check` reports patterns that cover nothing."""

    def __init__(self, patterns: Sequence[str], dialect: Dialect) -> None:
        self._dialect = dialect
        self._patterns = {
            text: [reading for reading in readings(text, dialect) if len(reading) >= 2] for text in patterns
        }

    def covers(self, schema: str, table: str, column: str) -> bool:
        names = (schema, table, column)
        return any(self._matches(reading, names) for found in self._patterns.values() for reading in found)

    def check(self, tables: Mapping[tuple[str, str], Sequence[str]], problems: Problems) -> None:
        """Report every pattern that covers none of `tables` (columns by schema and table)."""
        for text, found in self._patterns.items():
            if not found:
                problems.add(f"ignore_columns: {text!r} names no table; write table.column or table.*")
            elif not any(
                self._matches(reading, (schema, table, column))
                for reading in found
                for (schema, table), columns in tables.items()
                for column in columns
            ):
                problems.add(f"ignore_columns: {self._why_nothing(text, found[0], tables)}")

    def _matches(self, reading: Sequence[Part], names: tuple[str, str, str]) -> bool:
        if reading[-1] != _EVERY and not self._means(reading[-1], names[2]):
            return False
        qualified = zip(reversed(reading[:-1]), reversed(names[:2]), strict=False)
        return all(self._means(part, name) for part, name in qualified)

    def _means(self, part: Part, name: str) -> bool:
        return part.text == name or self._dialect.also_means(part, name)

    def _why_nothing(
        self, text: str, reading: Sequence[Part], tables: Mapping[tuple[str, str], Sequence[str]]
    ) -> str:
        for (schema, table), columns in tables.items():
            if self._matches([*reading[:-1], _EVERY], (schema, table, "")):
                wrong = find_column(
                    reading[-1].text, dict.fromkeys(columns, 0), f"{schema}.{table}", self._dialect
                )
                return wrong.problem or f"{text!r} covers nothing"
        wanted = ".".join(part.text for part in reading[:-1])
        close = nearest(
            wanted, [f"{schema}.{table}" for schema, table in tables] + [table for _, table in tables]
        )
        return f"{text!r} names no table of this database" + (
            f"; did you mean {close[0]!r}?" if close else ""
        )
