"""Does a column that nobody declared name an object in the plan? The commonest real loss is the column
added last week.

A source gives a sample of every text or JSON column that the policy neither declares nor ignores; the
samples go past the full rules with the plan's keys in a matcher, a bounded chunk of keys at a time. A hit
is never waved through by an approval: the way on is to say what the column is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s3gc.config import ReferenceFormat, S3GCConfig
from s3gc.exceptions import redact
from s3gc.plan.duck import open_session
from s3gc.plan.fullrules import CHUNK_KEYS, Fed, match_chunks
from s3gc.plan.guards import UndeclaredHit
from s3gc.references.reader import texts_of
from s3gc.references.types import ColumnSpec, PrefixReference, Source, SourcePreflight

__all__ = ["find_undeclared"]

#: Hits kept; a person needs the columns and a few keys, not all of them.
_HITS = 1_000
_SHOWN = 200
_SCHEMA = pa.schema([("place", pa.int32()), ("value", pa.string()), ("is_prefix", pa.bool_())])


@dataclass(frozen=True, slots=True)
class _Samples:
    specs: tuple[ColumnSpec, ...]
    path: Path

    def values(self) -> Iterator[Fed]:
        for batch in pq.ParquetFile(self.path).iter_batches(batch_size=5_000):
            rows = zip(*(batch.column(place).to_pylist() for place in range(3)), strict=True)
            for place, group in groupby(rows, key=lambda row: row[0]):
                yield self.specs[place], [PrefixReference(v) if flag else v for _, v, flag in group]


async def find_undeclared(
    sources: Sequence[Source],
    preflights: Sequence[SourcePreflight],
    plan: Path,
    work: Path,
    *,
    config: S3GCConfig,
    limit: int = 1000,
    chunk_keys: int = CHUNK_KEYS,
) -> list[UndeclaredHit]:
    """Return the undeclared columns that name objects of `plan` (Parquet with `key`), one hit a key, at
    most 1,000.

    `limit` is the number of values sampled a column. Memory is one chunk of keys and one column's sample.
    Raises what the sources raise: a sample that cannot be taken is a source that failed.
    """
    if not pq.ParquetFile(plan).metadata.num_rows:
        return []
    samples = await _sample(sources, preflights, work, limit)
    if not samples.specs:
        return []
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(_match, samples, plan, work, config, chunk_keys, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _sample(
    sources: Sequence[Source], preflights: Sequence[SourcePreflight], work: Path, limit: int
) -> _Samples:
    await asyncio.to_thread(work.mkdir, parents=True, exist_ok=True)
    path = work / "undeclared.parquet"
    specs: list[ColumnSpec] = []
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for source, preflight in zip(sources, preflights, strict=True):
            if not preflight.columns:
                continue
            # What the declared columns say about this source's keys holds for the others as well.
            rules = preflight.columns[0].rules
            prefixes = tuple(
                dict.fromkeys(p for column in preflight.columns for p in column.rules.key_prefixes)
            )
            rules = replace(rules, key_prefixes=prefixes)
            async for label, values in source.undeclared(limit):
                texts = [
                    (len(specs), text, isinstance(value, PrefixReference))
                    for value in values
                    if value is not None
                    for text in texts_of(value)
                ]
                specs.append(ColumnSpec(source.name, len(specs), label, ReferenceFormat.AUTO, rules))
                arrays = [
                    pa.array([text[side] for text in texts], field.type) for side, field in enumerate(_SCHEMA)
                ]
                await asyncio.to_thread(writer.write_batch, pa.record_batch(arrays, schema=_SCHEMA))
    return _Samples(tuple(specs), path)


def _match(
    samples: _Samples, plan: Path, work: Path, config: S3GCConfig, chunk_keys: int, stop: threading.Event
) -> list[UndeclaredHit]:
    hits: list[UndeclaredHit] = []
    with open_session(work, memory_limit_mb=config.memory_limit_mb, stop=stop) as session:
        for matcher in match_chunks(session, plan, samples.specs, samples.values, chunk_keys=chunk_keys):
            for key, hit in matcher.referenced.items():
                if len(hits) >= _HITS:
                    return hits
                hits.append(
                    UndeclaredHit(hit.column.source, hit.column.label, key, redact(hit.value)[:_SHOWN])
                )
    return hits
