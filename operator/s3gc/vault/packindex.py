"""The format of a pack, as far as one must know it to find an object in it.

A pack is a sequence of zstd frames, one for each object (or each part of a large one), and then a skippable
frame that ``zstd -d`` passes over::

    [frame][frame]…[frame] [magic 0x184D2A53][length] [index: one zstd frame of JSON lines] [footer]

The footer is one line of ASCII of fixed length at the very end of the file. It says where the index lies and
what its SHA-256 is, so the index is found from the end with ``tail -c 192``, and a pack alone is enough to
restore from: each line of the index has the offset, the length and the SHA-256 of a frame, and the line of an
object's last part has all that `BackupEntry` has. How packs are made and proven is the business of
`backup.packs`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zstandard

from s3gc.exceptions import VaultCorruptedError
from s3gc.store.types import Storage
from s3gc.vault.codec import dump_line, entry_from_json, entry_to_json
from s3gc.vault.records import BackupEntry

__all__ = ["FOOTER_LENGTH", "PackRow", "decode_tail", "encode_tail", "index_start", "read_pack_index"]

_MAGIC = 0x184D2A53
_HEADER = struct.Struct("<II")
_FOOTER = re.compile(
    rb"^\ns3gc-pack 1 index_offset=(\d{20}) index_length=(\d{20}) rows=(\d{10}) sha256=([0-9a-f]{64}) *\n$"
)
#: Bytes of the footer, padded with spaces: enough for ``tail -c 192``.
FOOTER_LENGTH = 192


@dataclass(frozen=True, slots=True)
class PackRow:
    """One frame of a pack. `entry` is there in the row of an object's last part, so nearly always.

    `raw_length` and `raw_sha256` are of the frame's content; for an object in one part they are the object's
    own.
    """

    key: str
    part: int
    offset: int
    length: int
    raw_length: int
    raw_sha256: str
    entry: BackupEntry | None


def encode_tail(rows: Sequence[PackRow], offset: int) -> bytes:
    """The skippable frame that ends a pack whose object frames end at `offset`."""
    lines = b"".join(dump_line(_row_to_json(row)) for row in rows)
    index = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)
    start = offset + _HEADER.size
    digest = hashlib.sha256(index).hexdigest()
    where = f"index_offset={start:020d} index_length={len(index):020d}"
    footer = f"\ns3gc-pack 1 {where} rows={len(rows):010d} sha256={digest}"
    padded = footer.encode().ljust(FOOTER_LENGTH - 1) + b"\n"
    return _HEADER.pack(_MAGIC, len(index) + len(padded)) + index + padded


def index_start(footer: bytes, path: str, where: str) -> tuple[int, int, int, str]:
    """(offset, length, rows, SHA-256) of the index, from the last `FOOTER_LENGTH` bytes of a pack."""
    found = _FOOTER.match(footer)
    if not found:
        if footer.endswith(b"\n") and re.search(rb"\ns3gc-pack (\d+) ", footer):
            raise _damaged(path, where, "it was written by a newer version of s3gc; use that version")
        raise _damaged(path, where, "it does not end with a pack's footer: it was cut off or overwritten")
    return int(found[1]), int(found[2]), int(found[3]), found[4].decode()


def decode_tail(index: bytes, rows: int, digest: str, path: str, where: str) -> list[PackRow]:
    """The rows of an index whose bytes were read; raises VaultCorruptedError when they are not what was
    written."""
    if hashlib.sha256(index).hexdigest() != digest:
        raise _damaged(path, where, "the SHA-256 of its index is not the one in its footer")
    try:
        lines = zstandard.ZstdDecompressor().decompressobj().decompress(index)
        found = [_row_from_json(json.loads(line)) for line in lines.split(b"\n") if line]
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, where, f"its index cannot be read ({error})") from None
    if len(found) != rows:
        raise _damaged(path, where, f"its footer counts {rows} rows, its index has {len(found)}")
    return found


async def read_pack_index(storage: Storage, path: str) -> list[PackRow]:
    """Read the index of the pack at `path`: two small reads, whatever the pack's size.

    Raises VaultCorruptedError naming the pack when it is missing, cut off, or its index changed.
    """
    where = storage.location
    try:
        size = await storage.size(path)
        footer = await storage.read(path, max(0, size - FOOTER_LENGTH), FOOTER_LENGTH)
        offset, length, rows, digest = index_start(footer, path, where)
        if offset + length + FOOTER_LENGTH != size:
            raise _damaged(path, where, "its footer does not fit its size")
        index = await storage.read(path, offset, length)
    except FileNotFoundError:
        raise VaultCorruptedError(
            f"pack {path} of the vault {where} is missing. The objects in it cannot be restored from this "
            "vault; all "
            "others can. Bring the file back from a copy of the vault",
            details={"path": path},
        ) from None
    return await asyncio.to_thread(decode_tail, index, rows, digest, path, where)


def _row_to_json(row: PackRow) -> dict[str, Any]:
    value: dict[str, Any] = {"part": row.part, "offset": row.offset, "length": row.length}
    value["raw_length"], value["raw_sha256"] = row.raw_length, row.raw_sha256
    if row.entry is None:
        value["key"] = row.key
    else:
        value["entry"] = entry_to_json(row.entry)
    return value


def _row_from_json(value: dict[str, Any]) -> PackRow:
    entry = entry_from_json(value["entry"]) if "entry" in value else None
    key = entry.key if entry is not None else str(value["key"])
    numbers = (int(value[name]) for name in ("part", "offset", "length", "raw_length"))
    part, offset, length, raw_length = numbers
    return PackRow(key, part, offset, length, raw_length, str(value["raw_sha256"]), entry)


def _damaged(path: str, where: str, what: str) -> VaultCorruptedError:
    return VaultCorruptedError(
        f"pack {path} of the vault {where} is damaged: {what}. Objects whose frames are whole can still be "
        "restored by "
        "the operation's journals and manifest; no other pack is affected",
        details={"path": path},
    )
