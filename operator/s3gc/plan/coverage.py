"""What each column contributed: the way to see a wrong column, format or bucket before anything is deleted.

Values that a plain spelling resolved are counted exactly, in DuckDB. The rest of a column goes through the
full rules here, up to `sample_values` of it; a longer rest is judged by an even sample and extrapolated,
and says so (`approximate`). Nothing in coverage decides about an object; the guards read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.config import RESERVED_PREFIX, S3GCConfig
from s3gc.exceptions import redact
from s3gc.plan.duck import Session, is_storable, table_of
from s3gc.plan.spellings import hosts_in, is_declared_host
from s3gc.references.extract import extract
from s3gc.references.reader import ReadColumn
from s3gc.references.types import Extraction, PrefixReference
from s3gc.results import ColumnCoverage

__all__ = ["Missing", "measure"]

#: Undeclared hosts kept of one column: the most frequent ones.
_HOSTS = 50
_SAMPLES = 5
_SAMPLE_LENGTH = 200
#: What makes a presigned URL one that can be used.
_SIGNATURE = re.compile(
    r"(?i)\b(signature|x-amz-signature|x-amz-security-token|x-amz-credential|sig)=[^&\s\"']+"
)
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


@dataclass(frozen=True, slots=True)
class Missing:
    """Values whose object is missing, over all columns; `approximate` when a column's count is."""

    objects: int
    samples: tuple[str, ...]
    approximate: bool


@dataclass(frozen=True, slots=True)
class _Rest:
    """The values of one column that no plain spelling resolved, as far as they were looked at, by what they
    are.

    `counts` maps resolved, missing, elsewhere (on undeclared hosts without a single hit: not ours, as far
    as anybody can tell), outside, unparsed, other_bucket, foreign and ignored to a number of values.
    """

    counts: Mapping[str, int]
    unparsed_samples: tuple[str, ...]
    missing_samples: tuple[str, ...]

    @property
    def seen(self) -> int:
        return sum(self.counts.values())


def measure(
    session: Session,
    listed: str,
    columns: Sequence[ReadColumn],
    hits: Sequence[Path],
    work: Path,
    *,
    config: S3GCConfig,
    left_out: Sequence[str],
    kept: Mapping[int, Mapping[str, int]],
    sample_values: int,
) -> tuple[tuple[ColumnCoverage, ...], Missing]:
    """Return the coverage of every column, in order, and what is missing over all of them.

    `listed` is the relation of all objects (whatever their verdict: a young object exists), `hits` what
    stage A found (`prefixes.HITS_SCHEMA`), `kept` what each column's prefixes keep.
    """
    if not columns:
        return (), Missing(0, (), False)
    resolved_rows = work / "resolved-rows.parquet"
    session.copy(
        f"SELECT DISTINCT col, row FROM {table_of(hits)} WHERE NOT derived AND col >= 0", resolved_rows
    )
    named = table_of([resolved_rows])
    counted = session.rows(f"SELECT col, count(*) FROM {named} GROUP BY col")
    resolved = {int(col): int(count) for col, count in counted}
    hosts = _hosts(session, columns, named)
    open_values = {number: column.values - resolved.get(number, 0) for number, column in enumerate(columns)}
    sample = _sample(session, columns, named, open_values, sample_values, work)
    rests = _judge_rest(session, listed, columns, sample, hosts, work, config=config, left_out=left_out)
    coverage = tuple(
        _column(
            column,
            resolved.get(number, 0),
            open_values[number],
            rests[number],
            hosts[number],
            kept.get(number, {}),
        )
        for number, column in enumerate(columns)
    )
    samples = [text for rest in rests for text in rest.missing_samples]
    return coverage, Missing(
        objects=sum(column.missing for column in coverage),
        samples=tuple(samples[: 4 * _SAMPLES]),
        approximate=any(column.approximate for column in coverage),
    )


def _column(
    column: ReadColumn,
    resolved: int,
    unresolved: int,
    rest: _Rest,
    hosts: Mapping[str, tuple[int, int]],
    kept: Mapping[str, int],
) -> ColumnCoverage:
    factor = unresolved / rest.seen if rest.seen else 1.0

    def whole(kind: str) -> int:
        return round(rest.counts.get(kind, 0) * factor)

    found = min(column.values, resolved + whole("resolved"))
    named = found + whole("missing") + whole("elsewhere") + whole("outside")
    return ColumnCoverage(
        source=column.spec.source,
        column=column.spec.label,
        format=column.spec.format.value,
        values=column.values,
        references=min(column.values, named),
        resolved=found,
        missing=whole("missing"),
        unparsed=whole("unparsed"),
        other_bucket=whole("other_bucket"),
        foreign=whole("foreign"),
        outside=whole("outside"),
        ignored=whole("ignored"),
        approximate=rest.seen < unresolved,
        undeclared_hosts={host: values for host, (values, _) in hosts.items()},
        unparsed_samples=list(rest.unparsed_samples),
        missing_samples=list(rest.missing_samples),
        prefix_kept=dict(kept),
    )


def _hosts(session: Session, columns: Sequence[ReadColumn], named: str) -> list[dict[str, tuple[int, int]]]:
    """Of each column: undeclared host -> (values with it, those of them that name an object)."""
    found: list[dict[str, tuple[int, int]]] = []
    for number, column in enumerate(columns):
        values = (
            f"SELECT row, value FROM {table_of(column.files)} WHERE NOT is_extra AND contains(value, '//')"
        )
        rows = session.rows(
            f"""
            SELECT host, count(*) AS n, count(h.row) AS hits
            FROM (SELECT row, unnest({hosts_in("value")}) AS host FROM ({values})) v
            LEFT JOIN (SELECT row FROM {named} WHERE col = {number}) h ON v.row = h.row
            WHERE host <> '' GROUP BY host ORDER BY n DESC, host LIMIT {_HOSTS * 4}"""
        )
        undeclared = [row for row in rows if not is_declared_host(row[0], column.spec.rules)]
        found.append({str(host): (int(values), int(hits)) for host, values, hits in undeclared[:_HOSTS]})
    return found


def _sample(
    session: Session,
    columns: Sequence[ReadColumn],
    named: str,
    unresolved: Mapping[int, int],
    size: int,
    work: Path,
) -> Path:
    """Write, of every column, the values that nothing resolved: all, or an even sample of about `size`."""
    parts: list[str] = []
    for number, column in enumerate(columns):
        if not unresolved[number]:
            continue
        # Rows are numbers in the order of reading; their hash spreads them evenly, and the same way every
        # time.
        share = min(1.0, size / unresolved[number])
        even = "" if share >= 1 else f"AND hash(row) % 1000000 < {max(1, int(share * 1_000_000))}"
        parts.append(
            f"SELECT {number}::INTEGER AS col, row, value, is_prefix, is_extra "
            f"FROM {table_of(column.files)} WHERE true {even}"
        )
    path = work / "unresolved.parquet"
    nothing = (
        "SELECT 0::INTEGER AS col, 0::BIGINT AS row, '' AS value, false AS is_prefix, false AS is_extra "
        "WHERE false"
    )
    session.copy(
        f"""
        SELECT v.*
        FROM ({" UNION ALL ".join([nothing, *parts])}) v
        WHERE NOT EXISTS (SELECT 1 FROM {named} n WHERE n.col = v.col AND n.row = v.row)""",
        path,
    )
    return path


def _judge_rest(
    session: Session,
    listed: str,
    columns: Sequence[ReadColumn],
    sample: Path,
    hosts: Sequence[Mapping[str, tuple[int, int]]],
    work: Path,
    *,
    config: S3GCConfig,
    left_out: Sequence[str],
) -> list[_Rest]:
    """Apply the full rules to the sample, look all keys up in one join, and count what each value came to.

    Texts go through Python once and are not carried along: what is said of them goes to files of flags and
    keys, which are put together again by (col, row), as one value may have several texts.
    """
    flags, lookups = work / "unresolved-flags.parquet", work / "unresolved-keys.parquet"
    scope, reserved = config.effective_prefixes, (RESERVED_PREFIX, *left_out)
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
    shown = session.rows(
        f"""
        SELECT s.col, k.kind, substr(s.value, 1, {2 * _SAMPLE_LENGTH})
        FROM {table_of([sample])} s JOIN (
            SELECT * FROM {table_of([kinds])} WHERE kind IN ('missing', 'unparsed')
            QUALIFY row_number() OVER (PARTITION BY col, kind ORDER BY row) <= {_SAMPLES}
        ) k ON s.col = k.col AND s.row = k.row
        WHERE NOT s.is_extra ORDER BY s.col, s.row"""
    )
    return [
        _Rest(
            counts={kind: count for col, kind, count in counted if col == number},
            unparsed_samples=_samples(shown, number, "unparsed"),
            missing_samples=_samples(shown, number, "missing"),
        )
        for number in range(len(columns))
    ]


def _samples(shown: Sequence[tuple[int, str, str]], number: int, kind: str) -> tuple[str, ...]:
    return tuple(_shown(text) for col, found, text in shown if (col, found) == (number, kind))


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


def _said(meaning: Extraction, text: str, hosts: Mapping[str, tuple[int, int]]) -> dict[str, object]:
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


def _shown(text: str) -> str:
    shown = redact(_SIGNATURE.sub(r"\1=***", text))  # values of a database end up in reports and logs
    return shown if len(shown) <= _SAMPLE_LENGTH else shown[: _SAMPLE_LENGTH - 1] + "…"
