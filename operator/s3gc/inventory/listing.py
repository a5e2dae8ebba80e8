"""The complete list of a scope's objects, as Parquet files in key order: complete, or ListingError.

Ranges of keys are listed side by side and streamed to one file each. Left out, and said so, is what belongs
to s3gc itself: `.s3gc/` in the bucket, and every prefix that holds a vault's sentinel, whoever's vault it is:
a vault's packs are referenced by no database, and collecting them would delete the only proof that everything
else can come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3gc.config import RESERVED_PREFIX
from s3gc.exceptions import AccessDeniedError, ListingError
from s3gc.inventory.problems import INVENTORY_SCHEMA
from s3gc.inventory.ranges import BoundSampler, KeyRange, cut, discover, outermost
from s3gc.inventory.writer import RangeWriter
from s3gc.store.bucket import Bucket
from s3gc.store.keys import is_escaped

__all__ = ["VAULT_SENTINEL", "Inventory", "take_inventory"]

#: The object that marks everything beside and below it as a vault.
VAULT_SENTINEL = "s3gc-vault.json"

_REPLACED = "\ufffd"
#: Keys with U+FFFD from a store that replaces characters: so many are told apart, the rest is left out and counted.
_MAX_REPLACED = 100_000


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was listed. `files` are Parquet (OBJECTS_SCHEMA + `problem`: null, or why the key must not be
    acted on), in key order, each key once over all of them; `t0` is the server's own time when the listing
    began (UTC); `objects` and `bytes` are of `files`; `left_out` maps a prefix to the reason why nothing
    under it is in `files`; `bounds` are split points for the next listing.
    """

    files: tuple[Path, ...]
    t0: datetime
    objects: int
    bytes: int
    left_out: dict[str, str]
    bounds: tuple[str, ...]


async def take_inventory(
    bucket: Bucket,
    *,
    prefixes: Sequence[str],
    work: Path,
    concurrency: int,
    bounds: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Inventory:
    """List everything under `prefixes` (empty: the whole bucket) into `work`, `concurrency` ranges at a time.

    `bounds` are those of the last inventory, if there was one; `progress` is called with the number of
    objects so far. Raises ListingError when any part is not provably complete, AccessDeniedError when it may
    not be listed.
    """
    await asyncio.to_thread(work.mkdir, parents=True, exist_ok=True)
    t0 = await bucket.server_time()
    left_out = await _enclosing_vaults(bucket, outermost(prefixes))
    if not bounds:
        bounds = await discover(bucket, prefixes, wanted=4 * concurrency)
    listing = _Listing(bucket, work, progress)
    parts = await listing.run(cut(prefixes, bounds), max(1, concurrency))
    left_out.update(listing.left_out)
    # A sentinel sorts after much of its own vault ("operations/…"): what was written before it was seen goes now.
    vaults = [prefix for prefix in left_out if prefix not in (RESERVED_PREFIX, _REPLACED)]
    parts = [await asyncio.to_thread(_without, part, vaults) for part in parts]
    kept = [part for part in parts if part.rows]
    objects = sum(part.rows for part in kept)
    return Inventory(
        tuple(part.path for part in kept),
        min(t0, listing.earliest or t0),
        objects,
        sum(part.bytes for part in kept),
        dict(sorted(left_out.items())),
        listing.sampler.bounds(objects),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    path: Path
    keys: KeyRange
    rows: int
    bytes: int


class _Listing:
    """One run over all ranges: workers take the next range until none is left; the first error ends them all."""

    def __init__(self, bucket: Bucket, work: Path, progress: Callable[[int], None] | None) -> None:
        self.bucket = bucket
        self.left_out: dict[str, str] = {}
        self.sampler = BoundSampler()
        self.earliest: datetime | None = None
        self._work = work
        self._progress = progress
        self._listed = 0
        self._replaced: set[str] = set()
        self._forgotten = 0

    async def run(self, ranges: Sequence[KeyRange], concurrency: int) -> list[_Part]:
        parts: dict[int, _Part] = {}
        todo = iter(enumerate(ranges))

        async def work() -> None:
            for number, keys in todo:  # shared: each worker takes the next one
                parts[number] = await self._list(number, keys)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(ranges))):
                    group.create_task(work())
        except BaseException as error:
            for part in parts.values():  # nothing stays that could be taken for a listing
                part.path.unlink(missing_ok=True)
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from error
            raise
        if len(parts) != len(ranges):  # cannot be; a hole here would be a short listing that nobody notices
            raise ListingError(
                f"Only {len(parts)} of {len(ranges)} key ranges of {self.bucket.name!r} were listed."
            )
        if self._forgotten:
            self.left_out[_REPLACED] = (
                f"{self._forgotten} keys with replaced characters, which cannot be told apart"
            )
        return [parts[number] for number in range(len(ranges))]

    async def _list(self, number: int, keys: KeyRange) -> _Part:
        writer = RangeWriter(self._work / f"objects-{number:05d}.parquet")
        try:
            listing = self.bucket.list_pages(keys.prefix, start_after=keys.start_after, end_at=keys.end_at)
            async with aclosing(listing) as pages:
                async for page in pages:
                    self.earliest = page.date if self.earliest is None else min(self.earliest, page.date)
                    self.sampler.add(number, page.last_key, page.rows.num_rows)
                    rows = self._without_ours(page.rows)
                    if not page.is_exact:
                        rows = self._each_once(rows)
                    await writer.add(rows)
                    self._listed += page.rows.num_rows
                    if self._progress is not None:
                        self._progress(self._listed)
            await writer.close()
        except BaseException:
            writer.discard()
            raise
        return _Part(writer.path, keys, writer.rows, writer.bytes)

    def _without_ours(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Drop what is reserved, and remember every vault whose sentinel is seen."""
        keys = rows.column("key")
        ends = pc.ends_with(keys, VAULT_SENTINEL)
        for key in pc.filter(keys, ends).to_pylist() if ends.true_count else []:
            prefix = key.removesuffix(VAULT_SENTINEL)
            if prefix == "" or prefix.endswith("/"):
                self.left_out[prefix] = _reason(key)
        if not rows.num_rows or keys[-1].as_py() < RESERVED_PREFIX:
            return rows
        reserved = pc.starts_with(keys, RESERVED_PREFIX)
        if pc.any(reserved).as_py():
            self.left_out[RESERVED_PREFIX] = "reserved for s3gc (claims, probes)"
            return rows.filter(pc.invert(reserved))
        return rows

    def _each_once(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Where characters are replaced by U+FFFD several objects share one name: keep one row for each name."""
        marked = pc.match_substring(rows.column("key"), "\ufffd")
        if not pc.any(marked).as_py():
            return rows
        keep: list[bool] = []
        for key, is_marked in zip(rows.column("key").to_pylist(), marked.to_pylist(), strict=True):
            if not is_marked or is_escaped(key):
                keep.append(True)
                continue
            is_full = len(self._replaced) >= _MAX_REPLACED
            self._forgotten += is_full and key not in self._replaced
            keep.append(not is_full and key not in self._replaced)
            if not is_full:
                self._replaced.add(key)
        return rows.filter(pa.array(keep))


def _reason(sentinel: str) -> str:
    return f"a vault of s3gc: it holds {sentinel!r}"


async def _enclosing_vaults(bucket: Bucket, prefixes: Sequence[str]) -> dict[str, str]:
    """Vaults that a prefix of the scope lies inside of: their sentinel is above, where the listing does not look."""
    folders = {""} if prefixes != [""] else set()
    for prefix in prefixes:
        end = prefix.find("/")
        while end >= 0:
            folders.add(prefix[: end + 1])
            end = prefix.find("/", end + 1)
    found: dict[str, str] = {}
    for folder in sorted(folders):
        key = folder + VAULT_SENTINEL
        try:
            head = await bucket.head(key)
        except AccessDeniedError:
            # A role for one prefix may not look above it, and a missing object is denied there as well: going on is
            # what its administrator asked for. A sentinel inside the scope is still seen by the listing itself.
            continue
        if head is not None:
            found[folder] = _reason(key)
    return found


def _without(part: _Part, vaults: Sequence[str]) -> _Part:
    """Rewrite one file without the rows under `vaults`, a row group at a time; one that cannot hold any stays."""
    prefixes = [vault for vault in vaults if part.rows and part.keys.may_hold(vault)]
    if not prefixes:
        return part
    file = pq.ParquetFile(part.path)
    clean = part.path.with_suffix(".clean.parquet")
    rows = size = 0
    with file, pq.ParquetWriter(clean, INVENTORY_SCHEMA, compression="lz4") as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for prefix in prefixes:
                table = table.filter(pc.invert(pc.starts_with(table.column("key"), prefix)))
            rows += table.num_rows
            size += pc.sum(table.column("size")).as_py() or 0
            if table.num_rows:
                writer.write_table(table)
    clean.replace(part.path)
    if not rows:
        part.path.unlink()
    return _Part(part.path, part.keys, rows, size)
