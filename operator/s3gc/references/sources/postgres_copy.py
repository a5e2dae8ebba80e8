"""COPY … TO STDOUT as a bounded, provably complete stream of text rows.

COPY in text format is the cheapest way out of the server, and its status line tells how many rows it sent. A
stream that ends before that line, or with another number, raises: a short read of references deletes live data.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence

import asyncpg

from s3gc.exceptions import SourceError

__all__ = ["NULL", "copy_rows", "unescape"]

#: How COPY writes NULL; no value looks like it, because a value's backslash is doubled.
NULL = "\\N"

#: Chunks (of up to some 256 KiB each) between the socket and the reader; when it is full the socket waits.
_CHUNKS = 8
#: A batch is handed on when it holds this much text, however few rows that are.
_BATCH_CHARACTERS = 4 * 1024 * 1024

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_MEANS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def unescape(field: str) -> str:
    """Undo COPY's escapes (PostgreSQL manual, COPY, "Text Format"; only what the server itself writes)."""
    return _ESCAPE.sub(lambda match: _MEANS.get(match[1], match[1]), field)


async def copy_rows(
    connection: asyncpg.Connection,
    select: str,
    *,
    batch: int,
    idle_seconds: float,
    what: str,
    encoding: str = "UTF8",
) -> AsyncIterator[Sequence[str]]:
    """Yield batches of the lines that COPY sends for `select`: still escaped, without their line ends.

    Memory is bounded by a few chunks and one batch, whatever the table's size (one value is always whole).
    `encoding` SQL_ASCII takes bytes as they are; what is no UTF-8 arrives as surrogates (PEP 383).
    Raises SourceError when the stream is short or silent for `idle_seconds`, and what asyncpg raises.
    Closing the iterator early cancels the statement on the server.
    """
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS)

    async def copy() -> str:
        try:
            status: str = await connection.copy_from_query(
                select, output=chunks.put, format="text", encoding=encoding
            )
            return status
        finally:
            # The reader takes what is there before it looks at this; a full queue is being emptied by it.
            if not closing:
                await chunks.put(None)

    closing = False
    task = asyncio.ensure_future(copy())
    rows = 0
    try:
        lines = _Lines()
        ready: list[str] = []
        size = 0
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    chunk = await chunks.get()
            except TimeoutError:
                raise SourceError(f"reading {what}: nothing arrived for {idle_seconds:.0f} s") from None
            if chunk is None:
                break
            found = lines.feed(chunk)
            ready += found
            size += len(chunk)
            while len(ready) >= batch or (ready and size >= _BATCH_CHARACTERS):
                part, ready = ready[:batch], ready[batch:]
                rows += len(part)
                size = 0  # what is left came with the last chunk
                yield part
        status = await task  # raises what cut the stream off
        if ready:
            rows += len(ready)
            yield ready
        # Both must hold: the last line was ended, and the server counts what we counted.
        if lines.pending or status != f"COPY {rows}":
            raise SourceError(f"reading {what}: the server says {status!r}, but {rows:,} rows arrived")
    finally:
        closing = True
        if not task.done():
            task.cancel()
        with contextlib.suppress(
            asyncio.CancelledError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError
        ):
            await task


class _Lines:
    """Puts lines together from chunks that end anywhere, also in the middle of a character."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    @property
    def pending(self) -> bool:
        return bool(self._parts)

    def feed(self, chunk: bytes) -> list[str]:
        end = chunk.rfind(b"\n") + 1
        if end == 0:
            self._parts.append(chunk)  # one long value: joined once, when its end is there
            return []
        text = b"".join([*self._parts, chunk[:end]]).decode("utf-8", "surrogateescape")
        self._parts = [chunk[end:]] if end < len(chunk) else []
        # Only "\n" ends a row: COPY escapes it, and splitlines() would also split at other characters.
        lines = text.split("\n")
        lines.pop()
        return lines
