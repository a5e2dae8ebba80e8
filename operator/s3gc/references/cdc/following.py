"""One source followed through a cycle: all that was written since its scan began, ready to be asked about any key.

A value that was written once counts for every later question, so what the capture yields is kept, in a file of the
cycle's work folder: memory is that of the keys asked about, however much is written. An UPDATE of any other column
writes the same value again; the same again is not kept, so that a busy table makes questions no dearer. Between
questions a drain every half minute keeps the server from holding its log back for us. An error ends it for good: a
stream with a gap says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TextIO

from s3gc.exceptions import CDCError, S3GCError
from s3gc.references.cdc.types import Capture, Change
from s3gc.references.matcher import Hit, Matcher
from s3gc.references.reader import texts_to_match
from s3gc.references.types import ColumnSpec, PrefixReference

__all__ = ["Following", "read_again"]

#: How long the server may hold back its log while a scan or a back-up keeps us busy elsewhere.
IDLE_SECONDS = 30.0
_LINES = 2_000
#: Digests of what is in the file, some 10 MB; when they are as many they are forgotten, and only space is lost.
_REMEMBERED = 100_000


class Following:
    """The changes of one source since `begin`. For one event loop."""

    def __init__(self, source: str, columns: Sequence[ColumnSpec], capture: Capture, spool: Path) -> None:
        self._source = source
        self._columns = {column.index: column for column in columns}
        self._capture = capture
        self._spool = spool
        self._written: set[bytes] = set()
        self._turn = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._error: S3GCError | None = None
        self.changes = 0

    @property
    def left_over(self) -> list[ColumnSpec]:
        """The columns that the capture cannot follow."""
        return [self._columns[index] for index in sorted(self._capture.left_over)]

    @property
    def reason(self) -> str:
        """Why some columns are read again, or ""."""
        return read_again(list(self._columns.values()), self._capture)

    @property
    def largest_lag(self) -> int | None:
        """The most of its log that the server kept for this."""
        return self._capture.largest_lag

    @property
    def is_broken(self) -> bool:
        return self._error is not None

    async def begin(self) -> None:
        """Open the capture. The scan comes after this."""
        await self._capture.open()
        self._spool.parent.mkdir(parents=True, exist_ok=True)
        self._keeping = asyncio.create_task(self._keep_up(), name=f"changes of {self._source}")

    async def catch_up(self) -> None:
        """Take in everything that is committed now. Raises CDCError, and does so ever after."""
        async with self._turn:
            if self._error is not None:
                raise self._error
            try:
                async with aclosing(_closable(self._capture.drain())) as batches:
                    with self._spool.open("a", encoding="ascii") as file:
                        async for batch in batches:
                            await asyncio.to_thread(_write, file, batch, self._written)
                            self.changes += len(batch)
            except S3GCError as error:
                self._error = error
                raise
            except BaseException as error:  # cancelled half way: what was taken off the stream is lost
                self._error = CDCError(
                    f"source {self._source!r}: a drain of changes was cut off ({type(error).__name__})"
                )
                raise

    async def named(self, keys: Sequence[str]) -> dict[str, Hit]:
        """Which of `keys` was written to a followed column since `begin`: key -> the first hit."""
        if not keys or not self._spool.exists():
            return {}
        async with self._turn:  # a drain between questions may be writing the last line
            return await asyncio.to_thread(self._match, keys)

    def _match(self, keys: Sequence[str]) -> dict[str, Hit]:
        matcher = Matcher(keys, list(self._columns.values()))
        with self._spool.open(encoding="ascii") as file:
            while lines := list(_first(file, _LINES)):
                values: dict[int, list[object]] = {}
                for line in lines:
                    index, value = _read(line)
                    values.setdefault(index, []).append(value)
                for index, several in values.items():
                    matcher.feed(self._columns[index], several)
        return dict(matcher.referenced)

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            with contextlib.suppress(S3GCError):  # it is kept, and raised to whoever asks next
                await self.catch_up()

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        await self._capture.close()


def read_again(columns: Sequence[ColumnSpec], capture: Capture) -> str:
    """Which columns `capture` does not follow, and why; "" when it follows all."""
    labels = {column.index: column.label for column in columns}
    return "; ".join(
        f"{labels[index]} is read again ({why})" for index, why in sorted(capture.left_over.items())
    )


async def _closable(changes: AsyncIterator[Sequence[Change]]) -> Any:
    """A capture's own generator, closed with this one whatever ends it."""
    try:
        async for batch in changes:
            yield batch
    finally:
        close = getattr(changes, "aclose", None)
        if close is not None:
            await close()


def _first(lines: Iterable[str], count: int) -> Iterator[str]:
    for _, line in zip(range(count), lines, strict=False):
        yield line


def _write(file: TextIO, batch: Sequence[Change], written_before: set[bytes]) -> None:
    """Append what is not there yet. An error half way ends the capture, so what is remembered is in the file."""
    for index, written in batch:
        value = bytes(written) if isinstance(written, (bytearray, memoryview)) else written
        # All that a scan's files would hold of it, so that the stream never sees less than the scan.
        for text in texts_to_match(value):
            kind = "p" if isinstance(text, PrefixReference) else "b" if isinstance(text, bytes) else "s"
            line = json.dumps([index, kind, text.hex() if isinstance(text, bytes) else str(text)]) + "\n"
            digest = hashlib.blake2b(line.encode(), digest_size=16).digest()
            if digest in written_before:
                continue
            if len(written_before) >= _REMEMBERED:
                written_before.clear()
            written_before.add(digest)
            file.write(line)
    file.flush()


def _read(line: str) -> tuple[int, object]:
    index, kind, text = json.loads(line)
    if kind == "b":
        return index, bytes.fromhex(text)
    return index, PrefixReference(text) if kind == "p" else text
