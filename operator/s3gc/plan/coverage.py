"""What each column contributed: the way to see a wrong column, format or bucket before anything is deleted.

Values that a plain spelling resolved are counted exactly, in DuckDB. The rest of a column goes through the
full rules here, up to `sample_values` of it; a longer rest is judged by an even sample and extrapolated,
and says so (`approximate`). Nothing in coverage decides about an object; the guards read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.config import RESERVED_PREFIX, S3GCConfig
from s3gc.exceptions import redact
from s3gc.plan.duck import Session, table_of
from s3gc.plan.spellings import hosts_in, is_declared_host
from s3gc.references.extract import extract
from s3gc.references.reader import ReadColumn
from s3gc.references.types import ColumnSpec, Extraction, PrefixReference
from s3gc.results import ColumnCoverage

__all__ = ["Missing", "measure"]

#: Undeclared hosts kept of one column: the most frequent ones.
_HOSTS = 50
_SAMPLES = 5
_SAMPLE_LENGTH = 200
_KEY_BYTES = 1024
#: What makes a presigned URL one that can be used.
_SIGNATURE = re.compile(
    r"(?i)\b(signature|x-amz-signature|x-amz-security-token|x-amz-credential|sig)=[^&\s\"']+"
)
#: A value that is one address, not a document with several.
_ONE_WORD = re.compile(r"""\s*[^\s"'<>{}\[\]]+\s*""")
_LOOKUP = pa.schema([("col", pa.int32()), ("row", pa.int64()), ("key", pa.string())])


@dataclass(frozen=True, slots=True)
class Missing:
    """Values whose object is missing, over all columns; `approximate` when a column's count is."""

    objects: int
    samples: tuple[str, ...]
    approximate: bool


@dataclass(slots=True)
class _Rest:
    """The values of one column that no plain spelling resolved, as far as they were looked at."""

    seen: int = 0
    resolved: int = 0
    missing: int = 0
    elsewhere: int = 0  # on undeclared hosts without a single hit: not ours, as far as anybody can tell
    outside: int = 0
    unparsed: int = 0
    other_bucket: int = 0
    foreign: int = 0
    ignored: int = 0
    unparsed_samples: list[str] = field(default_factory=list)
    missing_samples: list[str] = field(default_factory=list)


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

    def whole(count: int) -> int:
        return round(count * factor)

    found = resolved + whole(rest.resolved)
    return ColumnCoverage(
        source=column.spec.source,
        column=column.spec.label,
        format=column.spec.format.value,
        values=column.values,
        references=min(
            column.values, found + whole(rest.missing) + whole(rest.elsewhere) + whole(rest.outside)
        ),
        resolved=min(column.values, found),
        missing=whole(rest.missing),
        unparsed=whole(rest.unparsed),
        other_bucket=whole(rest.other_bucket),
        foreign=whole(rest.foreign),
        outside=whole(rest.outside),
        ignored=whole(rest.ignored),
        approximate=rest.seen < unresolved,
        undeclared_hosts={host: values for host, (values, _) in hosts.items()},
        unparsed_samples=rest.unparsed_samples,
        missing_samples=rest.missing_samples,
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
        SELECT v.col, v.row, list(v.value ORDER BY v.is_extra) AS texts, bool_or(v.is_prefix) AS is_prefix
        FROM ({" UNION ALL ".join([nothing, *parts])}) v
        WHERE NOT EXISTS (SELECT 1 FROM {named} n WHERE n.col = v.col AND n.row = v.row)
        GROUP BY v.col, v.row""",
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
    """Apply the full rules to the sample; look the keys up in one join; count what each value came to."""
    rests = [_Rest() for _ in columns]
    reserved = (RESERVED_PREFIX, *left_out)
    scope = config.effective_prefixes
    lookups = work / "unresolved-keys.parquet"
    with pq.ParquetWriter(lookups, _LOOKUP, compression="zstd") as writer:
        for batch in pq.ParquetFile(sample).iter_batches(batch_size=1_000):
            session.check()
            cols: list[int] = []
            rows: list[int] = []
            keys: list[str] = []
            for item in batch.to_pylist():
                rest = rests[item["col"]]
                rest.seen += 1
                meaning = _extract_all(item["texts"], item["is_prefix"], columns[item["col"]].spec)
                if not _count_meaningless(rest, meaning, item["texts"][0]):
                    inside = [
                        key
                        for key in meaning.keys | meaning.prefixes
                        if key.startswith(scope) and not key.startswith(reserved)
                    ]
                    if not inside and not any(
                        start.startswith(tuple(meaning.prefixes or " ")) for start in scope
                    ):
                        if not _is_not_ours(rest, meaning, item["texts"][0]):
                            rest.outside += 1
                        continue
                    # The value waits under its first key, '' for none, until the join has answered.
                    names = [key for key in inside if len(key.encode()) <= _KEY_BYTES] or [""]
                    cols += [item["col"]] * len(names)
                    rows += [item["row"]] * len(names)
                    keys += names
            arrays = [pa.array(cols, pa.int32()), pa.array(rows, pa.int64()), pa.array(keys, pa.string())]
            writer.write_batch(pa.record_batch(arrays, schema=_LOOKUP))
    exists = work / "unresolved-found.parquet"
    session.copy(
        f"""
        SELECT col, row, bool_or(found) AS found FROM (
            SELECT k.col, k.row, o.key IS NOT NULL AS found
            FROM {table_of([lookups])} k LEFT JOIN (SELECT key FROM {listed}) o ON k.key = o.key
        ) GROUP BY col, row""",
        exists,
    )
    answers = work / "unresolved-answers.parquet"
    session.copy(
        f"""
        SELECT e.col, e.found, s.texts, s.is_prefix
        FROM {table_of([exists])} e JOIN {table_of([sample])} s ON e.col = s.col AND e.row = s.row
        ORDER BY e.col, e.row""",
        answers,
    )
    for batch in pq.ParquetFile(answers).iter_batches(batch_size=1_000):
        session.check()
        for item in batch.to_pylist():
            col = item["col"]
            _count_answer(
                rests[col], item["found"], item["texts"], item["is_prefix"], columns[col].spec, hosts[col]
            )
    return rests


def _count_answer(
    rest: _Rest,
    found: bool,
    texts: Sequence[str],
    is_prefix: bool,
    spec: ColumnSpec,
    hosts: Mapping[str, tuple[int, int]],
) -> None:
    if found:
        rest.resolved += 1
        return
    meaning = _extract_all(texts, is_prefix, spec)
    undeclared = meaning.undeclared_hosts
    if _is_not_ours(rest, meaning, texts[0]):
        return
    if undeclared and all(not hosts.get(host, (0, 0))[1] for host in undeclared):
        rest.elsewhere += 1
        return
    rest.missing += 1
    if len(rest.missing_samples) < _SAMPLES:
        rest.missing_samples.append(_shown(texts[0]))


def _is_not_ours(rest: _Rest, meaning: Extraction, text: str) -> bool:
    """Count a value that is, as a whole, an address of somebody else's; False when it could be ours.

    Its full extraction may still name keys (a proxy's parameters, the text itself); none of them exists. A
    document with several addresses is ours as long as one of them could be.
    """
    if meaning.ignored and not (meaning.foreign or meaning.other_bucket or meaning.undeclared_hosts):
        rest.ignored += 1
    elif _ONE_WORD.fullmatch(text) and meaning.other_bucket:
        rest.other_bucket += 1
    elif _ONE_WORD.fullmatch(text) and meaning.foreign:
        rest.foreign += 1
    else:
        return False
    return True


def _count_meaningless(rest: _Rest, meaning: Extraction, text: str) -> bool:
    """Count a value that names no key at all; False when it names one."""
    if meaning.keys or meaning.prefixes:
        return False
    if meaning.other_bucket:
        rest.other_bucket += 1
    elif meaning.foreign:
        rest.foreign += 1
    elif meaning.unparsed:
        rest.unparsed += 1
        if len(rest.unparsed_samples) < _SAMPLES:
            rest.unparsed_samples.append(_shown(text))
    else:
        rest.ignored += 1  # data:, mailto: and the like, and values of nothing but blanks
    return True


def _extract_all(texts: Sequence[str], is_prefix: bool, spec: ColumnSpec) -> Extraction:
    """Return what all spellings of one value mean together; unparsed only when every one of them is."""
    whole = Extraction()
    unparsed = True
    for text in texts:
        part = extract(PrefixReference(text) if is_prefix else text, spec.format, spec.rules)
        whole.keys |= part.keys
        whole.prefixes |= part.prefixes
        whole.undeclared_hosts |= part.undeclared_hosts
        whole.other_bucket += part.other_bucket
        whole.foreign += part.foreign
        whole.ignored = whole.ignored or part.ignored
        unparsed = unparsed and part.unparsed
    whole.unparsed = unparsed
    whole.keys.discard("")
    whole.prefixes.discard("")
    return whole


def _shown(text: str) -> str:
    shown = redact(_SIGNATURE.sub(r"\1=***", text))  # values of a database end up in reports and logs
    return shown if len(shown) <= _SAMPLE_LENGTH else shown[: _SAMPLE_LENGTH - 1] + "…"
