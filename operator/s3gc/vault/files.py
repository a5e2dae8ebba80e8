"""Small things that every reader of the vault's files needs."""

from __future__ import annotations

from s3gc.store.types import Storage

__all__ = ["read_or_none"]


async def read_or_none(storage: Storage, path: str) -> bytes | None:
    """The content of a small file, or None when it is not there."""
    try:
        return await storage.read(path)
    except FileNotFoundError:
        return None
