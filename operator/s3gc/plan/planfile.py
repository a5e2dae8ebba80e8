"""The plan: the sorted list of objects that a cycle may sweep, as a Parquet file with a digest.

`write_plan` makes one from candidates that are ripe; `read_plan` gives it back in batches, whatever its
size; `intersect` is what approval means: the stored plan, minus everything that is no longer a candidate,
or is another object by now. An intersection can only get smaller, so an approved plan never sweeps what
nobody saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3gc.exceptions import S3GCError, VaultCorruptedError
from s3gc.plan.digest import PlanDigest
from s3gc.plan.duck import open_session, table_of, timestamp
from s3gc.vault.records import PlannedObject

__all__ = ["PLAN_SCHEMA", "PlanSummary", "intersect", "read_plan", "summarise", "write_plan"]

_TIME = pa.timestamp("us", tz="UTC")

#: Columns of a plan, and of candidates.
PLAN_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("last_modified", _TIME),
        ("storage_class", pa.string()),
        ("first_listed", _TIME),
        ("first_unreferenced", _TIME),
    ]
)
_COLUMNS = ", ".join(PLAN_SCHEMA.names)
#: What the digest is made of, and rows of it that are looked at together.
_DIGESTED = ["key", "etag", "size", "last_modified"]
_SUMMARISED = 20_000


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """A plan on disk: how many objects, how many bytes they have, and the digest that names it."""

    path: Path
    objects: int
    bytes: int
    digest: str


def write_plan(
    candidates: Sequence[Path],
    out: Path,
    *,
    work: Path,
    memory_limit_mb: int,
    ripe_since: datetime | None = None,
    stop: Event | None = None,
) -> PlanSummary:
    """Write the plan of those `candidates` that have been unreferenced since `ripe_since` or longer (None:
    all).

    Sorted by the keys' bytes, externally, in bounded memory. `out` appears whole or not at all.
    """
    ripe = "" if ripe_since is None else f"WHERE first_unreferenced <= {timestamp(ripe_since)}"
    query = f"SELECT {_COLUMNS} FROM {table_of(candidates)} {ripe} ORDER BY key"
    return _written(query, out, work, memory_limit_mb, stop)


def intersect(
    stored: Path,
    candidates: Sequence[Path],
    out: Path,
    *,
    work: Path,
    memory_limit_mb: int,
    stop: Event | None = None,
) -> PlanSummary:
    """Write what of the `stored` plan is still a candidate, as the same object: key, ETag, size and time.

    `candidates` come from a new listing and a new reading of all references: what is referenced now, held,
    excluded, replaced or gone is not among them. The times of maturity are those of the stored plan.
    """
    query = f"""
        SELECT {", ".join(f"p.{name}" for name in PLAN_SCHEMA.names)}
        FROM {table_of([stored])} p
        WHERE EXISTS (
            SELECT 1 FROM {table_of(candidates)} c
            WHERE c.key = p.key AND c.etag = p.etag AND c.size = p.size AND c.last_modified = p.last_modified
        )
        ORDER BY p.key"""
    return _written(query, out, work, memory_limit_mb, stop)


def _written(query: str, out: Path, work: Path, memory_limit_mb: int, stop: Event | None) -> PlanSummary:
    part = out.with_name(out.name + ".part")
    with open_session(work, memory_limit_mb=memory_limit_mb, stop=stop) as session:
        session.copy(query, part)
    summary = summarise(part)
    part.replace(out)
    return PlanSummary(path=out, objects=summary.objects, bytes=summary.bytes, digest=summary.digest)


def summarise(path: Path) -> PlanSummary:
    """Read a plan through; return its numbers and digest. S3GCError when it is not strictly sorted."""
    digest = PlanDigest()
    objects = size = 0
    with _opened(path) as file:
        for rows in file.iter_batches(batch_size=_SUMMARISED, columns=_DIGESTED):
            for name in _DIGESTED:
                if rows.column(name).null_count:
                    raise S3GCError(f"the plan {path} has a row without {name}; plan again, do not sweep it")
            digest.add_all(rows)
            size += pc.sum(rows.column("size")).as_py() or 0
            objects += rows.num_rows
    return PlanSummary(path=path, objects=objects, bytes=size, digest=digest.hexdigest())


def read_plan(
    path: Path, batch: int = 1000, *, start_after: str | None = None
) -> Iterator[list[PlannedObject]]:
    """Yield the plan's objects in key order, in lists of at most `batch`; `start_after` skips keys up to it.

    Raises VaultCorruptedError for a file that is not a plan.
    """
    after = None if start_after is None else start_after.encode()
    with _opened(path) as file:
        for record in file.iter_batches(batch_size=batch, columns=PLAN_SCHEMA.names):
            rows = [_planned(row) for row in record.to_pylist()]
            if after is not None:
                rows = [row for row in rows if row.key.encode() > after]
            if rows:
                yield rows


def _opened(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
        missing = set(PLAN_SCHEMA.names) - set(file.schema_arrow.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise VaultCorruptedError(
            f"the plan {path} cannot be read: {error}. Start a new cycle", details={"path": str(path)}
        ) from error
    if missing:
        file.close()
        raise VaultCorruptedError(
            f"{path} is not a plan: it has no column {', '.join(sorted(missing))}",
            details={"path": str(path)},
        )
    return file


def _planned(row: dict[str, object]) -> PlannedObject:
    key, etag, size, modified = row["key"], row["etag"], row["size"], row["last_modified"]
    since = row["first_unreferenced"]
    if not (
        isinstance(key, str)
        and isinstance(etag, str)
        and isinstance(size, int)
        and isinstance(modified, datetime)
    ):
        raise S3GCError(f"the plan has a row without key, ETag, size or time near {str(key)[:200]!r}")
    return PlannedObject(
        key=key,
        etag=etag,
        size=size,
        last_modified=modified,
        storage_class=str(row["storage_class"] or "STANDARD"),
        first_unreferenced=since if isinstance(since, datetime) else None,
    )
