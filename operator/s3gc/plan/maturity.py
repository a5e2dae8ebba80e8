"""How long each object has been without a reference: the memory between cycles, `state.parquet` in the vault.

An object is known by its identity: key, ETag, size and last_modified together. Another object under the
same key starts from nothing. Two times are kept for it, both the store's own (T0 of a cycle):

`first_listed`         the first listing that saw it. Kept for every multipart object of the scope, because
                       the `last_modified` of a multipart object is the time of its *initiation*: an upload
                       begun a month ago and completed a minute ago looks a month old. Their age counts from
                       here.
`first_unreferenced`   the first cycle in an unbroken row of cycles that found it old enough and without a
reference;
                       NULL while it is referenced. One cycle that finds a reference resets the clock.

This module only computes the next state. Whether it may replace the last one is the caller's decision: only
when the trust guards passed or the plan was approved. A day on which the reading could not be believed must
not make anything riper.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from s3gc.plan.duck import Session, table_of, timestamp

__all__ = ["IDENTITY", "STATE_SCHEMA", "is_ripe", "next_state", "ripe_since"]

_TIME = pa.timestamp("us", tz="UTC")
STATE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("last_modified", _TIME),
        ("first_listed", _TIME),
        ("first_unreferenced", _TIME),
    ]
)

#: The columns that say that two rows are the same object.
IDENTITY = ("key", "etag", "size", "last_modified")

#: An ETag of this form was made of parts: the hash of the parts' hashes, and their number.
MULTIPART = "regexp_full_match(etag, '.*-[0-9]+', 's')"


def ripe_since(t0: datetime, unreferenced_days: float) -> datetime:
    """Return the time since which, or longer, an object must have been unreferenced to be swept at `t0`."""
    return t0 - timedelta(days=unreferenced_days)


def is_ripe(first_unreferenced: datetime | None, t0: datetime, unreferenced_days: float) -> bool:
    """Tell whether an object has been unreferenced long enough at `t0`; one never seen so counts from now."""
    return (first_unreferenced or t0) <= ripe_since(t0, unreferenced_days)


def next_state(
    session: Session, objects: str, candidates: Sequence[Path], out: Path, *, t0: datetime, in_scope: str
) -> int:
    """Write the state after this cycle; returns its number of rows.

    `objects` are all objects as `scope.classify` gives them (`Objects.all`), `candidates` those of them
    that no reference names, as the join wrote them (with both times), `in_scope` an SQL condition over
    `objects`. What is no longer listed, and what is neither multipart nor a candidate, is forgotten: its clock
    is reset.
    """
    same = " AND ".join(f"c.{name} = o.{name}" for name in IDENTITY)
    return session.copied(
        f"""
        SELECT key, etag, size, last_modified, first_listed, first_unreferenced FROM {table_of(candidates)}
        UNION ALL
        SELECT o.key, o.etag, o.size, o.last_modified,
               coalesce(o.first_listed, {timestamp(t0)}) AS first_listed, NULL::TIMESTAMPTZ AS first_unreferenced
        FROM {objects} o
        WHERE o.is_multipart AND {in_scope}
          AND NOT EXISTS (SELECT 1 FROM {table_of(candidates)} c WHERE {same})
        ORDER BY key""",
        out,
    )
