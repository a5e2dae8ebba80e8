"""The digest that names a plan: what a person approves is exactly these objects and no others.

It is the SHA-256 over the plan's objects in ascending order of their keys' UTF-8 bytes. Each object
contributes four fields, each as a length (4 bytes, unsigned, big-endian) and that many bytes of UTF-8::

    key
    etag             without quotes
    size             decimal digits
    last_modified    decimal digits: microseconds since 1970-01-01T00:00:00Z

Lengths make it injective: no two different plans have the same bytes. An empty plan is the SHA-256 of
nothing. The text form is 64 hexadecimal digits in lower case. A test holds the bytes still, because digests
are stored in vaults and typed by people.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from struct import Struct

import pyarrow as pa
import pyarrow.compute as pc

from s3gc.exceptions import S3GCError

__all__ = ["PlanDigest", "microseconds"]

_LENGTH = Struct(">I").pack
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Fields of up to so many bytes are put together in Arrow: longer than any key.
_SHORT = 4096


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since the epoch, exactly. A time without a zone is an error."""
    return (moment - _EPOCH) // _MICROSECOND


class PlanDigest:
    """Computes the digest while objects stream by in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._last: bytes | None = None
        self._lengths = pa.array([_LENGTH(number) for number in range(_SHORT + 1)], pa.binary())

    def add(self, key: str, etag: str, size: int, last_modified: datetime) -> None:
        """Add the next object. Raises S3GCError unless its key is greater than the last one's.

        A key that comes twice would be one object planned twice; it means that the listing or the state is
        not what it should be, so nothing built on it may be swept.
        """
        name = key.encode()
        if self._last is not None and name <= self._last:
            raise _unsorted(key)
        self._last = name
        tag = etag.encode()
        number = str(size).encode()
        time = str(microseconds(last_modified)).encode()
        parts = (name, tag, number, time)
        self._hash.update(b"".join(_LENGTH(len(part)) + part for part in parts))

    def add_all(self, rows: pa.RecordBatch) -> None:
        """Add the next objects, rows of `key`, `etag`, `size` and `last_modified` (UTC, microseconds); none is null.

        The same bytes as by `add` of each, and the same errors.
        """
        keys = rows.column("key").cast(pa.binary())
        etags = rows.column("etag").cast(pa.binary())
        sizes, times = (
            rows.column(name).cast(pa.int64()).cast(pa.string()).cast(pa.binary())
            for name in ("size", "last_modified")
        )
        if not len(keys):
            return
        before = pa.array([self._last], pa.binary())
        last = pa.concat_arrays([before, keys.slice(0, len(keys) - 1)])
        is_sorted = pc.fill_null(pc.greater(keys, last), True)  # only the very first has nothing before it
        if not pc.all(is_sorted).as_py():
            raise _unsorted(rows.column("key")[pc.index(is_sorted, False).as_py()].as_py())
        self._last = keys[-1].as_py()
        parts: list[pa.Array] = []
        for column in (keys, etags, sizes, times):
            lengths = pc.binary_length(column)
            if pc.max(lengths).as_py() > _SHORT:
                prefixes = pa.array([_LENGTH(length) for length in lengths.to_pylist()], pa.binary())
            else:
                prefixes = self._lengths.take(lengths)
            parts += [prefixes, column]
        for joined in pc.binary_join_element_wise(*parts, b"").to_pylist():
            self._hash.update(joined)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _unsorted(key: str) -> S3GCError:
    return S3GCError(f"the plan is not strictly sorted at key {key[:200]!r}; plan again, do not sweep it")
