"""What the store layer gives and takes: facts about objects, and one way to keep bytes.

`Bucket` (store/bucket.py) is the customers' bucket: keys of any kind, versions, conditions. `Storage` is where the
vault lives: a few well-named paths of ours, in a folder or under an S3 prefix, with the same promises from both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

__all__ = ["DeleteAnswer", "ObjectHead", "ObjectVersion", "PutAnswer", "Storage", "StoredFile"]


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """One object as HEAD or GET described it. `etag` has no quotes; `last_modified` is UTC, whole seconds.

    `headers` are the answer's own header values by lower-case name: all that must come back with the object
    (content-type, cache-control, content-encoding, content-disposition, content-language, expires, x-amz-meta-*,
    x-amz-storage-class, x-amz-website-redirect-location, x-amz-server-side-encryption*, x-amz-object-lock-*,
    x-amz-tagging-count, x-amz-missing-meta, x-amz-checksum-*, x-amz-restore, x-amz-archive-status), exactly as sent.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime
    version_id: str | None
    headers: Mapping[str, str]

    @property
    def storage_class(self) -> str:
        return self.headers.get("x-amz-storage-class", "STANDARD")


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One entry of ListObjectVersions for exactly one key, newest first. `etag` and `size` are empty for a marker."""

    key: str
    version_id: str
    is_latest: bool
    is_marker: bool
    last_modified: datetime
    etag: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class PutAnswer:
    etag: str
    version_id: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteAnswer:
    """What a DELETE was answered. `status` 412 and 404 are answers, not errors; what is left decides, not this.

    `is_repeated`: it was sent more than once, so a 404 or 412 may be about what our own first attempt did.
    """

    status: int
    is_marker: bool
    version_id: str | None
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class StoredFile:
    path: str
    size: int
    modified: datetime


class Storage(Protocol):
    """Durable files of the vault under relative POSIX paths of ours (never a customer's key).

    Everything written is durable when the call returns (fsync of file and folder, or the store's answer). Errors:
    `FileNotFoundError` for a missing path; VaultError for everything else, naming the location, the path and what to
    do (full, read-only, no permission).
    """

    @property
    def location(self) -> str: ...  # for people: the folder, or s3://bucket/prefix

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes: ...

    def stream(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield chunks of at most 1 MiB."""
        ...

    async def size(self, path: str) -> int: ...

    async def write(self, path: str, data: bytes) -> None:
        """Create or atomically replace."""
        ...

    async def create(self, path: str, data: bytes) -> bool:
        """Create only if absent, atomically: True when this call created it, False when it was there."""
        ...

    async def replace(self, path: str, data: bytes, *, expected: bytes) -> bool:
        """Replace only if the content is still `expected` (compare and swap): True when replaced."""
        ...

    async def write_file(self, path: str, source: Path) -> None:
        """Create or atomically replace from a local file, streaming, whatever its size (multipart in S3)."""
        ...

    async def delete(self, path: str) -> None:
        """Remove; a missing path is fine."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[StoredFile]:
        """Every file whose path starts with `prefix`, in path order; complete or an error."""
        ...

    async def close(self) -> None: ...
