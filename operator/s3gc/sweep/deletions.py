"""The deletions of one sweep, a group at a time: by the way chosen for this bucket, each one settled and audited.

What one group learns holds for the next: folders in which everything was denied, and how close together the keys lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime

from s3gc.config import S3GCConfig
from s3gc.exceptions import AccessDeniedError, LockedError, S3GCError
from s3gc.store.bucket import Bucket
from s3gc.sweep.delete import Method, delete_object
from s3gc.sweep.denials import Denials
from s3gc.sweep.markers import Markers
from s3gc.sweep.outcomes import Deleted, Deletion, Denied, Kept, Unversioned
from s3gc.sweep.tally import GroupTally
from s3gc.sweep.undo import undo_unversioned
from s3gc.vault.lock import ScopeLock
from s3gc.vault.records import BackupEntry, PlannedObject
from s3gc.vault.vault import Vault

__all__ = ["Deletions"]


class Deletions:
    """`method` None: nothing is deleted, for a sweep that only audits."""

    def __init__(
        self, bucket: Bucket, vault: Vault, config: S3GCConfig, method: Method | None, lock: ScopeLock
    ) -> None:
        self._bucket = bucket
        self._vault = vault
        self._concurrency = config.concurrency
        self._method = method
        self._lock = lock
        self._denials = Denials(config.effective_prefixes)
        self._markers = Markers(
            bucket, conditional=method is Method.MARKER_CONDITIONAL, concurrency=config.concurrency
        )

    async def delete(self, entries: Sequence[BackupEntry], fence_time: datetime, tally: GroupTally) -> None:
        """Delete one group, of which the intent is durable. `fence_time` is the store's own time from before.

        Raises the first error after which nothing more may be deleted; what was deleted is in `tally` then, too.
        """
        failures: list[S3GCError] = []
        destroyed: list[tuple[BackupEntry, str]] = []

        def settle(entry: BackupEntry, outcome: Deletion | S3GCError) -> None:
            if isinstance(outcome, S3GCError):
                failures.append(outcome)
                tally.result.unproven += 1
                tally.note(entry, "failed", "error", outcome.message)
            elif isinstance(outcome, Deleted):
                self._denials.deleted(entry.key)
                tally.deleted(entry, outcome.marker_version_id, freed=outcome.freed)
            elif isinstance(outcome, Kept):
                tally.keep(entry, outcome.reason, outcome.detail)
            elif isinstance(outcome, Denied):
                self._denials.denied(entry.key, outcome.error)
                tally.keep(entry, "denied", outcome.error.message)
            elif isinstance(outcome, Unversioned):
                destroyed.append((entry, outcome.detail))

        def goes_on() -> bool:
            # A process that was stopped, or cut off from its vault, wakes up in the middle of a group: what it verified
            # is old by then, and another process may have taken over, checked this journal and closed it.
            if not failures and self._lock.may_be_taken_over:
                failures.append(
                    LockedError(
                        "the lock of the scope was not renewed in time while objects were being deleted (was this "
                        "process stopped, or the vault away?); nothing more is deleted, and what is deleted is checked"
                    )
                )
            return not failures and not destroyed

        async def one_by_one(queue: Iterator[BackupEntry], *, conditional: bool) -> None:
            for entry in queue:
                if not goes_on():
                    return
                try:
                    settle(entry, await delete_object(self._bucket, entry, conditional=conditional))
                except S3GCError as error:
                    settle(entry, error)

        try:
            if self._method in (Method.MARKER, Method.MARKER_CONDITIONAL):
                await self._markers.delete(entries, fence_time, settle, goes_on)
            else:
                queue, conditional = iter(entries), self._method is Method.CONDITIONAL
                workers = min(self._concurrency, len(entries) or 1)
                await asyncio.gather(*(one_by_one(queue, conditional=conditional) for _ in range(workers)))
        except BaseException:
            tally.result.unproven += len(entries)
            raise
        if destroyed:
            raise await undo_unversioned(self._bucket, self._vault, destroyed, tally.audit)
        if failures:
            raise failures[0]
        if denied := self._denials.hopeless():
            raise denied

    def worth_trying(self, group: Sequence[PlannedObject], tally: GroupTally) -> list[PlannedObject]:
        """What is worth a backup: not what lies in a folder where nothing may be deleted; that is kept."""
        tried: list[PlannedObject] = []
        for planned in group:
            folder = self._denials.folder_given_up(planned.key)
            if folder is None:
                tried.append(planned)
            else:
                tally.keep(planned, "denied", f"every deletion tried under {folder!r} was denied")
        return tried

    def denied_everything(self) -> AccessDeniedError | None:
        """At the end of the plan: the error, where nothing could be deleted wherever it was tried."""
        return self._denials.hopeless(at_end=True)
