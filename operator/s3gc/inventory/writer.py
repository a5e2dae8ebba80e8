"""One range's objects to one Parquet file, a few megabytes at a time, so that memory stays bounded by the ranges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3gc.inventory.problems import INVENTORY_SCHEMA, with_problems

__all__ = ["RangeWriter"]

#: Rows are buffered up to this size in memory; one row group each.
_FLUSH_BYTES = 4 * 1024 * 1024


class RangeWriter:
    """Writes batches of OBJECTS_SCHEMA as INVENTORY_SCHEMA to `path`, which exists only if there were rows and after
    :meth:`close`. `rows` and `bytes` are the objects and their sizes.

    LZ4: twice the size of zstd at its fastest (40 bytes an object) for half of the CPU, and these files live for one
    cycle. Judged and encoded many pages at a time, in a thread and without the GIL.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.bytes = 0
        self._buffer: list[pa.RecordBatch] = []
        self._buffered_bytes = 0
        self._writer: pq.ParquetWriter | None = None

    async def add(self, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self.rows += rows.num_rows
        self._buffer.append(rows)
        self._buffered_bytes += rows.nbytes
        if self._buffered_bytes >= _FLUSH_BYTES:
            await self._flush()

    async def close(self) -> None:
        await self._flush()
        if self._writer is not None:
            await _to_its_end(self._writer.close)
            self._writer = None

    def discard(self) -> None:
        """Give up: close the file descriptor and remove what was written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.path.unlink(missing_ok=True)

    async def _flush(self) -> None:
        if not self._buffer:
            return
        ready, self._buffer, self._buffered_bytes = self._buffer, [], 0
        await _to_its_end(self._write, ready)

    def _write(self, ready: list[pa.RecordBatch]) -> None:
        rows = pa.concat_batches(ready)
        self.bytes += pc.sum(rows.column("size")).as_py()
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self.path, INVENTORY_SCHEMA, compression="lz4",
                use_dictionary=["storage_class", "problem"], write_statistics=["key"],
                column_encoding=None,
            )  # fmt: skip
        self._writer.write_batch(with_problems(rows), rows.num_rows)


async def _to_its_end(call: Callable[..., object], *arguments: object) -> None:
    """Run `call` in a thread; a cancellation waits for it. Else the writer would be closed, and the file removed, under
    a thread that is still writing: Arrow's writer is not made for two threads."""
    task = asyncio.create_task(asyncio.to_thread(call, *arguments))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():  # milliseconds: one row group
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        raise
