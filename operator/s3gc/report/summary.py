"""What a plan or a manifest amounts to: by prefix, age, size and storage class, with samples, in bounded
memory.

Reads Parquet through DuckDB, so that the report of a hundred million objects needs no more memory than that
of a hundred. A manifest (what was backed up, and what became of it) is preferred to the plan it came from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3gc.report.prices import Prices

if TYPE_CHECKING:
    from s3gc.plan.duck import Session
    from s3gc.results import GCResult

__all__ = ["Bin", "Sample", "Summary", "summarise"]

_DAY = 86400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Upper bounds in days, and what the bin is called.
_AGES: tuple[tuple[float | None, str], ...] = (
    (7, "under a week"),
    (30, "1–4 weeks"),
    (90, "1–3 months"),
    (180, "3–6 months"),
    (365, "6–12 months"),
    (730, "1–2 years"),
    (1461, "2–4 years"),
    (None, "over 4 years"),
)
_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3
_SIZES: tuple[tuple[int | None, str], ...] = (
    (1, "empty"),
    (16 * _KIB, "under 16 KiB"),
    (128 * _KIB, "16–128 KiB"),
    (_MIB, "128 KiB–1 MiB"),
    (16 * _MIB, "1–16 MiB"),
    (128 * _MIB, "16–128 MiB"),
    (_GIB, "128 MiB–1 GiB"),
    (None, "over 1 GiB"),
)
PREFIXES_SHOWN = 12
SAMPLES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Bin:
    """A part of the whole: `objects` and `bytes`, and what keeping it costs a month in dollars."""

    label: str
    objects: int
    bytes: int
    monthly: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    key: str
    size: int
    last_modified: datetime
    storage_class: str
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Aggregates of one plan or manifest. `source` is "plan", "manifest" or "" (there was nothing to read)."""

    source: str = ""
    objects: int = 0
    bytes: int = 0
    monthly: float = 0.0
    price_origin: str = ""
    by_prefix: tuple[Bin, ...] = ()
    by_age: tuple[Bin, ...] = ()
    by_size: tuple[Bin, ...] = ()
    by_class: tuple[Bin, ...] = ()
    by_outcome: tuple[Bin, ...] = ()
    oldest: datetime | None = None
    newest: datetime | None = None
    largest: tuple[Sample, ...] = ()
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = field(default=())


def summarise(
    result: GCResult,
    files: Sequence[Path],
    *,
    source: str,
    prices: Prices | None = None,
    memory_limit_mb: int = 256,
    work: Path | None = None,
) -> Summary:
    """Aggregate `files` (the plan, or the manifest: `source` says which). Blocking; call it in a thread.

    Ages are counted from the cycle's end. Without files the summary is empty. Raises S3GCError where the
    disk or the memory does not suffice.
    """
    prices = prices or Prices()
    if not files:
        return Summary(price_origin=prices.origin)
    from s3gc.plan.duck import open_session, table_of

    with (
        tempfile.TemporaryDirectory(prefix="s3gc-report-", dir=work) as folder,
        open_session(Path(folder), memory_limit_mb=memory_limit_mb) as session,
    ):
        outcome = "coalesce(outcome, 'unknown')" if source == "manifest" else "''"
        session.run(
            "CREATE VIEW o AS SELECT key, size, last_modified, "
            "coalesce(nullif(storage_class, ''), 'STANDARD') AS class, "
            f"{outcome} AS outcome FROM {table_of(files)}"
        )
        return _summary(session, source, result.completed_at or datetime.now(UTC), prices)


def _summary(session: Session, source: str, now: datetime, prices: Prices) -> Summary:
    objects, size, oldest, newest = session.one(
        "SELECT count(*), coalesce(sum(size), 0)::BIGINT, min(epoch_us(last_modified)), "
        "max(epoch_us(last_modified)) FROM o"
    )
    classes = session.rows("SELECT class, count(*), sum(size)::BIGINT FROM o GROUP BY 1 ORDER BY 3 DESC, 1")
    by_class = tuple(Bin(name, n, total, prices.monthly(name, total)) for name, n, total in classes)
    age = f"epoch(make_timestamptz({int(now.timestamp() * 1_000_000)}::BIGINT)) - epoch(last_modified)"
    by_age = [(None if days is None else days * _DAY, label) for days, label in _AGES]
    outcomes = session.rows(
        "SELECT outcome, count(*), sum(size)::BIGINT FROM o GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    return Summary(
        source=source,
        objects=objects,
        bytes=size,
        monthly=sum(each.monthly for each in by_class),
        price_origin=prices.origin,
        by_prefix=_prefixes(session, objects, size),
        by_age=_bins(session, age, by_age),
        by_size=_bins(session, "size", list(_SIZES)),
        by_class=by_class,
        by_outcome=tuple(Bin(name, n, total) for name, n, total in outcomes if name),
        oldest=_moment(oldest),
        newest=_moment(newest),
        largest=_samples(session, f"ORDER BY size DESC, key LIMIT {SAMPLES_SHOWN}"),
        # Every so-many-th by a hash of the key: the same keys each time the report is made, from everywhere.
        samples=_samples(session, f"ORDER BY hash(key), key LIMIT {SAMPLES_SHOWN}"),
    )


def _bins(session: Session, value: str, bounds: list[tuple[Any, str]]) -> tuple[Bin, ...]:
    cases = " ".join(
        f"WHEN {value} < {bound} THEN {index}" for index, (bound, _) in enumerate(bounds) if bound is not None
    )
    rows = session.rows(
        f"SELECT CASE {cases} ELSE {len(bounds) - 1} END AS bin, count(*), sum(size)::BIGINT FROM o GROUP BY 1"
    )
    found = {index: (objects, size) for index, objects, size in rows}
    return tuple(Bin(label, *found.get(index, (0, 0))) for index, (_, label) in enumerate(bounds))


def _prefixes(session: Session, objects: int, size: int) -> tuple[Bin, ...]:
    """The largest folders by bytes and one bin for all others, at the greatest depth that still fits the page."""
    if not objects:
        return ()
    depth = 1
    for deeper in (2, 3, 4):
        folders = session.one(f"SELECT approx_count_distinct({_folder(deeper)}) FROM o")[0]
        if folders > PREFIXES_SHOWN:
            break
        depth = deeper
    rows = session.rows(
        f"SELECT {_folder(depth)}, count(*), sum(size)::BIGINT FROM o "
        f"GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT {PREFIXES_SHOWN}"
    )
    shown = [Bin(name, n, total) for name, n, total in rows]
    rest = objects - sum(each.objects for each in shown)
    if rest > 0:
        shown.append(Bin("everything else", rest, size - sum(each.bytes for each in shown)))
    return tuple(shown)


def _folder(depth: int) -> str:
    """SQL for a key's folder, cut at `depth`."""
    parts = "string_split(key, '/')"
    return (
        f"CASE WHEN len({parts}) = 1 THEN '(no folder)' "
        f"ELSE array_to_string({parts}[1:least({depth}, len({parts}) - 1)], '/') || '/' END"
    )


def _samples(session: Session, order: str) -> tuple[Sample, ...]:
    rows = session.rows(f"SELECT key, size, epoch_us(last_modified), class, outcome FROM o {order}")
    return tuple(
        Sample(key, size, _moment(at) or _EPOCH, kind, outcome) for key, size, at, kind, outcome in rows
    )


def _moment(microseconds: int | None) -> datetime | None:
    """DuckDB gives times with a zone only through a package that nobody else needs; so whole numbers."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
