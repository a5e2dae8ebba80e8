"""How the values of the read columns are divided: by columns that are read alike, and by what is plain and what is odd.

Plain values (`plain.is_plain`) are most of most columns and are only ever seen by SQL. The odd ones are looked at
several times, by SQL and by the full rules, so where they are few they are put aside once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3gc.config import ReferenceFormat
from s3gc.plan.duck import Session, table_of
from s3gc.plan.hoststyles import Hosts, hosts_of
from s3gc.plan.plain import is_plain
from s3gc.references.reader import ReadColumn
from s3gc.references.shapes import Shape
from s3gc.references.types import ReferenceRules

__all__ = ["Group", "OddValues", "grouped", "put_aside", "values_of"]


@dataclass(frozen=True, slots=True)
class Group:
    """Columns of the same format and rules: one statement serves all. `numbers` are their places among all columns."""

    format: ReferenceFormat
    rules: ReferenceRules
    numbers: tuple[int, ...]
    hosts: Hosts


@dataclass(frozen=True, slots=True)
class OddValues:
    """The values of one column that are not plain, prefix references among them. `files` may hold plain ones as well,
    `relation` (SQL, READ_SCHEMA) does not."""

    count: int
    files: tuple[Path, ...]
    relation: str


def grouped(session: Session, columns: Sequence[ReadColumn]) -> list[Group]:
    """Return the columns in groups; those of prefixes are in none."""
    numbers: dict[tuple[ReferenceFormat, ReferenceRules], list[int]] = {}
    for number, column in enumerate(columns):
        if column.spec.format is not ReferenceFormat.PREFIX:
            numbers.setdefault((column.spec.format, column.spec.rules), []).append(number)
    groups: list[Group] = []
    for (column_format, rules), mine in numbers.items():
        hosts = Hosts({})
        if column_format is not ReferenceFormat.KEY:
            heads = _heads([columns[number] for number in mine])
            hosts = hosts_of(session, values_of(columns, mine, "true"), rules, heads)
        groups.append(Group(column_format, rules, tuple(mine), hosts))
    return groups


def _heads(columns: Sequence[ReadColumn]) -> dict[str, int] | None:
    """How often addresses begin in each way, over all `columns`; None when one was not counted."""
    total: Counter[str] = Counter()
    for column in columns:
        if column.heads is None:
            return None
        total.update(column.heads)
    return dict(total)


def values_of(columns: Sequence[ReadColumn], numbers: Sequence[int], condition: str) -> str:
    """Return SQL for the values of some columns that meet `condition`, as one relation; no prefix references."""
    parts = (
        f"SELECT {number}::INTEGER AS col, row, value, shape FROM {table_of(columns[number].files)} "
        f"WHERE NOT is_prefix AND ({condition})"
        for number in numbers
    )
    return "(" + " UNION ALL ".join(parts) + ")"


def put_aside(session: Session, columns: Sequence[ReadColumn], work: Path) -> list[OddValues]:
    """Return the odd values of each column; where they are the smaller part, in files of their own."""
    found: list[OddValues] = []
    for number, column in enumerate(columns):
        is_odd = _is_odd(column)
        table = table_of(column.files)
        rows, odd = session.one(f"SELECT count(*), count(*) FILTER (WHERE {is_odd}) FROM {table}")
        files, condition = column.files, is_odd
        if 0 < odd <= rows // 2:
            path = work / f"odd-{number:04d}.parquet"
            session.copy(f"SELECT * FROM {table} WHERE {is_odd}", path)
            files, condition = (path,), "true"
        found.append(
            OddValues(int(odd), files if odd else (), f"(SELECT * FROM {table_of(files)} WHERE {condition})")
        )
    return found


def _is_odd(column: ReadColumn) -> str:
    if column.spec.format is ReferenceFormat.PREFIX:
        return "true"
    if column.spec.format is ReferenceFormat.KEY:
        return f"shape = {Shape.ODD.value}"
    return f"NOT {is_plain(column.spec.rules)}"
