"""What the odd values of a column are that name no object: the full rules say it, of all of them or of a sample.

Part of `coverage`, which see. Nothing here decides about an object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.plan.duck import Session, is_storable, table_of
from s3gc.plan.groups import OddValues
from s3gc.plan.tally import SAMPLE_LENGTH, SAMPLES, Hosts, Tally, shown
from s3gc.references.extract import extract
from s3gc.references.reader import ReadColumn
from s3gc.references.types import Extraction, PrefixReference

__all__ = ["judge_rest"]

#: A value that is one address, not a document with several.
_ONE_WORD = re.compile(r"""\s*[^\s"'<>{}\[\]]+\s*""")
_FLAGS = pa.schema(
    [("col", pa.int32()), ("row", pa.int64())]
    + [
        (name, pa.bool_())
        for name in (
            "named",
            "in_scope",
            "ignored",
            "other_bucket",
            "is_foreign",
            "unparsed",
            "undeclared",
            "elsewhere",
            "is_single",
        )
    ]
)
_LOOKUP = pa.schema([("col", pa.int32()), ("row", pa.int64()), ("key", pa.string())])


def judge_rest(
    session: Session,
    listed: str,
    columns: Sequence[ReadColumn],
    odd: Sequence[OddValues],
    named: str,
    unresolved: Sequence[int],
    hosts: Sequence[Hosts],
    work: Path,
    *,
    scope: tuple[str, ...],
    reserved: tuple[str, ...],
    size: int,
) -> list[Tally]:
    """Return, a column, what its odd values came to that are not among the relation `named` (col, row).

    `unresolved` says how many those are; of more than `size` an even sample of about that size is looked at.
    """
    if not any(unresolved):
        return [Tally()] * len(columns)
    sample = _sample(session, odd, named, unresolved, size, work)
    return _judged(session, listed, columns, sample, hosts, work, scope=scope, reserved=reserved)


def _sample(
    session: Session,
    odd: Sequence[OddValues],
    named: str,
    unresolved: Sequence[int],
    size: int,
    work: Path,
) -> Path:
    parts: list[str] = []
    for number, values in enumerate(odd):
        if not unresolved[number]:
            continue
        # Rows are numbers in the order of reading; their hash spreads them evenly, and the same way every
        # time.
        share = min(1.0, size / unresolved[number])
        even = "" if share >= 1 else f"WHERE hash(row) % 1000000 < {max(1, int(share * 1_000_000))}"
        parts.append(
            f"SELECT {number}::INTEGER AS col, row, value, is_prefix, is_extra FROM {values.relation} {even}"
        )
    path = work / "unresolved.parquet"
    session.copy(
        f"""
        SELECT v.*
        FROM ({" UNION ALL ".join(parts)}) v
        WHERE NOT EXISTS (SELECT 1 FROM {named} n WHERE n.col = v.col AND n.row = v.row)""",
        path,
    )
    return path


def _judged(
    session: Session,
    listed: str,
    columns: Sequence[ReadColumn],
    sample: Path,
    hosts: Sequence[Hosts],
    work: Path,
    *,
    scope: tuple[str, ...],
    reserved: tuple[str, ...],
) -> list[Tally]:
    """Apply the full rules to the sample, look all keys up in one join, and count what each value came to.

    Texts go through Python once and are not carried along: what is said of them goes to files of flags and
    keys, which are put together again by (col, row), as one value may have several texts.
    """
    flags, lookups = work / "unresolved-flags.parquet", work / "unresolved-keys.parquet"
    with (
        pq.ParquetWriter(flags, _FLAGS, compression="zstd") as flag_writer,
        pq.ParquetWriter(lookups, _LOOKUP, compression="zstd") as key_writer,
    ):
        for batch in pq.ParquetFile(sample).iter_batches(batch_size=200):
            session.check()
            said: list[dict[str, object]] = []
            asked: list[dict[str, object]] = []
            for item in batch.to_pylist():
                col, row, text = item["col"], item["row"], item["value"]
                spec = columns[col].spec
                meaning = extract(
                    PrefixReference(text) if item["is_prefix"] else text, spec.format, spec.rules
                )
                keys, is_named = _keys_in_scope(meaning, scope, reserved)
                said.append(
                    {"col": col, "row": row, **_said(meaning, text, hosts[col]), "in_scope": is_named}
                )
                asked += [{"col": col, "row": row, "key": key} for key in keys]
            flag_writer.write_batch(pa.RecordBatch.from_pylist(said, schema=_FLAGS))
            key_writer.write_batch(pa.RecordBatch.from_pylist(asked, schema=_LOOKUP))
    kinds = work / "unresolved-kinds.parquet"
    session.copy(
        f"""
        SELECT col, row,
            CASE WHEN found THEN 'resolved'
                 WHEN ignored AND NOT (other_bucket OR is_foreign OR undeclared) THEN 'ignored'
                 WHEN other_bucket AND (is_single OR NOT named) THEN 'other_bucket'
                 WHEN is_foreign AND (is_single OR NOT named) THEN 'foreign'
                 WHEN NOT named THEN if(unparsed, 'unparsed', 'ignored')
                 WHEN NOT in_scope THEN 'outside'
                 WHEN elsewhere THEN 'elsewhere'
                 ELSE 'missing' END AS kind
        FROM (
            SELECT col, row, bool_or(named) AS named, bool_or(in_scope) AS in_scope, bool_or(ignored) AS ignored,
                   bool_or(other_bucket) AS other_bucket, bool_or(is_foreign) AS is_foreign,
                   bool_and(unparsed) AS unparsed, bool_or(undeclared) AS undeclared,
                   bool_or(elsewhere) AS elsewhere, bool_or(is_single) AS is_single
            FROM {table_of([flags])} GROUP BY col, row
        ) f LEFT JOIN (
            SELECT DISTINCT k.col, k.row, true AS found
            FROM {table_of([lookups])} k SEMI JOIN (SELECT key FROM {listed}) o ON k.key = o.key
        ) USING (col, row)""",
        kinds,
    )
    counted = session.rows(f"SELECT col, kind, count(*) FROM {table_of([kinds])} GROUP BY ALL")
    examples = session.rows(
        f"""
        SELECT s.col, k.kind, substr(s.value, 1, {2 * SAMPLE_LENGTH})
        FROM {table_of([sample])} s JOIN (
            SELECT * FROM {table_of([kinds])} WHERE kind IN ('missing', 'unparsed')
            QUALIFY row_number() OVER (PARTITION BY col, kind ORDER BY row) <= {SAMPLES}
        ) k ON s.col = k.col AND s.row = k.row
        WHERE NOT s.is_extra ORDER BY s.col, s.row"""
    )
    return [
        Tally(
            counts={kind: count for col, kind, count in counted if col == number},
            unparsed_samples=_samples(examples, number, "unparsed"),
            missing_samples=_samples(examples, number, "missing"),
        )
        for number in range(len(columns))
    ]


def _samples(found: Sequence[tuple[int, str, str]], number: int, kind: str) -> tuple[str, ...]:
    return tuple(shown(text) for col, what, text in found if (col, what) == (number, kind))


def _keys_in_scope(
    meaning: Extraction, scope: tuple[str, ...], reserved: tuple[str, ...]
) -> tuple[list[str], bool]:
    """The keys of a value that the listing could have, and whether it means anything that it could have."""
    keys = [key for key in meaning.keys if key and key.startswith(scope) and not key.startswith(reserved)]
    prefixes = [prefix for prefix in meaning.prefixes if prefix and not prefix.startswith(reserved)]
    above = any(prefix.startswith(scope) or _is_above(prefix, scope) for prefix in prefixes)
    return [key for key in keys if is_storable(key)], bool(keys) or above


def _is_above(prefix: str, scope: Sequence[str]) -> bool:
    return any(start.startswith(prefix) for start in scope)


def _said(meaning: Extraction, text: str, hosts: Hosts) -> dict[str, object]:
    """The flags of one text. `elsewhere`: it is on undeclared hosts, none of which serves a single object
    of ours.

    `is_single`: it is one address, not a document with several; then another bucket's or a foreign host's
    address is nothing else, whatever the rules could still read out of it.
    """
    undeclared = meaning.undeclared_hosts
    return {
        "named": bool(meaning.keys - {""} or meaning.prefixes - {""}),
        "ignored": meaning.ignored,
        "other_bucket": meaning.other_bucket > 0,
        "is_foreign": meaning.foreign > 0,
        "unparsed": meaning.unparsed,
        "undeclared": bool(undeclared),
        "elsewhere": bool(undeclared) and not any(hosts.get(host, (0, 0))[1] for host in undeclared),
        "is_single": _ONE_WORD.fullmatch(text) is not None,
    }
