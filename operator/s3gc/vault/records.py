"""The records that the vault keeps about objects: what was planned, what was backed up, what was intended
and done.

They are plain frozen values with an exact JSON form, because a person must be able to read them in five
years with nothing but `zstd -d` and a text editor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

__all__ = ["FREED", "AuditRecord", "BackupEntry", "PackPart", "PlannedObject"]

#: How the audit's detail of a deletion that left no version begins: what a cut-off run reclaimed is told from it.
FREED = "no version of it is left"


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """One row of a plan: an object that may be swept, as the listing saw it. `etag` has no quotes; times
    are UTC."""

    key: str
    etag: str
    size: int
    last_modified: datetime
    storage_class: str = "STANDARD"
    first_unreferenced: datetime | None = None


@dataclass(frozen=True, slots=True)
class PackPart:
    """Where bytes lie: `length` compressed bytes at `offset` of pack number `pack` of the entry's
    operation."""

    pack: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class BackupEntry:
    """One backed-up object: enough to bring it back exactly, and to know that it is the same object.

    `sha256` is of the original bytes (hex). `headers` are those of `store.types.ObjectHead`, as the store
    sent them. `tags` are None where the store has no tags. The compressed frames of `parts`, in order,
    give the original bytes. `operation_id` and `group` say which journal holds the intent.
    """

    operation_id: str
    group: int
    key: str
    etag: str
    size: int
    last_modified: datetime
    version_id: str | None
    storage_class: str
    sha256: str
    headers: Mapping[str, str]
    tags: tuple[tuple[str, str], ...] | None
    acl: str | None
    parts: tuple[PackPart, ...]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """What happened to one object, why and when. `action` is one of: deleted, would_delete, kept,
    restored, failed, removed_marker, purged. `reason` is a short fixed phrase, `detail` free text (never a
    secret)."""

    at: datetime
    operation_id: str
    key: str
    action: str
    reason: str
    detail: str = ""
    etag: str = ""
    size: int = 0
    version_id: str | None = None
    marker_version_id: str | None = None
