"""The file that one column is read into: every text of every value, its shape, and the hosts of its addresses.

Written by `reader`, a few megabytes at a time, in a thread. Where a value is text, as nearly all are, this goes by
batches in Arrow; a value of another type, or with surrogates in it, is spelled out by itself (`texts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3gc.references.shapes import SHAPE_TYPE, Shape, shapes_of
from s3gc.references.types import PrefixReference

__all__ = ["READ_SCHEMA", "ColumnFile"]

#: One row a text: `row` numbers the column's values from 0; `is_extra` marks further spellings of the same
#: value; `shape` is the text's `shapes.Shape`, but ODD for prefix references and for values of several texts.
READ_SCHEMA = pa.schema(
    [
        ("value", pa.string()),
        ("is_prefix", pa.bool_()),
        ("row", pa.int64()),
        ("is_extra", pa.bool_()),
        ("shape", SHAPE_TYPE),
    ]
)
#: What is known before the shape is looked at: `is_single`, whether a text is all that its value means.
_BEFORE = pa.schema([*list(READ_SCHEMA)[:-1], ("is_single", pa.bool_())])

#: A row group is written when it holds this much text, so that a reader never needs more than about this at once.
_GROUP_BYTES = 4 * 1024 * 1024
_GROUP_ROWS = 65_536
#: Different beginnings of addresses (``https://host:port/``) that are counted; a column with more is not.
_MAX_HEADS = 1_000
#: Those that are compared in Arrow; others are cut out of each address by itself.
_COMMON_HEADS = 8


class ColumnFile:
    """Writes the values of one column. `values` counts them; `heads` counts the beginnings of its plain addresses,
    and is None when those are too many."""

    def __init__(self, path: Path, texts_of: Callable[[object], tuple[str, ...]]) -> None:
        self.path = path
        self.values = 0
        self.heads: dict[str, int] | None = {}
        self._texts_of = texts_of
        self._ready: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0
        self._writer = pq.ParquetWriter(
            path, READ_SCHEMA, compression="zstd", compression_level=1, use_dictionary=["shape"],
            column_encoding={"row": "DELTA_BINARY_PACKED"}, write_statistics=["is_prefix", "row", "is_extra", "shape"],
        )  # fmt: skip

    def add(self, batch: Sequence[object]) -> None:
        """Write down the next values; None among them is none."""
        if set(map(type, batch)) == {str}:
            try:
                texts = pa.array(batch, pa.string())
            except UnicodeEncodeError:
                pass  # surrogates: such a value has several texts
            else:
                rows = pa.arange(self.values, self.values + len(batch))
                no, yes = pa.repeat(False, len(batch)), pa.repeat(True, len(batch))
                self.values += len(batch)
                self._put(texts, no, rows, no, yes)
                return
        self._add_each(batch)

    def _add_each(self, batch: Sequence[object]) -> None:
        spelled: list[tuple[str, bool, int, bool, bool]] = []
        size = 0
        for value in batch:
            if value is None:
                continue
            is_prefix = isinstance(value, PrefixReference)
            texts = self._texts_of(value)
            is_single = len(texts) == 1 and not is_prefix
            for number, text in enumerate(texts):
                spelled.append((text, is_prefix, self.values, number > 0, is_single))
                size += len(text)
            self.values += 1
            if size >= _GROUP_BYTES:
                self._put_each(spelled)
                spelled, size = [], 0
        if spelled:
            self._put_each(spelled)

    def _put_each(self, spelled: Sequence[tuple[str, bool, int, bool, bool]]) -> None:
        columns = zip(*spelled, strict=True)
        self._put(*(pa.array(column, field.type) for column, field in zip(columns, _BEFORE, strict=True)))

    def _put(self, texts: pa.StringArray, *others: pa.Array) -> None:
        self._ready.append(pa.record_batch([texts, *others], schema=_BEFORE))
        self._rows += len(texts)
        self._bytes += texts.nbytes
        if self._bytes >= _GROUP_BYTES or self._rows >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._ready).combine_chunks()
            *columns, is_single = (column.chunk(0) for column in table.columns)
            odd = pa.scalar(Shape.ODD.value, SHAPE_TYPE)
            shapes = pc.if_else(is_single, shapes_of(columns[0]), odd)
            self._count_heads(columns[0], shapes)
            self._writer.write_batch(pa.record_batch([*columns, shapes], schema=READ_SCHEMA), self._rows)
        self._ready, self._rows, self._bytes = [], 0, 0

    def _count_heads(self, texts: pa.StringArray, shapes: pa.UInt8Array) -> None:
        if self.heads is None:
            return
        others = texts.filter(pc.greater_equal(shapes, Shape.ADDRESS.value))
        common = sorted(self.heads, key=self.heads.__getitem__, reverse=True)[:_COMMON_HEADS]
        while len(others) and common:
            others = self._count(others, common.pop(0))
        for _ in range(_COMMON_HEADS):
            if len(others):  # of what is left, the first one's is as good a guess as any
                others = self._count(others, _head(others[0].as_py()))
        for text in others.to_pylist():
            head = _head(text)
            self.heads[head] = self.heads.get(head, 0) + 1
        if len(self.heads) > _MAX_HEADS:
            self.heads = None

    def _count(self, texts: pa.StringArray, head: str) -> pa.StringArray:
        """Count the texts that begin with `head`; return the others."""
        starts = pc.starts_with(texts, head)
        if self.heads is not None and starts.true_count:
            self.heads[head] = self.heads.get(head, 0) + starts.true_count
        return texts.filter(pc.invert(starts))

    def close(self, *, complete: bool) -> None:
        """Seal the file; an incomplete one is removed: a short file of references deletes live data."""
        if complete:
            self._flush()
        self._writer.close()
        if not complete:
            self.path.unlink(missing_ok=True)


def _head(address: str) -> str:
    return address[: address.index("/", 8) + 1]
