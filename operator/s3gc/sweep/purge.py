"""Free the space behind delete markers of earlier cycles (`versions: Purge`), once the vault has proved its copies.

A delete marker frees nothing. What it hides may go for good only in a later cycle: by then the writers of that time are
over, the journal of that operation was checked and closed, and one more reading still does not name the key. After a
purge the vault has the only copy, so the order inside a batch is the promise, and none of it may be moved:

1. every copy is read back from the vault, and its SHA-256 compared, now;
2. the retention of that operation begins anew (`only_copy_since`): nothing that lives in the vault alone expires before
   a whole `vault.retentionDays` from here;
3. the intent is durable in a journal of its own kind (`vault.purges`);
4. each version is removed by its exact id, and judged by what is left (`purge_version`);
5. what happened is durable, once; only then our markers that stand alone are tidied away, as a lifecycle rule for
   expired delete markers would do it. A marker above anything at all is never removed: that would bring it into view.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

import pyarrow as pa
import pyarrow.compute as pc

from s3gc.config import RESERVED_PREFIX, GCMode, S3GCConfig, Versions
from s3gc.exceptions import (
    AccessDeniedError,
    ConfigurationError,
    RefusedError,
    StoreError,
    VaultCorruptedError,
)
from s3gc.results import Progress
from s3gc.store.probe import Capabilities
from s3gc.sweep.denials import Denials
from s3gc.sweep.purge_proof import Proof, PurgeResult
from s3gc.sweep.purge_records import record_outcomes, tidy_markers
from s3gc.sweep.purge_version import kept, purge_version
from s3gc.sweep.sweep import SweepContext, why_stop
from s3gc.vault.manifest import Outcome
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.purges import Purged, PurgeIntent, PurgeJournal
from s3gc.vault.records import BackupEntry
from s3gc.vault.state import ScopeState

__all__ = ["PurgeResult", "check_purge", "purge_earlier"]

#: Versions a batch: each costs a few requests, and a stop waits for the batch's end.
BATCH = 500
#: Reasons that no later cycle will find otherwise; any other keeps the operation on the list.
_FINAL = frozenset(
    {"gone", "back in view", "uploaded again", "another marker", "another version below", "no marker"}
)
#: So many versions one after another that fail for no reason of their own: then it is not the versions.
_FAILURES_IN_A_ROW = 20


def check_purge(capabilities: Capabilities, config: S3GCConfig) -> None:
    """Raise what `versions: Purge` lacks in this bucket, before any work. An unversioned one has nothing to purge."""
    if config.versions is not Versions.PURGE or capabilities.versioning.status != "Enabled":
        return
    where = f"bucket {config.bucket!r}"
    if capabilities.versioning.mfa_delete:
        raise ConfigurationError(
            f"versions: Purge cannot be done in {where}: MFA Delete is enabled there, so no version can be removed "
            "without a person's token. Use versions: Marker"
        )
    if not capabilities.remove_version:
        said = f" ({capabilities.notes[-1]})" if capabilities.notes else ""
        raise AccessDeniedError(
            f"versions: Purge needs s3:DeleteObjectVersion on {where}, and these credentials could not remove a "
            f"version of our own there{said}. Allow that action, or use versions: Marker",
            details={"action": "s3:DeleteObjectVersion", "bucket": config.bucket},
        )


async def purge_earlier(context: SweepContext, *, referenced: Collection[str], result: PurgeResult) -> None:
    """Purge what earlier operations of this scope made noncurrent; `result` is true whatever ends it.

    `referenced` are the deleted keys that this cycle's reading names. Call it under the scope's lock, after the check
    passed. Errors that concern one version are reasons; what is about all of them is raised (S3GCError).
    """
    holds = (await ScopeState(context.vault, context.scope).holds())["key"].combine_chunks()
    run = _Run(context, frozenset(referenced), holds, result)
    await run.begin()
    for record in reversed(await context.vault.operations(scope_id=context.scope.id)):
        if not _may_be_purged(record, context):
            continue
        operation = context.vault.operation(record.id)
        if await operation.is_held():
            result.kept["operation on hold"] += 1
            continue
        await run.operation(operation)
        if result.stopped:
            return
    if denied := run.denials.hopeless(at_end=True):
        raise denied


def _may_be_purged(record: OperationRecord, context: SweepContext) -> bool:
    """Earlier, of this bucket, checked and closed, and with something left to do."""
    return (
        record.id != context.operation.id
        and record.bucket == context.bucket.name
        and record.mode == GCMode.EXECUTE
        and record.journal == "closed"
        and not record.problem
        and not record.extra.get("expiring")
        and not record.extra.get("purge_done")
    )


class _Run:
    def __init__(
        self, context: SweepContext, referenced: frozenset[str], holds: pa.Array, result: PurgeResult
    ) -> None:
        self.context, self.referenced, self.holds, self.result = context, referenced, holds, result
        self.bucket, self.vault = context.bucket, context.vault
        self.journal = PurgeJournal(context.operation)
        self.denials = Denials(context.config.effective_prefixes, doing="purged")
        self.failures = 0
        self.number = 0

    async def begin(self) -> None:
        self.number = max(await self.journal.numbers(), default=0)
        self.proof = await Proof.begin(
            self.bucket, self.vault, self.result, concurrency=self.context.config.concurrency
        )

    # --- one operation

    async def operation(self, operation: Operation) -> None:
        retry, before = False, self.result.purged
        try:
            async with aclosing(_batches(operation)) as batches:
                async for batch in batches:
                    if reason := await why_stop(self.context):
                        self.result.stopped = reason
                        return
                    retry = await self._batch(operation, batch) or retry
        except VaultCorruptedError as error:  # what could be read was read; the rest must not be purged
            self.result.error(error.message)
            retry = True
        finally:
            if self.result.purged > before:
                self.result.operations.add(operation.id)
                await operation.write_manifest()
        if not retry:
            await _update(operation, purge_done=True)

    async def _batch(self, operation: Operation, batch: Sequence[tuple[BackupEntry, Outcome]]) -> bool:
        """Purge what may go; returns whether any of the others may go another time."""
        before = Counter(self.result.kept)
        held = pc.is_in(
            pa.array([entry.key for entry, _ in batch], pa.string()), value_set=self.holds
        ).to_pylist()
        chosen = [
            (entry, marker)
            for (entry, outcome), is_held in zip(batch, held, strict=True)
            if (marker := self._chosen(entry, outcome, is_held=is_held))
        ]
        if chosen := await self.proof.of(chosen):
            await self._purge(operation, chosen)
        return any(reason not in _FINAL for reason in self.result.kept - before)

    def _chosen(self, entry: BackupEntry, outcome: Outcome, *, is_held: bool) -> str | None:
        """Our marker above it, where this object was deleted by that operation and nothing speaks against its purge."""
        if outcome.action not in ("deleted", ""):
            return None  # kept, restored, purged before: there is nothing of ours to remove
        if outcome.marker_version_id is None:
            # The run was killed before its audit, or the store's answer was lost: the marker may be somebody else's,
            # and so may the deletion.
            self.result.kept["no marker"] += 1
            return None
        config, reason = self.context.config, ""
        if entry.key.startswith((RESERVED_PREFIX, *config.exclude_prefixes)) or not entry.key.startswith(
            tuple(config.effective_prefixes)
        ):
            reason = "out of scope"
        elif entry.key in self.referenced:
            reason = "referenced"
        elif is_held:
            reason = "held"
        elif self.denials.folder_given_up(entry.key) is not None:
            reason = "denied"
        if reason:
            self.result.kept[reason] += 1
            return None
        return outcome.marker_version_id

    # --- the purge

    async def _purge(self, operation: Operation, chosen: Sequence[tuple[BackupEntry, str]]) -> None:
        if (status := (await self.bucket.versioning()).status) != "Enabled":
            raise RefusedError(
                f"versioning of bucket {self.bucket.name!r} is {status} now, so nothing is purged until it is Enabled "
                "again",
                details={"guard": "versioning", "bucket": self.bucket.name},
            )
        intents = [_intent(operation, entry, marker) for entry, marker in chosen]
        await _update(operation, only_copy_since=(await self.bucket.server_time()).isoformat())
        await self.context.lock.check()  # the proof may have taken a while: who lost the lock must not delete
        if (await self.context.operation.record()).extra.get("purge") != "open":
            await _update(self.context.operation, purge="open")
        self.number += 1
        await self.journal.begin(self.number, intents)
        outcomes = await self._remove_all([entry for entry, _ in chosen], intents)
        await self.journal.end(self.number, outcomes)
        await record_outcomes(operation, self.context.operation.id, outcomes)
        await tidy_markers(self.bucket, outcomes, self.context.config.concurrency)
        for outcome in outcomes:
            if outcome.state == "purged":
                self.result.purged += 1
            else:
                self.result.kept[outcome.reason] += 1
                if outcome.state == "restored":
                    self.result.error(
                        f"{outcome.intent.key!r}: {outcome.reason}; it was brought back from the vault"
                    )
        self.context.progress(Progress("Purging", deleted=self.result.purged))
        if denied := self.denials.hopeless():
            raise denied

    async def _remove_all(
        self, entries: Sequence[BackupEntry], intents: Sequence[PurgeIntent]
    ) -> list[Purged]:
        """Every intent with its outcome. Raises when one is not known: the batch then stays open in the journal, and
        the next cycle judges it by what is left."""
        queue = iter(range(len(intents)))
        outcomes: list[Purged | None] = [kept(intent, "not reached") for intent in intents]
        errors: list[Exception] = []

        async def worker() -> None:
            for index in queue:
                if errors or self.failures >= _FAILURES_IN_A_ROW:
                    return
                try:
                    outcome = await purge_version(self.bucket, self.vault, entries[index], intents[index])
                except Exception as error:  # noqa: BLE001  the others of the batch are still recorded
                    errors.append(error)
                    outcome = None
                outcomes[index] = outcome
                self._note(outcome)

        await asyncio.gather(*(worker() for _ in range(min(self.context.config.concurrency, len(intents)))))
        known = [outcome for outcome in outcomes if outcome is not None]
        if len(known) < len(intents):
            if errors:
                raise errors[0]
            raise StoreError(
                f"bucket {self.bucket.name!r}: {len(intents) - len(known)} versions were being purged when the store "
                "stopped answering; the next cycle looks what became of them"
            )
        if self.failures >= _FAILURES_IN_A_ROW:
            self.result.stopped = "the store keeps failing"
            self.result.error(
                f"{self.failures} versions one after another could not be purged; the next cycle carries on"
            )
        return known

    def _note(self, outcome: Purged | None) -> None:
        if outcome is None:
            return
        self.failures = self.failures + 1 if outcome.reason == "failed" else 0
        if outcome.state == "purged":
            self.denials.deleted(outcome.intent.key)
        elif outcome.reason == "denied":
            error = AccessDeniedError(outcome.detail, details={"action": "s3:DeleteObjectVersion"})
            self.denials.denied(outcome.intent.key, error)


def _intent(operation: Operation, entry: BackupEntry, marker: str) -> PurgeIntent:
    return PurgeIntent(
        of=operation.id,
        group=entry.group,
        key=entry.key,
        version_id=entry.version_id or "null",
        marker_version_id=marker,
        etag=entry.etag,
        size=entry.size,
    )


async def _batches(operation: Operation) -> AsyncGenerator[list[tuple[BackupEntry, Outcome]], None]:
    batch: list[tuple[BackupEntry, Outcome]] = []
    async with aclosing(operation.outcomes()) as rows:
        async for row in rows:
            batch.append(row)
            if len(batch) >= BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


async def _update(operation: Operation, **extra: object) -> None:
    record = await operation.record()
    await operation.update(extra={**record.extra, **extra})
