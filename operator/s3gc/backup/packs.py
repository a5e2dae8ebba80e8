"""Making a pack and proving it: frames are compressed in threads, sealed durably, and read back from the
storage.

A pack is built in memory (at most `pack_size_bytes` and one frame more) and written by one conditional
create: its number was free when the operation was opened, and if it is taken now, another process works on
the same operation, which the lock should have made impossible, so nothing is overwritten and the group
ends with an error.

Why an entry may be believed: `seal` hands out an entry only after the storage itself gave back every frame
of the pack, each decompressed to the original length and SHA-256, and the index at its end, equal to what
was meant. What was written is never taken for what is there. The format is described in `vault.packindex`.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import zstandard

from s3gc.exceptions import BackupError, VaultCorruptedError, VaultError
from s3gc.store.types import Storage
from s3gc.vault.operations import Operation
from s3gc.vault.packindex import PackRow, encode_tail, read_pack_index
from s3gc.vault.records import BackupEntry, PackPart

__all__ = [
    "LARGEST_FRAME",
    "PART_BYTES",
    "Frame",
    "PackWriter",
    "check_rows",
    "compress",
    "compress_all",
    "decompress",
]

#: An object larger than this is framed in parts of this size, so that no more than a part is ever in memory.
PART_BYTES = 4 * 1024 * 1024
#: A frame that declares more content than this was not written by us.
LARGEST_FRAME = 64 * 1024 * 1024
#: A pack is held in memory while it is built; a larger setting is cut to this.
LARGEST_PACK = 256 * 1024 * 1024
#: Rows of one pack, so that the index of a pack full of empty objects stays small.
_MOST_ROWS = 20_000
#: Compressed bytes that are read back in one request.
_READ_BACK = 4 * 1024 * 1024
#: Content up to this size is compressed without asking first whether that pays.
_ALWAYS_TRY = 64 * 1024
_SAMPLE = 64 * 1024
_FASTEST = 1
_MOST_PARTS = 20_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One zstd frame and what it decompresses to."""

    data: bytes
    raw_length: int
    raw_sha256: str


def compress(raw: bytes, level: int) -> Frame:
    """One frame with content size and checksum. Blocking for large content: call it in a thread."""
    chosen = level
    if level > _FASTEST and len(raw) > _ALWAYS_TRY:
        sample = raw[:_SAMPLE]
        # Video, images and archives do not get smaller: one cheap look at the beginning saves the slow level.
        if len(zstandard.ZstdCompressor(level=_FASTEST).compress(sample)) > 0.97 * len(sample):
            chosen = _FASTEST
    data = zstandard.ZstdCompressor(level=chosen, write_checksum=True).compress(raw)
    return Frame(data, len(raw), hashlib.sha256(raw).hexdigest())


def compress_all(contents: Sequence[bytes], level: int) -> list[Frame]:
    """A batch of objects in one call, as a hop to a thread costs more than compressing a small object."""
    return [compress(raw, level) for raw in contents]


def decompress(data: bytes, path: str, where: str) -> bytes:
    """The content of one whole frame. Raises VaultCorruptedError naming the pack when it is not one."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= LARGEST_FRAME:
            raise zstandard.ZstdError(f"a frame declares {size} bytes")
        content = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
    except zstandard.ZstdError as error:
        raise VaultCorruptedError(
            f"pack {path} of the vault {where} is damaged: {error}. The object in that frame cannot be "
            "restored from this "
            "vault; all others can. Bring the file back from a copy of the vault",
            details={"path": path},
        ) from None
    return content


@dataclass(slots=True)
class _Open:
    """The pack that is being built."""

    number: int
    buffer: io.BytesIO = field(default_factory=io.BytesIO)
    rows: list[PackRow] = field(default_factory=list)


class PackWriter:
    """Packs of one operation, one after another. Not for concurrent use: one task places and seals.

    `place` puts a frame into the open pack, `describe` gives it its row, `is_full` says when to `seal`.
    """

    def __init__(self, operation: Operation, *, level: int, pack_size: int, next_number: int) -> None:
        self._operation = operation
        self._storage: Storage = operation.storage
        self.level = level
        self._pack_size = min(pack_size, LARGEST_PACK)
        self._open = _Open(next_number)
        self.sealed_bytes = 0

    @classmethod
    async def open(cls, operation: Operation, *, level: int, pack_size: int) -> PackWriter:
        """Go on after the last pack that is there, whether its group was ever journaled or not."""
        numbers = await operation.pack_numbers()
        return cls(operation, level=level, pack_size=pack_size, next_number=max(numbers, default=0) + 1)

    def part_bytes(self, size: int = 0) -> int:
        """Into how large parts an object of `size` bytes is cut: larger ones only for objects of tens of
        GiB, whose list of parts would be long."""
        wanted = max(PART_BYTES, -(-size // _MOST_PARTS))
        return min(wanted, self._pack_size, LARGEST_FRAME)

    @property
    def is_full(self) -> bool:
        return self._open.buffer.tell() >= self._pack_size or len(self._open.rows) >= _MOST_ROWS

    def place(self, frame: Frame) -> PackPart:
        part = PackPart(self._open.number, self._open.buffer.tell(), len(frame.data))
        self._open.buffer.write(frame.data)
        return part

    def describe(self, key: str, index: int, frame: Frame, part: PackPart, entry: BackupEntry | None) -> None:
        """Give the frame just placed its row; `entry` with an object's last (or only) part."""
        row = PackRow(key, index, part.offset, part.length, frame.raw_length, frame.raw_sha256, entry)
        self._open.rows.append(row)

    async def seal(self) -> list[BackupEntry]:
        """Write the open pack durably, read it back and return the entries that it completes; begin the next.

        Raises BackupError when what is there is not what was written, VaultError when it cannot be written.
        """
        pack = self._open
        if not pack.rows:
            return []
        path = self._operation.pack_path(pack.number)
        tail = await asyncio.to_thread(encode_tail, pack.rows, pack.buffer.tell())
        pack.buffer.write(tail)
        size = pack.buffer.tell()
        data = pack.buffer.getvalue()  # shares the buffer's memory
        pack.buffer = io.BytesIO()
        created = await self._storage.create(path, data)
        del data  # what counts from here on is what the storage gives back
        # A request that was retried holds its body in a reference cycle. Nothing else allocates enough here
        # for the collector to run by itself, and each pack that is kept is `pack_size_bytes` more.
        gc.collect(1)
        self._open = _Open(pack.number + 1)
        await self._prove(path, pack.rows, size, created=created)
        self.sealed_bytes += size
        return [row.entry for row in pack.rows if row.entry is not None]

    async def _prove(self, path: str, rows: list[PackRow], size: int, *, created: bool) -> None:
        where = self._storage.location
        try:
            # The index at the end alone must be enough to restore from, so it is read as a restore would read
            # it. It also tells whose pack this is, when the create was answered "exists": ours after a lost
            # answer, or not.
            if await self._storage.size(path) != size or await read_pack_index(self._storage, path) != rows:
                if not created:
                    raise VaultError(
                        f"pack {path} exists already in the vault {where} with another content: another "
                        "process works on "
                        "this operation; nothing of this group was deleted by this one"
                    )
                raise BackupError(f"pack {path} read back from the vault {where} is not what was written")
            problems = [problem async for _, problem in check_rows(self._storage, path, rows) if problem]
        except FileNotFoundError:
            raise BackupError(f"pack {path} was written to the vault {where} and is not there") from None
        except VaultCorruptedError as error:
            raise BackupError(f"the backup could not be read back: {error.message}") from error
        if problems:
            raise BackupError(
                f"{len(problems)} of {len(rows)} objects read back from {path} of the vault {where} are not "
                "what was written "
                f"({problems[0]}); nothing of this group was deleted. Check the vault's disk or store",
                details={"path": path},
            )


class check_rows:  # noqa: N801  reads as the verb it is: `async for row, problem in check_rows(…)`
    """Read every frame of `rows` back from the pack and yield each row with what is wrong with it ("" when
    nothing).

    Reads a few MiB at a time; frames are decompressed and hashed in a thread, many small ones in one hop.
    Raises FileNotFoundError for a missing pack.
    """

    def __init__(self, storage: Storage, path: str, rows: Sequence[PackRow]) -> None:
        self._storage = storage
        self._path = path
        self._windows = _windows(rows)
        self._ready: list[tuple[PackRow, str]] = []

    def __aiter__(self) -> check_rows:
        return self

    async def __anext__(self) -> tuple[PackRow, str]:
        while not self._ready:
            if not self._windows:
                raise StopAsyncIteration
            window = self._windows.pop()
            start, end = window[0].offset, window[-1].offset + window[-1].length
            data = await self._storage.read(self._path, start, end - start)
            self._ready = (await asyncio.to_thread(_check, data, start, window))[::-1]
        return self._ready.pop()


def _windows(rows: Sequence[PackRow]) -> list[list[PackRow]]:
    """Neighbouring rows in windows of a few MiB, the last window first."""
    windows: list[list[PackRow]] = []
    for row in rows:
        window = windows[-1] if windows else None
        if window is None or row.offset + row.length - window[0].offset > _READ_BACK:
            windows.append([row])
        else:
            window.append(row)
    return windows[::-1]


def _check(data: bytes, start: int, rows: Sequence[PackRow]) -> list[tuple[PackRow, str]]:
    return [(row, _problem(data[row.offset - start : row.offset - start + row.length], row)) for row in rows]


def _problem(frame: bytes, row: PackRow) -> str:
    if len(frame) != row.length:
        return f"key {row.key!r}: {len(frame)} of {row.length} bytes are there"
    try:
        raw = decompress(frame, "", "")
    except VaultCorruptedError:
        return f"key {row.key!r}: its frame at {row.offset} cannot be decompressed"
    if len(raw) != row.raw_length:
        return f"key {row.key!r}: {len(raw)} bytes came back, {row.raw_length} were backed up"
    if hashlib.sha256(raw).hexdigest() != row.raw_sha256:
        return f"key {row.key!r}: the SHA-256 of what came back is another one"
    return ""
