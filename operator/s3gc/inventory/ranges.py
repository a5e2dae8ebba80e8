"""Cut prefixes into key ranges that are listed side by side, and cut them better next time.

Pages of one range must be asked for one after another, so a big bucket is as slow as its latency unless it is
listed in several places at once. The ranges of a prefix are (start, b1], (b1, b2], … (bn, end): whatever the
bounds are, each key falls in exactly one, because every store compares as we do, by UTF-8 bytes. Bounds only
decide how even the work is, so a bad guess costs time and never a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s3gc.store.bucket import Bucket
from s3gc.store.keys import is_escaped, key_bytes

__all__ = ["MAX_BOUNDS", "BoundSampler", "KeyRange", "cut", "discover", "outermost"]

MAX_BOUNDS = 256
#: Requests that a first run may spend on looking for bounds, over all prefixes.
_DISCOVERY_REQUESTS = 48
_DISCOVERY_DEPTH = 4


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys under `prefix` with start_after < key <= end_at (None: to the end of the prefix)."""

    prefix: str
    start_after: str = ""
    end_at: str | None = None

    def may_hold(self, prefix: str) -> bool:
        """Whether a key under `prefix` can lie in this range."""
        first, last = prefix.encode(), prefix.encode() + b"\xff"
        is_before = self.end_at is not None and self.end_at.encode() < first
        is_apart = not (self.prefix.startswith(prefix) or prefix.startswith(self.prefix))
        return not is_before and not is_apart and self.start_after.encode() < last


def outermost(prefixes: Sequence[str]) -> list[str]:
    """The prefixes sorted by bytes, none inside another; the empty one, the whole bucket, when there are none."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes) or {""}, key=str.encode):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def cut(prefixes: Sequence[str], bounds: Sequence[str]) -> list[KeyRange]:
    """Every range of every (outermost) prefix, in key order: together exactly the prefixes, none overlapping."""
    usable = sorted({bound for bound in bounds if _is_usable(bound)}, key=str.encode)
    ranges: list[KeyRange] = []
    for prefix in outermost(prefixes):
        start = ""
        for bound in usable:
            if bound.startswith(prefix) and bound != prefix:
                ranges.append(KeyRange(prefix, start, bound))
                start = bound
        ranges.append(KeyRange(prefix, start))
    return ranges


async def discover(bucket: Bucket, prefixes: Sequence[str], wanted: int) -> tuple[str, ...]:
    """Look for about `wanted` bounds through "folders" (Delimiter='/'), level by level, in a few requests.

    A bucket without folders gives none: its first listing is one range, and its next one has bounds of its
    own.
    """
    level = outermost(prefixes)
    found: set[str] = set()
    requests = 0
    for _ in range(_DISCOVERY_DEPTH):
        below: list[str] = []
        for prefix in level:
            if requests == _DISCOVERY_REQUESTS:
                break
            requests += 1
            below += [
                child for child in await bucket.common_prefixes(prefix, max_pages=1) if _is_usable(child)
            ]
        found.update(below)
        if len(found) >= wanted or not below or requests == _DISCOVERY_REQUESTS:
            break
        level = below
    return thin(sorted(found, key=str.encode), wanted)


def thin(values: Sequence[str], wanted: int) -> tuple[str, ...]:
    """At most `wanted` of `values`, evenly spread."""
    if len(values) <= wanted:
        return tuple(values)
    return tuple(values[(index + 1) * len(values) // (wanted + 1)] for index in range(wanted))


def _is_usable(bound: str) -> bool:
    return bool(bound) and not is_escaped(bound) and "\ufffd" not in bound


class BoundSampler:
    """Keeps keys that lie evenly (by number of objects) in the whole listing, in bounded memory.

    Fed with the last key of every page and its number of rows; when it holds too many it forgets every other
    one.
    """

    def __init__(self, limit: int = 4 * MAX_BOUNDS) -> None:
        self._limit = limit
        self._step = 1000
        self._since: dict[int, int] = {}
        self._keys: list[str] = []

    def add(self, range_number: int, last_key: str, rows: int) -> None:
        count = self._since.get(range_number, 0) + rows
        if count >= self._step and _is_usable(last_key):
            self._keys.append(last_key)
            count = 0
            if len(self._keys) >= self._limit:
                self._keys = sorted(self._keys, key=key_bytes)[::2]
                self._step *= 2
        self._since[range_number] = count

    def bounds(self, objects: int) -> tuple[str, ...]:
        """Bounds for the next listing: a range for every 10,000 objects, at most MAX_BOUNDS of them.

        Shorter ranges would cost more than they save: the last page of each reaches past its end and is read in vain.
        """
        wanted = min(MAX_BOUNDS, objects // 10_000)
        return thin(sorted(self._keys, key=key_bytes), wanted) if wanted else ()
