"""Reads what the databases point at: once into files for the join, and again past a matcher for verification.

Stands between `references.sources` (which know dialects) and `plan` (which knows objects). A value is
written down as text, with the shape of that text (`shapes`), and nothing else is decided here: extraction
belongs to `references.extract`, so that a file can be joined again under other rules. The one thing that
must not go wrong is *losing a value*, so whatever cannot be text is written in every spelling that its
bytes could have meant, and a source that ends early raises instead of leaving a short file.

Files: Parquet, one or more a column, with `READ_SCHEMA`. Rows that belong to one value share its `row`;
only the first of them has `is_extra = false`, so counts over `not is_extra` are counts of values.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from s3gc.exceptions import SourceError
from s3gc.references.columnfile import READ_SCHEMA, ColumnFile
from s3gc.references.encodings import record_strings
from s3gc.references.encodings import texts_of as spelled_texts
from s3gc.references.types import ColumnSpec, Snapshot, Source, SourcePreflight

if TYPE_CHECKING:
    from s3gc.references.matcher import Hit

__all__ = ["READ_SCHEMA", "ReadColumn", "read_references", "rescan", "texts_of", "texts_to_match"]

#: Databases read side by side; each is one connection, and a person sized their pools without us in mind.
_SOURCES_AT_ONCE = 4
#: Hex spellings are only made of values that could be (part of) a key: a key has at most 1,024 bytes.
_HEX_BYTES = 1024

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One column as it was read. `values` counts non-NULL values, not rows of `files`.

    `heads` counts them by the beginnings (``https://host:port/``) of those that are plain addresses; None: too many.
    """

    spec: ColumnSpec
    files: tuple[Path, ...]
    values: int
    heads: Mapping[str, int] | None = None


def texts_of(value: object) -> tuple[str, ...]:
    """Return every text that `value` could stand for; the first is the value itself as people would read it.

    Text is only itself. Bytes are UTF-8 with what does not decode marked, and, where that is in doubt, also
    Latin-1, hex and (16 bytes) the UUID. Every text is valid Unicode without surrogates, as Parquet and
    DuckDB demand. The type of a `PrefixReference` is not kept: ask it before.
    """
    if isinstance(value, str):
        plain = str(value)
        try:
            plain.encode("utf-8")
        except UnicodeEncodeError:
            # Surrogates: bytes that a driver smuggled through a str (PEP 383), or halves of a UTF-16 pair.
            try:
                data = plain.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                joined = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                return (joined, plain.encode("utf-8", "replace").decode("utf-8"))
            return _texts_of_bytes(data)
        return (plain,)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _texts_of_bytes(bytes(value))
    if isinstance(value, (dict, list, tuple, set)):
        data_ = list(value) if isinstance(value, (tuple, set)) else value
        return texts_of(json.dumps(data_, ensure_ascii=False, default=str))
    return tuple(dict.fromkeys(text for spelled, _ in spelled_texts(value) for text in texts_of(spelled)))


def _texts_of_bytes(data: bytes) -> tuple[str, ...]:
    try:
        text = data.decode("utf-8")
        if not _CONTROLS.search(text) and len(data) != 16 and not record_strings(data):
            return (text,)
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    texts = [text]
    # All that the extractor makes of bytes: once they are text in a file, it cannot ask any more.
    texts += [spelled for spelled, _ in spelled_texts(data)]
    # Serialised records put a length byte or a NUL beside a string; as line breaks they separate tokens.
    latin = data.decode("latin-1")
    texts += [latin, _CONTROLS.sub("\n", text), _CONTROLS.sub("\n", latin)]
    if b"\0" in data:
        texts += [data.decode(codec, "replace") for codec in ("utf-16-le", "utf-16-be")]
    if len(data) <= _HEX_BYTES:
        texts += [data.hex(), "\\x" + data.hex()]
    return tuple(dict.fromkeys(text.encode("utf-8", "replace").decode() for text in texts))


async def read_references(
    sources: Sequence[Source],
    preflights: Sequence[SourcePreflight],
    work: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[ReadColumn]:
    """Read every column of every source into Parquet files under `work`; call it after the listing ended.

    One snapshot a database, shared by all its columns, so a row that moves between two tables is seen in
    one of them. `preflights` are those of `sources`, in the same order. `progress` gets the number of
    values read so far, in all. Returns the columns in the order of the sources and their columns. Memory is
    bounded by one batch a source. Raises what the source raises (SourceError when it was cut off); nothing
    may be concluded from files left by an error.
    """
    if len(sources) != len(preflights):
        raise ValueError("read_references needs one preflight a source")
    await asyncio.to_thread(work.mkdir, parents=True, exist_ok=True)
    seen = [0] * len(sources)

    async def read(number: int) -> list[ReadColumn]:
        columns: list[ReadColumn] = []
        async with sources[number].snapshot() as snapshot:
            for place, spec in enumerate(preflights[number].columns):
                path = work / f"references-{number:03d}-{place:04d}.parquet"
                before = seen[number]

                def report(values: int, before: int = before) -> None:
                    seen[number] = before + values
                    if progress is not None:
                        progress(sum(seen))

                columns.append(await _read_column(snapshot, spec, path, report))
        return columns

    parts = await _side_by_side([_bound(read, number) for number in range(len(sources))], _SOURCES_AT_ONCE)
    return [column for part in parts for column in part]


async def _read_column(
    snapshot: Snapshot, spec: ColumnSpec, path: Path, report: Callable[[int], None]
) -> ReadColumn:
    out = await asyncio.to_thread(ColumnFile, path, texts_of)
    writing: asyncio.Future[None] | None = None
    try:
        async for batch in snapshot.values(spec):
            # One batch is written while the next one arrives; never two at once.
            if writing is not None:
                await asyncio.shield(writing)
                report(out.values)
            writing = asyncio.ensure_future(asyncio.to_thread(out.add, batch))
        if writing is not None:
            await asyncio.shield(writing)
            report(out.values)
    except BaseException:
        # Also on cancellation: the caller must never find a file that looks whole.
        if writing is not None:
            await asyncio.wait([writing])  # Arrow's writer is not made for two threads
        await asyncio.shield(asyncio.to_thread(out.close, complete=False))
        raise
    await asyncio.to_thread(out.close, complete=True)
    return ReadColumn(spec=spec, files=(path,), values=out.values, heads=out.heads)


async def rescan(
    sources: Sequence[Source],
    preflights: Sequence[SourcePreflight],
    keys: Sequence[str],
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Hit]:
    """Read all references again and return which of `keys` they name: key -> the first hit.

    The full generous rules, in one snapshot a database. `keys` are held in memory: a group of a sweep or
    the deleted keys of a cycle, not a plan. `progress` gets the number of values read so far, in all.
    Raises as `read_references`; an answer is returned only if every source was read to its end, or every
    key was found to be referenced before.
    """
    if len(sources) != len(preflights):
        raise ValueError("rescan needs one preflight a source")
    if not keys:
        return {}
    from s3gc.references.matcher import (
        Matcher,
    )  # imported late: the matcher is heavy, and a dry run needs no rescan

    specs = [spec for preflight in preflights for spec in preflight.columns]
    if not specs:
        raise SourceError("no column is configured, so no key can be verified; nothing may be deleted")
    wanted = len(set(keys))
    matcher = await asyncio.to_thread(Matcher, keys, specs)
    turn = asyncio.Lock()  # a matcher serves one thread at a time
    count = 0

    async def read(number: int) -> None:
        nonlocal count
        async with sources[number].snapshot() as snapshot:
            for spec in preflights[number].columns:
                async for batch in snapshot.values(spec):
                    values = [item for value in batch if value is not None for item in texts_to_match(value)]
                    async with turn:
                        await asyncio.to_thread(matcher.feed, spec, values)
                    count += len(batch)
                    if progress is not None:
                        progress(count)
                    if len(matcher.referenced) >= wanted:
                        return  # all are kept; more reading could not change that

    await _side_by_side([_bound(read, number) for number in range(len(sources))], _SOURCES_AT_ONCE)
    return dict(matcher.referenced)


def texts_to_match(value: object) -> list[object]:
    """Return what a matcher is given for `value`: itself, and the further texts that a scan's files would
    have.

    So that a verification never sees less than the scan that made the plan.
    """
    texts = texts_of(value)
    if isinstance(value, str) and texts == (value,):
        return [value]  # also a PrefixReference, whose type says what it is
    return [value, *texts] if isinstance(value, (str, bytes, bytearray, memoryview)) else list(texts)


def _bound(function: Callable[[int], Awaitable[_T]], number: int) -> Callable[[], Awaitable[_T]]:
    return lambda: function(number)


async def _side_by_side(jobs: Sequence[Callable[[], Awaitable[_T]]], at_once: int) -> list[_T]:
    """Run `jobs`, at most `at_once` together; on an error cancel and await the others, then raise it."""
    room = asyncio.Semaphore(at_once)

    async def run(job: Callable[[], Awaitable[_T]]) -> _T:
        async with room:
            return await job()

    def started(coroutine: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        return asyncio.ensure_future(coroutine)

    tasks = [started(run(job)) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
