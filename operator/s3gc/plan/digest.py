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

from s3gc.exceptions import S3GCError

__all__ = ["PlanDigest", "microseconds"]

_LENGTH = Struct(">I").pack
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since the epoch, exactly. A time without a zone is an error."""
    return (moment - _EPOCH) // _MICROSECOND


class PlanDigest:
    """Computes the digest while objects stream by in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._last: bytes | None = None

    def add(self, key: str, etag: str, size: int, last_modified: datetime) -> None:
        """Add the next object. Raises S3GCError unless its key is greater than the last one's.

        A key that comes twice would be one object planned twice; it means that the listing or the state is
        not what it should be, so nothing built on it may be swept.
        """
        name = key.encode()
        if self._last is not None and name <= self._last:
            raise S3GCError(
                f"the plan is not strictly sorted at key {key[:200]!r}; plan again, do not sweep it"
            )
        self._last = name
        tag = etag.encode()
        number = str(size).encode()
        time = str(microseconds(last_modified)).encode()
        parts = (name, tag, number, time)
        self._hash.update(b"".join(_LENGTH(len(part)) + part for part in parts))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
