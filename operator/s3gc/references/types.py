"""The words that readers, extractors and matchers of references share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from s3gc.config import ReferenceFormat
from s3gc.references.cdc.types import Capture

__all__ = [
    "BarrierResult",
    "ColumnSpec",
    "Extraction",
    "PrefixReference",
    "ReferenceRules",
    "Snapshot",
    "Source",
    "SourcePreflight",
]


class PrefixReference(str):
    """A reference to everything under a prefix, made by a template with a NULL part."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ReferenceRules:
    """What an extractor must know about the bucket. Hosts are lower case, without port."""

    bucket: str
    endpoint_hosts: frozenset[str] = frozenset()
    base_urls: tuple[tuple[str, str], ...] = ()  # (url or path, key prefix)
    key_prefixes: tuple[str, ...] = ()  # put before every key, beside the key itself
    foreign_hosts: frozenset[str] = frozenset()
    derivatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column, template or query of one source. `label` is for people: ``public.users.avatar_url``."""

    source: str
    index: int  # position among the source's columns
    label: str
    format: ReferenceFormat
    rules: ReferenceRules
    kind: str = "column"  # column | template | query


@dataclass(slots=True)
class Extraction:
    """Everything that one value could mean."""

    keys: set[str] = field(default_factory=set)
    prefixes: set[str] = field(default_factory=set)
    undeclared_hosts: set[str] = field(default_factory=set)
    other_bucket: int = 0  # URLs and URIs that provably name another bucket
    foreign: int = 0  # URLs on a host of `foreign_hosts`
    ignored: bool = False  # data:, blob:, mailto: and the like
    unparsed: bool = False  # not empty, not ignored, and nothing could be extracted


@dataclass(frozen=True, slots=True)
class SourcePreflight:
    """What a source allows. `can_query`: every column is `format: key`, so verification may ask for exact keys.

    `barrier` says how the end of open writers is seen: "locks" (PostgreSQL), "innodb_trx", "share_lock", "exclusive"
    (SQLite), or "" when it cannot be, with `barrier_missing` naming the GRANT that is needed.
    """

    columns: tuple[ColumnSpec, ...]
    can_query: bool
    query_reason: str
    barrier: str
    barrier_missing: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BarrierResult:
    passed: bool
    waited_seconds: float
    detail: str = ""


class Snapshot(Protocol):
    """One read-only consistent view of one database, shared by all columns read through it."""

    def values(self, column: ColumnSpec, batch: int = 10_000) -> AsyncIterator[Sequence[object]]:
        """Yield non-NULL values of `column` in batches: str, bytes, or PrefixReference. SourceError when cut off."""
        ...


class Source(Protocol):
    """One database. Every call has a time-out; errors are ConfigurationError, AccessDeniedError or SourceError."""

    name: str
    location: str
    dialect: str

    async def preflight(self, *, execute: bool) -> SourcePreflight: ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]: ...

    async def referenced(self, keys: Sequence[str]) -> dict[str, str]:
        """Which of `keys` a `format: key` column names now (``k`` or ``/k``): key -> label. One pass a column."""
        ...

    async def fingerprint(self) -> str:
        """A digest over the catalog of the watched tables: columns, types, partitions, persistence, identity."""
        ...

    async def barrier(self, timeout_seconds: float) -> BarrierResult:
        """Wait until every transaction that was writing the watched tables when this was called is over."""
        ...

    async def capture(self) -> Capture:
        """Return change capture of this source, checked by its `preflight`. CDCError with all that is missing."""
        ...

    def undeclared(self, limit: int = 1000) -> AsyncIterator[tuple[str, Sequence[object]]]:
        """Yield (label, sampled values) of each text or JSON column of the database that nobody declared or ignored."""
        ...

    async def close(self) -> None: ...
