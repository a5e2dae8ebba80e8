"""An operation's manifest: its journals and audits in one Parquet file, one row an object, for any Parquet
tool.

It is derived (the journals are the truth), so a damaged manifest costs time and never an object: readers
prove its SHA-256 first, against the one that operation.json keeps, and go back to the journals when it
differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.vault.records import AuditRecord, BackupEntry, PackPart

__all__ = ["MANIFEST_SCHEMA", "EntryFilter", "ManifestWriter", "Outcome", "groups_of", "read_rows"]

_TIME = pa.timestamp("us", tz="UTC")

#: One row an object. `pack`, `offset` and `length` are those of the first part, `parts` has all of them.
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("version_id", pa.string()),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("last_modified", _TIME, nullable=False),
        pa.field("storage_class", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("headers", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("tags", pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))),
        pa.field("acl", pa.string()),
        pa.field("pack", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field(
            "parts",
            pa.list_(pa.struct([("pack", pa.int32()), ("offset", pa.int64()), ("length", pa.int64())])),
        ),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("outcome", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("marker_version_id", pa.string()),
        pa.field("at", _TIME),
    ]
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a journaled object, from its last audit record; `action` is empty when the audit does
    not say."""

    action: str = ""
    reason: str = ""
    marker_version_id: str | None = None
    at: datetime | None = None

    @classmethod
    def of(cls, record: AuditRecord) -> Outcome:
        return cls(record.action, record.reason, record.marker_version_id, record.at)


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are wanted: all, or those that match any of `keys` (exact), `prefixes` and `globs`.

    In a glob ``*`` matches any characters, ``/`` too; ``?`` one; ``[a-z]`` one of a set. Case matters.
    """

    keys: frozenset[str] | None = None
    prefixes: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()

    @classmethod
    def make(
        cls, keys: Iterable[str] | None, prefixes: Sequence[str] | None, globs: Sequence[str] | None
    ) -> EntryFilter | None:
        """None when nothing was asked for, which means every entry."""
        if keys is None and prefixes is None and globs is None:
            return None
        for name, value in (("keys", keys), ("prefixes", prefixes), ("globs", globs)):
            if isinstance(value, str):
                raise TypeError(f"{name} is a list of strings, not one string")
        return cls(frozenset(keys or ()), tuple(prefixes or ()), tuple(globs or ()))

    def matches(self, key: str) -> bool:
        from fnmatch import fnmatchcase

        return (
            (self.keys is not None and key in self.keys)
            or key.startswith(self.prefixes)
            or any(fnmatchcase(key, glob) for glob in self.globs)
        )


class ManifestWriter:
    """Writes rows in batches to a local file, in bounded memory; `sha256` and `rows` are known after it is
    closed."""

    _BATCH = 10_000

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, MANIFEST_SCHEMA, compression="zstd", write_page_checksum=True)
        self._rows: list[dict[str, Any]] = []
        self.rows = 0
        self.sha256 = ""

    def __enter__(self) -> Self:
        return self

    def add(self, entry: BackupEntry, outcome: Outcome) -> None:
        first = entry.parts[0] if entry.parts else None
        self._rows.append(
            {
                "key": entry.key,
                "version_id": entry.version_id,
                "etag": entry.etag,
                "size": entry.size,
                "last_modified": entry.last_modified,
                "storage_class": entry.storage_class,
                "sha256": entry.sha256,
                "headers": list(entry.headers.items()),
                "tags": None if entry.tags is None else [{"name": n, "value": v} for n, v in entry.tags],
                "acl": entry.acl,
                "pack": first.pack if first else None,
                "offset": first.offset if first else None,
                "length": first.length if first else None,
                "parts": [{"pack": p.pack, "offset": p.offset, "length": p.length} for p in entry.parts],
                "group": entry.group,
                "outcome": outcome.action or None,
                "reason": outcome.reason or None,
                "marker_version_id": outcome.marker_version_id,
                "at": outcome.at,
            }
        )
        if len(self._rows) >= self._BATCH:
            self._flush()

    def add_all(self, rows: Iterable[tuple[BackupEntry, Outcome]]) -> None:
        for entry, outcome in rows:
            self.add(entry, outcome)

    def finish(self, groups: Sequence[int]) -> None:
        """Close the file. `groups` are the journals it was made from; a journal written later is read beside
        it."""
        self._flush()
        self._writer.add_key_value_metadata({"s3gc.groups": json.dumps(list(groups)), "s3gc.manifest": "1"})
        self._writer.close()
        with self._path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=MANIFEST_SCHEMA))
            self.rows += len(self._rows)
            self._rows = []


def groups_of(path: Path) -> set[int]:
    """The journals that a manifest was made from."""
    metadata = pq.read_metadata(path).metadata or {}
    return set(json.loads(metadata.get(b"s3gc.groups", b"[]")))


def read_rows(
    path: Path, operation_id: str, wanted: EntryFilter | None, batch_rows: int = 2000
) -> Iterator[list[tuple[BackupEntry, Outcome]]]:
    """Yield the wanted rows of a local manifest in batches. Raises pyarrow's errors for a damaged file."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=batch_rows):
            if wanted is not None:
                chosen = [
                    index for index, key in enumerate(batch.column("key").to_pylist()) if wanted.matches(key)
                ]
                if not chosen:
                    continue
                batch = batch.take(pa.array(chosen, pa.int32()))
            yield [_from_row(operation_id, row) for row in batch.to_pylist()]


def _from_row(operation_id: str, row: dict[str, Any]) -> tuple[BackupEntry, Outcome]:
    tags = row["tags"]
    entry = BackupEntry(
        operation_id=operation_id,
        group=row["group"],
        key=row["key"],
        etag=row["etag"],
        size=row["size"],
        last_modified=row["last_modified"].astimezone(UTC),
        version_id=row["version_id"],
        storage_class=row["storage_class"],
        sha256=row["sha256"],
        headers=dict(row["headers"]),
        tags=None if tags is None else tuple((tag["name"], tag["value"]) for tag in tags),
        acl=row["acl"],
        parts=tuple(PackPart(part["pack"], part["offset"], part["length"]) for part in row["parts"]),
    )
    return entry, Outcome(row["outcome"] or "", row["reason"] or "", row["marker_version_id"], row["at"])
