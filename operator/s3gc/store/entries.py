"""The entries of one listing page as columns, cut out of the bytes.

A full XML parser costs fifty times as much a key as the network, so the bytes are split at every ``</`` in one go
and the pieces are read as columns: the first entry says in which order this store writes its elements, and then
*every* piece of *every* entry must begin exactly as that order says. A page of which one entry differs (or that
holds anything unexpected in a value) is not read here; `listing` then asks a real parser. So the quick way can
decline a page, and never misread one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ELEMENTS", "Columns", "cut_entries", "data_of"]

#: The elements of an entry that are read, in the order of the fields of `Columns`.
ELEMENTS = ("Key", "LastModified", "ETag", "Size", "StorageClass")
_NAMES = tuple(name.encode() for name in ELEMENTS)

_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
_CHILD = re.compile(rb"<([A-Za-z0-9]+)>[^<]*</")
#: AWS writes these for objects that have a checksum and leaves them out for the others of the same page.
_CHECKSUMS = re.compile(rb"(?:<(Checksum(?:Algorithm|Type))>[^<]*+</\1>)++")
#: A page has a few spellings of them: each algorithm, each type.
_MAX_SPELLINGS = 16
#: How stores write the quotes of an ETag.
_QUOTES = (b"&quot;", b"&#34;", b'"', b"")
#: `binary_slice` wants an end; no value of a page is as long as this.
_FAR = 1 << 30


@dataclass(frozen=True, slots=True)
class Columns:
    """One value an entry, as bytes: keys as they are in the document, ETags without their quotes."""

    keys: pa.BinaryArray
    modified: pa.BinaryArray
    etags: pa.BinaryArray
    sizes: pa.BinaryArray
    classes: pa.BinaryArray

    @classmethod
    def of(cls, columns: Sequence[Sequence[bytes]]) -> Columns:
        return cls(*(pa.array(column, pa.binary()) for column in columns))


def cut_entries(body: bytes) -> tuple[Columns | None, bytes]:
    """The columns of all entries, and the document without them; None and the whole document where the page is not
    written alike from its first entry to its last.
    """
    first = body.find(_OPEN)
    last = body.rfind(_CLOSE) + len(_CLOSE)
    if first < 0 or last < first:
        return None, body
    columns = _cut(body, first, last)
    if columns is None and b"<Checksum" in body:
        section = _without_checksums(body[first:last])
        columns = _cut(section, 0, len(section))
    if columns is None:
        return None, body
    return columns, body[:first] + body[last:]


def _without_checksums(section: bytes) -> bytes:
    """What is taken out is whole children of text alone, by name: no entry and no part of one."""
    for _ in range(_MAX_SPELLINGS):
        start = section.find(b"<Checksum")
        found = _CHECKSUMS.match(section, start) if start >= 0 else None
        if found is None:
            break
        section = section.replace(found.group(), b"")
    return section


def _cut(body: bytes, first: int, last: int) -> Columns | None:
    names = _CHILD.findall(body, first, body.find(_CLOSE, first) + 2)
    if any(names.count(name) != 1 for name in _NAMES):
        return None
    # Each entry is len(names) + 1 pieces: `Contents><Contents><Key>a`, `Key><LastModified>…`, …, `StorageClass>`.
    offsets = pa.py_buffer(struct.pack("<ii", first, last))
    section = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(body)])
    pieces = pc.split_pattern(section, "</").values
    stride = len(names) + 1
    count, rest = divmod(len(pieces), stride)
    if rest != 1 or pieces[-1].as_py() != b"Contents>":
        return None
    if _differ(pc.equal(pieces.take(_every(count, stride, len(names))), names[-1] + b">"), count):
        return None
    values: dict[bytes, pa.BinaryArray] = {}
    for number, name in enumerate(names):
        column = pieces.take(_every(count, stride, number))
        before = names[number - 1] if number else b"Contents><Contents"
        value = _value(column, before + b"><" + name + b">", name, is_first=not number)
        # A `<` in a value is an element, a comment or a CDATA section: not for this reader.
        if value is None or b"<" in data_of(value):
            return None
        values[name] = value
    etags = data_of(values[b"ETag"])
    if b"&" in etags or b'"' in etags:
        return None
    return Columns(*(values[name] for name in _NAMES))


def _value(column: pa.BinaryArray, prefix: bytes, name: bytes, *, is_first: bool) -> pa.BinaryArray | None:
    """What follows `prefix` in every piece; None where one does not begin with it.

    Pieces of the first child hold the boundary between two entries, but for the first entry's.
    """
    if is_first:
        head = _value(column[:1], prefix.removeprefix(b"Contents>"), name, is_first=False)
        tail = _value(column[1:], prefix, name, is_first=False)
        return None if head is None or tail is None else pa.concat_arrays([head, tail])
    quotes = _QUOTES if name == b"ETag" else (b"",)
    for quote in quotes:
        if _differ(pc.starts_with(column, (prefix + quote).decode()), len(column)):
            continue
        if quote and _differ(pc.ends_with(column, quote.decode()), len(column)):
            return None
        return pc.binary_slice(column, len(prefix + quote), -len(quote) or _FAR)
    return None


@lru_cache(maxsize=64)
def _every(count: int, stride: int, offset: int) -> pa.Int32Array:
    """The places of one column's pieces: nearly all pages have the same number of entries, of the same kind."""
    return pa.array(range(offset, count * stride, stride), pa.int32())


def _differ(same: pa.BooleanArray, count: int) -> bool:
    return int(same.true_count) != count


def data_of(values: pa.BinaryArray | pa.StringArray) -> bytes:
    """All values one after another (of a slice: also those around it), to look for a byte in all of them at once."""
    buffer = values.buffers()[2]
    return b"" if buffer is None else bytes(buffer.to_pybytes())
