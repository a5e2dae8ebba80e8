"""Stage B of the join: the full, generous rules, only for the objects that no plain spelling names.

Those objects are held in a `Matcher` in chunks of bounded size, and the values stream past it, once a
chunk. Two things keep it affordable: only odd values come here, since of a plain one stage A has compared every
key with every object (`plain`); and the matcher looks at them by anchors before it applies the rules.

Columns of `format: key` are settled by stage A as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.config import ReferenceFormat
from s3gc.plan.duck import Session, table_of
from s3gc.plan.groups import OddValues
from s3gc.plan.plain import is_settled
from s3gc.plan.prefixes import PrefixHits, heads_join
from s3gc.references.derivatives import parents
from s3gc.references.matcher import Matcher
from s3gc.references.reader import ReadColumn
from s3gc.references.types import ColumnSpec, PrefixReference

__all__ = ["CHUNK_KEYS", "Fed", "FullHits", "find", "match_chunks"]

#: Keys that one matcher holds: some 150 MB. More chunks cost time, larger chunks cost memory.
CHUNK_KEYS = 250_000

#: A column and some of its values (str, or PrefixReference), as a matcher is fed.
Fed = tuple[ColumnSpec, Sequence[object]]

_KEYS = pa.schema([("key", pa.string())])
_PARENTS = pa.schema([("key", pa.string()), ("parent", pa.string())])
_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class FullHits:
    """`keys`: Parquet with the column `key`, perhaps with duplicates: what the full rules found."""

    keys: Path
    full_rule_calls: int


def find(
    session: Session,
    left: Path,
    columns: Sequence[ReadColumn],
    odd: Sequence[OddValues],
    work: Path,
    *,
    prefixes: PrefixHits,
    chunk_keys: int = CHUNK_KEYS,
    progress: Callable[[int], None] | None = None,
) -> FullHits:
    """Return which keys of `left` the values of `columns` reference by the full rules."""
    out = work / "named-by-full-rules.parquet"
    calls = 0
    with pq.ParquetWriter(out, _KEYS, compression="zstd") as writer:
        if pq.ParquetFile(left).metadata.num_rows:
            for path in _by_parents(session, left, columns, prefixes, work):
                for batch in pq.ParquetFile(path).iter_batches(columns=["key"]):
                    writer.write_batch(pa.record_batch([batch.column(0)], schema=_KEYS))
            unsettled = _unsettled(columns, odd)
            specs = list(dict.fromkeys(spec for spec, _ in unsettled))
            matchers = (
                match_chunks(
                    session, left, specs, lambda: _stream(unsettled), chunk_keys=chunk_keys, progress=progress
                )
                if unsettled
                else ()
            )
            for matcher in matchers:
                calls += matcher.full_rule_calls
                named = pa.array(list(matcher.referenced), pa.string())
                writer.write_batch(pa.record_batch([named], schema=_KEYS))
    return FullHits(keys=out, full_rule_calls=calls)


def _unsettled(columns: Sequence[ReadColumn], odd: Sequence[OddValues]) -> list[tuple[ColumnSpec, Path]]:
    """Return, a column, the files of the values that only the full rules can judge; there may be others in them.

    `prefixes` compared every prefix with every object; only what is derived from those is still open.
    """
    found: list[tuple[ColumnSpec, Path]] = []
    for column, values in zip(columns, odd, strict=True):
        spec = column.spec
        files: tuple[Path, ...] = ()
        if not is_settled(spec.rules):
            files = column.files
        elif spec.format is ReferenceFormat.KEY:
            files = values.files if spec.rules.derivatives else ()
        elif spec.format is ReferenceFormat.PREFIX:
            files = column.files if spec.rules.derivatives else ()
        else:
            files = values.files
        found += [(spec, path) for path in files]
    return found


def match_chunks(
    session: Session,
    keys: Path,
    specs: Sequence[ColumnSpec],
    values: Callable[[], Iterable[Fed]],
    *,
    chunk_keys: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Matcher]:
    """Yield, a chunk of the `keys` (Parquet: key), the matcher past which all `values()` went.

    Every chunk sees every value: a key that was not fed is a key that was not compared. `values` is called
    once a chunk and yields columns, of `specs`, with some of their values.
    """
    fed = 0
    for chunk in _chunks(keys, chunk_keys):
        matcher = Matcher(chunk, specs)
        for spec, some in values():
            session.check()
            matcher.feed(spec, some)
            fed += len(some)
            if progress is not None:
                progress(fed)
        yield matcher


def _stream(files: Sequence[tuple[ColumnSpec, Path]]) -> Iterator[Fed]:
    for spec, path in files:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH, columns=["value", "is_prefix"]):
            texts, flags = (batch.column(place).to_pylist() for place in range(2))
            yield (
                spec,
                [PrefixReference(text) if flag else text for text, flag in zip(texts, flags, strict=True)],
            )


def _chunks(path: Path, size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=min(size, 50_000), columns=["key"]):
        chunk += batch.column(0).to_pylist()
        while len(chunk) >= size:
            yield chunk[:size]
            chunk = chunk[size:]
    if chunk:
        yield chunk


def _by_parents(
    session: Session, left: Path, columns: Sequence[ReadColumn], prefixes: PrefixHits, work: Path
) -> list[Path]:
    """Files of keys that a template derives from a key under a prefix reference: they live with their
    parents.

    Only a short cut for templates that can be turned round; the matcher asks about every template again.
    """
    files: list[Path] = []
    if not prefixes.count:
        return files
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, column in enumerate(columns):
        if column.spec.rules.derivatives:
            groups.setdefault(column.spec.rules.derivatives, []).append(number)
    for place, (templates, numbers) in enumerate(groups.items()):
        mine = work / f"derived-prefixes-{place:03d}.parquet"
        of_group = f"col IN ({', '.join(map(str, numbers))})"
        if not session.copied(
            f"SELECT DISTINCT prefix FROM {table_of([prefixes.rows])} WHERE {of_group}", mine
        ):
            continue
        family = work / f"parents-{place:03d}.parquet"
        if not _write_parents(session, left, templates, family):
            continue
        relation = f"(SELECT parent AS key, key AS child FROM {table_of([family])})"
        for pairs in heads_join(session, relation, "child", mine, work):
            path = work / f"named-by-parents-{len(files):03d}.parquet"
            session.copy(f"SELECT DISTINCT child AS key FROM {table_of([pairs])}", path)
            files.append(path)
    return files


def _write_parents(session: Session, left: Path, templates: Sequence[str], out: Path) -> int:
    rows = 0
    with pq.ParquetWriter(out, _PARENTS, compression="zstd") as writer:
        for batch in pq.ParquetFile(left).iter_batches(batch_size=20_000, columns=["key"]):
            session.check()
            pairs = [
                (key, parent) for key in batch.column(0).to_pylist() for parent in parents(key, templates)
            ]
            if pairs:
                columns = [pa.array([pair[side] for pair in pairs], pa.string()) for side in range(2)]
                writer.write_batch(pa.record_batch(columns, schema=_PARENTS))
                rows += len(pairs)
    return rows
