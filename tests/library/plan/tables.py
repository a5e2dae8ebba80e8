"""Small Parquet files for the plan's tests: listings, columns as a reader writes them, holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.config import ReferenceFormat, S3GCConfig
from s3gc.inventory.listing import Inventory
from s3gc.inventory.problems import INVENTORY_SCHEMA, with_problems
from s3gc.references.reader import ReadColumn, read_references
from s3gc.references.types import ColumnSpec, ReferenceRules, SourcePreflight
from s3gc.vault.state import HOLDS_SCHEMA

T0 = datetime(2026, 2, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
BUCKET = "my-bucket"
RULES = ReferenceRules(bucket=BUCKET)


@dataclass(frozen=True)
class Thing:
    """An object of a listing; by default small, whole and a month old."""

    key: str
    etag: str = "d41d8cd98f00b204e9800998ecf8427e"
    size: int = 10
    age: timedelta = 30 * DAY
    problem: str | None = None


def config(**changes: Any) -> S3GCConfig:
    return S3GCConfig(**{"bucket": BUCKET, "memory_limit_mb": 128, **changes})


def listing(
    work: Path, things: Iterable[Thing | str], *, t0: datetime = T0, left_out: dict[str, str] | None = None
) -> Inventory:
    """A listing of `things` in one file; problems of keys are found as a real listing finds them."""
    found = [Thing(item) if isinstance(item, str) else item for item in things]
    rows = [
        {
            "key": item.key,
            "size": item.size,
            "etag": item.etag,
            "last_modified": T0 - item.age,
            "storage_class": "STANDARD",
        }
        for item in found
    ]
    fields = [field for field in INVENTORY_SCHEMA if field.name != "problem"]
    batch = with_problems(pa.RecordBatch.from_pylist(rows, schema=pa.schema(fields)))
    work.mkdir(parents=True, exist_ok=True)
    path = work / "inventory.parquet"
    pq.write_table(pa.Table.from_batches([batch]), path)
    return Inventory((path,), t0, len(found), sum(item.size for item in found), left_out or {}, ())


class Rows:
    """A source whose columns are lists: the protocol of a database, with batches of three."""

    def __init__(self, name: str, columns: Sequence[tuple[ColumnSpec, Sequence[object]]]) -> None:
        self.name = self.location = name
        self.dialect = "sqlite"
        self.columns = dict(columns)
        self.snapshots = 0
        self.hidden: dict[str, Sequence[object]] = {}

    def preflighted(self) -> SourcePreflight:
        return SourcePreflight(tuple(self.columns), False, "", "exclusive")

    def snapshot(self) -> Rows:
        self.snapshots += 1
        return self

    async def __aenter__(self) -> Rows:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def values(self, column: ColumnSpec, batch: int = 3) -> Any:
        values = self.columns[column]
        for start in range(0, len(values), 3):
            part = values[start : start + 3]
            for value in part:
                if isinstance(value, Exception):
                    raise value
            yield part

    async def undeclared(self, limit: int = 1000) -> Any:
        for label, values in self.hidden.items():
            yield label, values[:limit]


def spec(
    label: str = "t.c",
    *,
    index: int = 0,
    fmt: ReferenceFormat = ReferenceFormat.AUTO,
    rules: ReferenceRules = RULES,
    source: str = "shop",
    kind: str = "column",
) -> ColumnSpec:
    return ColumnSpec(source, index, label, fmt, rules, kind)


async def columns(work: Path, *given: tuple[ColumnSpec, Sequence[object]]) -> list[ReadColumn]:
    """Columns as the reader writes them."""
    source = Rows("shop", given)
    return await read_references([source], [source.preflighted()], work)  # type: ignore[list-item]  # a stand-in


def holds(path: Path, *given: tuple[str, datetime]) -> Path:
    rows = [
        {"key": key, "until": until, "operation_id": "01HX", "reason": "restored"} for key, until in given
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=HOLDS_SCHEMA), path)
    return path


def keys_of(path: Path) -> list[str]:
    """The keys of a Parquet file, sorted as bytes."""
    return sorted(pq.read_table(path, columns=["key"])["key"].to_pylist(), key=str.encode)
