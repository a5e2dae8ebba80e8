"""The vault's proof, asked for immediately before a version is purged: every byte of its copy, read back and compared.

A copy that cannot be proven keeps its version, which is then the only good one; so does a lock. What HEAD does not show
of a lock the store itself refuses, and nothing here ever bypasses one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from s3gc.backup.budget import Budget
from s3gc.backup.fetching import why_locked
from s3gc.backup.reading import read_object
from s3gc.exceptions import AccessDeniedError, StoreError, VaultCorruptedError
from s3gc.store.bucket import Bucket
from s3gc.store.settings import LockConfiguration
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Vault

__all__ = ["Proof", "PurgeResult"]

#: Original bytes of backups in memory at once while they are proven.
_IN_FLIGHT = 32 * 1024 * 1024
_ERRORS = 10


@dataclass(slots=True)
class PurgeResult:
    """`kept` counts versions of earlier operations that were not purged, by reason. What was purged is counted from
    the journal (`PurgeJournal.total`), never from here. `operations` are those whose objects were concerned."""

    purged: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    stopped: str = ""
    operations: set[str] = field(default_factory=set)

    def error(self, message: str) -> None:
        if len(self.errors) < _ERRORS:
            self.errors.append(message)


class Proof:
    def __init__(
        self, bucket: Bucket, vault: Vault, result: PurgeResult, lock: LockConfiguration, *, concurrency: int
    ) -> None:
        self._bucket, self._vault, self._result, self._concurrency = bucket, vault, result, concurrency
        self._has_locks = lock.enabled
        has_default = lock.default_mode and lock.default_days
        self._locked_by_default = timedelta(days=lock.default_days or 0) if has_default else None

    @classmethod
    async def begin(cls, bucket: Bucket, vault: Vault, result: PurgeResult, *, concurrency: int) -> Self:
        """Ask the bucket for its locks first."""
        return cls(bucket, vault, result, await bucket.lock_configuration(), concurrency=concurrency)

    async def of(self, chosen: Sequence[tuple[BackupEntry, str]]) -> list[tuple[BackupEntry, str]]:
        """Those of a batch (entry, our marker above it) that are proven, and locked by nothing that is seen."""
        budget = Budget(_IN_FLIGHT)
        at_once = asyncio.Semaphore(self._concurrency)
        now = await self._bucket.server_time()

        async def prove(entry: BackupEntry) -> bool:
            cost = min(entry.size, _IN_FLIGHT)
            async with at_once:
                await budget.take(cost)
                try:
                    async with aclosing(read_object(self._vault, entry)) as content:
                        async for _ in content:
                            pass  # raises unless every byte is what was backed up
                    return not self._has_locks or await self._is_free(entry, now)
                except VaultCorruptedError as error:
                    self._result.kept["backup damaged"] += 1
                    self._result.error(f"{error.message}. Its noncurrent version in the bucket was kept")
                    return False
                finally:
                    budget.give(cost)

        proven = await asyncio.gather(*(prove(entry) for entry, _ in chosen), return_exceptions=True)
        for outcome in proven:
            if isinstance(outcome, BaseException):
                raise outcome
        return [pair for pair, is_proven in zip(chosen, proven, strict=True) if is_proven]

    async def _is_free(self, entry: BackupEntry, now: datetime) -> bool:
        """Whether no lock is seen on it. What HEAD does not show the store itself refuses: nothing bypasses a lock."""
        try:
            head = await self._bucket.head(entry.key, version_id=entry.version_id or "null")
        except (AccessDeniedError, StoreError) as error:
            self._result.kept["failed"] += 1
            self._result.error(
                f"it is not known whether {entry.key!r} is locked, so it is not purged: {error.message}"
            )
            return False
        if head is not None and why_locked(head, now=now, locked_by_default=self._locked_by_default):
            self._result.kept["locked"] += 1
            return False
        return True
