"""The objects and rows that every benchmark uses: keys that Python, SQL and a shell make alike, from a number.

Key number `i` is 60 bytes, in order of `i`: ``tenants/00002a/uploads/00034567-<24 hex digits>.jpg``. One key in ten is
an orphan (no row names it), and as many rows name an object that is not there, so that a join has work on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import overload

KEY_BYTES = 60
OLD = "2024-03-01T00:00:00.000Z"
CDN = "https://cdn.shop.example/media/"


def key(i: int) -> str:
    return f"tenants/{i // 5000:06x}/uploads/{i:08x}-{hashlib.md5(str(i).encode()).hexdigest()[:24]}.jpg"


def is_orphan(i: int) -> bool:
    return i % 10 == 7


def orphans(count: int) -> int:
    """How many of the first `count` keys are orphans."""
    return (count + 2) // 10


class Keys(Sequence[bytes]):
    """The first `count` keys in order, made when asked for: ten million of them take no memory."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [key(i).encode() for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return key(index % self._count).encode()


def body(i: int, size: int = 8192) -> bytes:
    """Bytes of object `i`: each object's own, and as compressible as documents are (about 2.5 times)."""
    seed = hashlib.sha256(str(i).encode()).digest()
    words = b" ".join(WORDS[byte % len(WORDS)] for byte in _stream(seed, size // 3))
    return (seed.hex().encode() + words)[:size].ljust(size, b".")


def _stream(seed: bytes, length: int) -> Iterator[int]:
    block = seed
    while length > 0:
        yield from block[:length]
        length -= len(block)
        block = hashlib.sha256(block).digest()


WORDS = [hashlib.md5(str(n).encode()).hexdigest()[: 3 + n % 7].encode() for n in range(256)]

#: Key number `i` as PostgreSQL makes it; `i` is a column.
KEY_SQL = (
    "'tenants/' || lpad(to_hex(i / 5000), 6, '0') || '/uploads/' || lpad(to_hex(i), 8, '0') || '-' "
    "|| substr(md5(i::text), 1, 24) || '.jpg'"
)


def rows_sql(table: str, count: int, value: str) -> str:
    """SQL that fills `table` (id, value) with as many rows as there are objects.

    Rows of orphans name keys beyond the last object instead: `missing` references. `value` is SQL over `k`, the key.
    """
    return f"""
        CREATE UNLOGGED TABLE {table} (id bigint NOT NULL, value text);
        INSERT INTO {table} SELECT n, {value} FROM (
            SELECT n, {KEY_SQL} AS k FROM (
                SELECT n, CASE WHEN n % 10 = 7 THEN {count} + n / 10 ELSE n END AS i
                FROM generate_series(0, {count - 1}) AS n
            ) AS numbered
        ) AS keyed;
        ANALYZE {table};
    """
