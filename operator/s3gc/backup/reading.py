"""One object's bytes out of the vault, proven before the last of them is handed out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator

from s3gc.backup.packs import decompress
from s3gc.exceptions import VaultCorruptedError
from s3gc.vault import layout
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Vault

__all__ = ["read_object"]

_PIECE = 1024 * 1024
#: Frames up to this size are decompressed on the loop: a hop to a thread would cost more.
_INLINE = 32 * 1024


async def read_object(vault: Vault, entry: BackupEntry) -> AsyncGenerator[bytes, None]:
    """Yield the original bytes in pieces of at most 1 MiB, in bounded memory.

    The last piece is held back until the SHA-256 and the size over all of them are right. So whoever sends
    them on with the entry's size announced never completes an object of other bytes: it ends short and the
    store refuses it. Raises VaultCorruptedError naming the pack and the key.
    """
    digest = hashlib.sha256()
    total = 0
    held = b""
    path = ""
    for part in entry.parts:
        path = layout.pack_path(entry.operation_id, part.pack)
        raw = await _frame(vault, path, part.offset, part.length, entry)
        total += len(raw)
        await asyncio.to_thread(digest.update, raw) if len(raw) > _INLINE else digest.update(raw)
        view = memoryview(raw)
        for start in range(0, len(raw), _PIECE):
            if held:
                yield held
            held = bytes(view[start : start + _PIECE])
        del raw, view  # before the next frame is read, not after
    if total != entry.size or digest.hexdigest() != entry.sha256:
        what = (
            f"{total} bytes, {entry.size} expected"
            if total != entry.size
            else "another SHA-256 than recorded"
        )
        raise _damaged(vault, path, entry, what)
    if held:
        yield held


async def _frame(vault: Vault, path: str, offset: int, length: int, entry: BackupEntry) -> bytes:
    where = vault.storage.location
    try:
        data = await vault.storage.read(path, offset, length)
    except FileNotFoundError:
        raise VaultCorruptedError(
            f"pack {path} of the vault {where} is missing: key {entry.key!r} of operation "
            f"{entry.operation_id} cannot be "
            "restored from this vault. Objects in other packs can; bring the file back from a copy of the "
            "vault",
            details={"path": path, "key": entry.key},
        ) from None
    if len(data) != length:
        raise _damaged(vault, path, entry, f"{len(data)} of {length} bytes at {offset} are there")
    try:
        if length <= _INLINE and entry.size <= _INLINE:
            return decompress(data, path, where)
        return await asyncio.to_thread(decompress, data, path, where)
    except VaultCorruptedError as error:
        raise _damaged(vault, path, entry, error.message) from None


def _damaged(vault: Vault, path: str, entry: BackupEntry, what: str) -> VaultCorruptedError:
    return VaultCorruptedError(
        f"pack {path} of the vault {vault.storage.location} is damaged at key {entry.key!r} of operation "
        f"{entry.operation_id} ({what}). That object cannot be restored from this vault; all others can",
        details={"path": path, "key": entry.key},
    )
