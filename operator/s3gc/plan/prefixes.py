"""References to everything under a prefix: HLS and Zarr folders, templates with a NULL part, `format:
prefix`.

Which values are prefixes, and of what, is decided by `references.extract` alone; here they are found among
millions of values, told apart from the rest by a condition that may let too many through but none slip, and
joined with the objects by exact starts-with. The empty prefix keeps nothing: it would keep everything, and
nobody means that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.config import ReferenceFormat
from s3gc.plan.duck import Session, is_storable, quoted, table_of
from s3gc.plan.groups import OddValues
from s3gc.plan.scope import IN_SCOPE
from s3gc.references.extract import extract
from s3gc.references.reader import ReadColumn
from s3gc.references.types import PrefixReference

__all__ = ["HITS_SCHEMA", "PREFIX_SCHEMA", "PrefixHits", "find", "heads_join"]

#: Which value (col, row) names which object (oid); `derived` when only by a derivative. oid -1: see `find`.
HITS_SCHEMA = pa.schema(
    [("col", pa.int32()), ("row", pa.int64()), ("oid", pa.int64()), ("derived", pa.bool_())]
)
PREFIX_SCHEMA = pa.schema([("col", pa.int32()), ("row", pa.int64()), ("prefix", pa.string())])

#: Prefixes of one column that coverage shows, those that keep most.
_SHOWN = 20
#: Different lengths of prefixes compared in one statement.
_LENGTHS_AT_ONCE = 16
#: Values whose extraction is remembered: a folder is often named by many rows.
_REMEMBERED = 100_000

#: A slash, plain or escaped, after which a text ends, or a string in a document does. What is missed here
#: is still found by the second stage; then coverage does not show what it keeps.
_SLASH = (
    r"""(?:[/\\]|%(?:25)*2[fF]|&#0*47;|&#[xX]0*2[fF];|&sol;|\\u002[fF])[\s"'\\\x00-\x1f\x{80}-\x{10FFFF}]*"""
)
_ENDS_IN_SLASH = _SLASH + r"""(?:[?#].*)?$"""
_STRING_ENDS_IN_SLASH = _SLASH + r"""[,{}\]?#"']"""
#: Only in documents of strings does a part of a value count as a value of its own.
_IS_DOCUMENT = r"""^\s*(?:[\[{"]|[aOsi]:|&quot;|&#)"""
#: In larger documents nobody keeps a folder's name; reading them all again would cost minutes.
_DOCUMENT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class PrefixHits:
    """`rows`: prefixes by value (PREFIX_SCHEMA). `hits`: what they name (HITS_SCHEMA). `kept`: of each
    column (its number), prefix -> objects of the scope under it, the largest ones."""

    rows: Path
    hits: Path
    count: int
    kept: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


def find(
    session: Session, listed: str, columns: Sequence[ReadColumn], odd: Sequence[OddValues], work: Path
) -> PrefixHits:
    """Find all prefix references, which are among the odd values, and the objects under them.

    In `hits` the row of a prefix that has objects under it appears with oid -1, and each object under a
    prefix once with col -1: pairs would be as many as prefixes are nested.
    """
    rows = work / "prefixes.parquet"
    count = _extract_prefixes(session, columns, odd, rows, work)
    hits = work / "prefix-hits.parquet"
    if not count:
        pq.write_table(HITS_SCHEMA.empty_table(), hits)
        return PrefixHits(rows=rows, hits=hits, count=0)
    wanted = work / "prefix-list.parquet"
    session.copy(f"SELECT DISTINCT prefix FROM {table_of([rows])}", wanted)
    pairs = heads_join(
        session, f"(SELECT oid, key, verdict FROM {listed} WHERE {IN_SCOPE})", "oid", wanted, work
    )
    totals = work / "prefix-totals.parquet"
    session.copy(
        f"SELECT prefix, count(DISTINCT oid) AS objects FROM {table_of(pairs)} GROUP BY prefix", totals
    )
    session.copy(
        f"""
        SELECT p.col, p.row, -1::BIGINT AS oid, false AS derived
        FROM {table_of([rows])} p SEMI JOIN {table_of([totals])} t ON p.prefix = t.prefix
        UNION ALL
        SELECT DISTINCT -1::INTEGER, -1::BIGINT, oid, false FROM {table_of(pairs)}""",
        hits,
    )
    shown = session.rows(
        f"""
        SELECT col, prefix, objects FROM (
            SELECT DISTINCT p.col, p.prefix, t.objects
            FROM {table_of([rows])} p JOIN {table_of([totals])} t USING (prefix)
        ) QUALIFY row_number() OVER (PARTITION BY col ORDER BY objects DESC, prefix) <= {_SHOWN}"""
    )
    kept: dict[int, dict[str, int]] = {}
    for col, prefix, objects in sorted(shown, key=lambda item: (item[0], -item[2], item[1])):
        kept.setdefault(int(col), {})[str(prefix)] = int(objects)
    return PrefixHits(rows=rows, hits=hits, count=count, kept=kept)


def heads_join(session: Session, relation: str, identity: str, prefixes: Path, work: Path) -> list[Path]:
    """Write (`identity`, prefix) for every row of `relation` whose `key` starts with a prefix; exact, byte
    for byte.

    Heads of the keys, one for each length that a prefix has, are joined by equality: that is what
    starts-with means, and unlike an inequality it hashes and spills. Returns the files, with duplicates
    where prefixes repeat.
    """
    lengths = [
        int(row[0]) for row in session.rows(f"SELECT DISTINCT length(prefix) FROM {table_of([prefixes])}")
    ]
    files: list[Path] = []
    for start in range(0, len(lengths), _LENGTHS_AT_ONCE):
        heads = ", ".join(
            f"CASE WHEN length(key) >= {length} THEN substr(key, 1, {length}) END"
            for length in sorted(lengths[start : start + _LENGTHS_AT_ONCE])
        )
        path = work / f"{prefixes.stem}-{identity}-{len(files):03d}.parquet"
        session.copy(
            f"""
            SELECT h.{identity}, p.prefix
            FROM (SELECT {identity}, unnest([{heads}]) AS head FROM {relation}) h
            JOIN {table_of([prefixes])} p ON h.head = p.prefix""",
            path,
        )
        files.append(path)
    return files


def _extract_prefixes(
    session: Session, columns: Sequence[ReadColumn], odd: Sequence[OddValues], out: Path, work: Path
) -> int:
    """Write every prefix that a value means (PREFIX_SCHEMA); returns how many."""
    count = 0
    with pq.ParquetWriter(out, PREFIX_SCHEMA, compression="zstd") as writer:
        for number, (column, values) in enumerate(zip(columns, odd, strict=True)):
            spec = column.spec
            if not values.count or (spec.format is ReferenceFormat.KEY and spec.kind != "template"):
                continue  # a column of exact keys has no prefixes but those that a template makes
            always = "true" if spec.format is ReferenceFormat.PREFIX else "false"
            possible = work / "possible-prefixes.parquet"
            session.copy(
                f"""SELECT row, value, is_prefix FROM {values.relation}
                    WHERE {always} OR is_prefix OR regexp_matches(value, {quoted(_ENDS_IN_SLASH)}, 's')
                       OR (strlen(value) <= {_DOCUMENT_BYTES} AND regexp_matches(value, {quoted(_IS_DOCUMENT)})
                           AND regexp_matches(value, {quoted(_STRING_ENDS_IN_SLASH)}, 's'))""",
                possible,
            )
            seen: dict[tuple[str, bool], frozenset[str]] = {}
            for batch in pq.ParquetFile(possible).iter_batches(batch_size=10_000):
                session.check()
                rows: list[int] = []
                prefixes: list[str] = []
                for row, value, is_prefix in zip(
                    *(batch.column(i).to_pylist() for i in range(3)), strict=True
                ):
                    found = seen.get((value, is_prefix))
                    if found is None:
                        given = PrefixReference(value) if is_prefix else value
                        meant = extract(given, spec.format, spec.rules).prefixes
                        found = frozenset(prefix for prefix in meant if is_storable(prefix))
                        if len(seen) < _REMEMBERED:
                            seen[value, is_prefix] = found
                    rows += [row] * len(found)
                    prefixes += found
                if rows:
                    cols = pa.array([number] * len(rows), pa.int32())
                    table = [cols, pa.array(rows, pa.int64()), pa.array(prefixes, pa.string())]
                    writer.write_batch(pa.record_batch(table, schema=PREFIX_SCHEMA))
                    count += len(rows)
            possible.unlink()
    return count
