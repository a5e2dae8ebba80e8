"""Which of the listed objects may be judged at all, and why not the others.

The first step of the join: the inventory, joined with what is remembered of each object, is a relation with a
verdict a row. Every object stays in it, because one that may not be judged still exists, and a reference to it
is not a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path

import pyarrow.parquet as pq

from s3gc.config import RESERVED_PREFIX, S3GCConfig
from s3gc.plan.duck import Session, quoted, table_of, timestamp
from s3gc.plan.maturity import IDENTITY, MULTIPART

__all__ = ["IN_SCOPE", "Objects", "ScopeCounts", "Verdict", "classify", "under_any"]


class Verdict(IntEnum):
    """What the rules before any reference say. Only JUDGED objects can become candidates."""

    JUDGED = 0
    EXCLUDED = 1  # under one of exclude_prefixes
    NOT_ACTIONABLE = 2  # a key that some client or store would take for another one
    YOUNG = 3  # not older than retention_days
    OUTSIDE = 4  # not under the scope's prefixes, or reserved


#: SQL condition over classified objects: those the cycle counts as scanned.
IN_SCOPE = f"verdict <> {Verdict.OUTSIDE.value}"


#: A state of more rows than one in so many objects is joined with them once, not whenever they are looked at.
_REMEMBERED_SHARE = 8

#: The shape of a listing, for a scope without a single object.
_NOTHING = (
    "NULL::VARCHAR AS key, NULL::BIGINT AS size, NULL::VARCHAR AS etag, NULL::TIMESTAMPTZ AS last_modified, "
    "NULL::VARCHAR AS storage_class, NULL::VARCHAR AS problem"
)


@dataclass(frozen=True, slots=True)
class ScopeCounts:
    """Objects of the scope by verdict. `scanned` and `bytes` are all of them, whatever the verdict."""

    scanned: int
    bytes: int
    judged: int
    young: int
    excluded: int
    not_actionable: int
    listed: int  # also those outside the scope


def under_any(column: str, prefixes: Sequence[str]) -> str:
    """Return an SQL condition: `column` starts, byte for byte, with one of `prefixes`; false for none."""
    if "" in prefixes:
        return "true"
    tests = (f"starts_with({column}, {quoted(prefix)})" for prefix in prefixes)
    return "(" + " OR ".join(["false", *tests]) + ")"


@dataclass(frozen=True, slots=True)
class Objects:
    """All listed objects, as SQL. `keys` has only key and oid (a number for each object), `all` also etag, size,
    last_modified, storage_class, is_multipart, first_listed, was_unreferenced (both as remembered) and verdict."""

    keys: str
    all: str
    counts: ScopeCounts


def classify(
    session: Session,
    inventory: Sequence[Path],
    work: Path,
    *,
    config: S3GCConfig,
    t0: datetime,
    state: Path | None,
) -> Objects:
    """Return every listed object with its verdict and with what `state` remembers of it.

    Old enough means: `last_modified` before `t0 - retention_days`; for a multipart object also first listed
    no later than that, because its `last_modified` is the time of its initiation. An object without a time,
    a size or an ETag is not actionable: nothing could be compared before its deletion.
    """
    if not inventory:
        nothing = f"(SELECT {_NOTHING}, 0::BIGINT AS oid WHERE false)"
        return Objects(nothing, f"({_verdicts(nothing, config, t0, state)})", _counts([]))
    # The place of its row, in a file and among the files, is an object's number for the length of one cycle.
    numbered = f"(SELECT *, (file_index::BIGINT << 40) + file_row_number AS oid FROM {table_of(inventory)})"
    judged = f"({_verdicts(numbered, config, t0, state)})"
    if state is not None and _rows(state) * _REMEMBERED_SHARE > sum(map(_rows, inventory)):
        # So much is remembered that it is joined once and written down.
        path = work / "objects.parquet"
        session.copy(f"SELECT * FROM {judged}", path)
        judged = table_of([path])
    counted = session.rows(
        f"SELECT verdict, count(*), coalesce(sum(size), 0)::BIGINT FROM {judged} GROUP BY verdict"
    )
    return Objects(f"(SELECT key, oid FROM {numbered})", judged, _counts(counted))


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _verdicts(listed: str, config: S3GCConfig, t0: datetime, state: Path | None) -> str:
    cutoff = timestamp(t0 - timedelta(days=config.retention_days))
    same = " AND ".join(f"s.{name} = o.{name}" for name in IDENTITY)
    reserved = f"starts_with(key, {quoted(RESERVED_PREFIX)})"
    in_prefixes = under_any("key", config.effective_prefixes)
    # Most ETags are hashes without a dash, and looking for one is much cheaper than the pattern.
    is_multipart = (
        f"CASE WHEN contains(o.etag, '-') THEN {MULTIPART.replace('etag', 'o.etag')} ELSE false END"
    )
    remembered = "NULL::TIMESTAMPTZ AS first_listed, NULL::TIMESTAMPTZ AS first_unreferenced"
    known = f"SELECT *, {remembered} FROM {listed} o"
    if state is not None:
        times = "s.first_listed, s.first_unreferenced"
        known = f"SELECT o.*, {times} FROM {listed} o LEFT JOIN {table_of([state])} s ON {same}"
    return f"""
        SELECT key, oid, etag, size, last_modified, storage_class, is_multipart, first_listed, was_unreferenced,
            CASE
                WHEN {reserved} OR NOT {in_prefixes} THEN {Verdict.OUTSIDE.value}
                WHEN {under_any("key", config.exclude_prefixes)} THEN {Verdict.EXCLUDED.value}
                WHEN problem IS NOT NULL OR last_modified IS NULL OR size IS NULL OR coalesce(etag, '') = ''
                    THEN {Verdict.NOT_ACTIONABLE.value}
                WHEN last_modified >= {cutoff} THEN {Verdict.YOUNG.value}
                WHEN is_multipart AND first_listed > {cutoff} THEN {Verdict.YOUNG.value}
                ELSE {Verdict.JUDGED.value}
            END::TINYINT AS verdict
        FROM (
            SELECT o.* EXCLUDE (first_listed, first_unreferenced),
                   coalesce(o.first_listed, {timestamp(t0)}) AS first_listed,
                   o.first_unreferenced AS was_unreferenced, {is_multipart} AS is_multipart
            FROM ({known}) o
        )"""


def _counts(counted: Sequence[tuple[int, int, int]]) -> ScopeCounts:
    number = {Verdict(verdict): (int(objects), int(size)) for verdict, objects, size in counted}
    inside = [value for verdict, value in number.items() if verdict is not Verdict.OUTSIDE]

    def objects_of(verdict: Verdict) -> int:
        return number.get(verdict, (0, 0))[0]

    return ScopeCounts(
        scanned=sum(objects for objects, _ in inside),
        bytes=sum(size for _, size in inside),
        judged=objects_of(Verdict.JUDGED),
        young=objects_of(Verdict.YOUNG),
        excluded=objects_of(Verdict.EXCLUDED),
        not_actionable=objects_of(Verdict.NOT_ACTIONABLE),
        listed=sum(objects for objects, _ in number.values()),
    )
