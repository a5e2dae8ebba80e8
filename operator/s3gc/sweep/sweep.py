"""Sweep a plan in groups, a small canary group first; each group is durable before the next begins.

The order inside a group is what makes it safe, and none of it may be moved: the catalog is as it was (fence), the bytes
are in the vault and were read back, the databases still name none of the keys, the intent is durable in the journal,
and only then are the objects deleted. Whatever ends the sweep early (an error, a stop, a deadline, a cancellation), the
caller still runs `sweep.check` over the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from s3gc.backup.backup import back_up
from s3gc.config import S3GCConfig
from s3gc.exceptions import AccessDeniedError, RefusedError, S3GCError
from s3gc.results import Progress
from s3gc.store.bucket import Bucket
from s3gc.store.probe import Capabilities
from s3gc.sweep.delete import Method
from s3gc.sweep.deletions import Deletions
from s3gc.sweep.tally import GroupTally, SweepResult
from s3gc.sweep.verify import Verifier
from s3gc.vault.lock import ScopeLock, stop_requested
from s3gc.vault.operations import Operation
from s3gc.vault.records import PlannedObject
from s3gc.vault.vault import Scope, Vault

__all__ = ["SweepContext", "SweepResult", "sweep", "why_stop"]

#: A group is at most this large: its entries are in memory, and a stop waits for its end.
MAX_GROUP = 50_000
#: Verification may cost this share of a group's time before the next group is made larger.
VERIFY_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class SweepContext:
    config: S3GCConfig
    bucket: Bucket
    vault: Vault
    scope: Scope
    operation: Operation
    verifier: Verifier
    lock: ScopeLock
    method: Method | None  # None: audit only
    capabilities: Capabilities | None
    stop: asyncio.Event
    deadline: float | None  # monotonic seconds
    progress: Callable[[Progress], None]


@dataclass(slots=True)
class _Size:
    """How many objects the next group has; it changes while groups are being cut."""

    now: int


async def sweep(
    context: SweepContext, plan: AsyncIterator[Sequence[PlannedObject]], total: int, result: SweepResult
) -> None:
    """Sweep every object of `plan`; `result` is filled as it goes, so that it is true whatever ends the sweep.

    Ends early, with `result.stopped` saying why, on a stop request, a deadline, a lost lock or an error.
    """
    size = _Size(context.config.canary_objects)
    deletions = Deletions(context.bucket, context.vault, context.config, context.method, context.lock)
    number = await context.operation.next_group()
    async for group in _regrouped(plan, size):
        if reason := await why_stop(context):
            result.stopped = reason
            return
        began = time.monotonic()
        verify_before = result.seconds["Verifying"]
        try:
            await _group(context, number, group, total, result, deletions)
        except S3GCError as error:
            result.stopped = "error"
            result.errors.append(error.message)
            if isinstance(error, RefusedError):
                result.stopped = str(error.details.get("guard", "refused"))
            elif isinstance(error, AccessDeniedError):
                result.stopped = "denied"
            return
        verify = result.seconds["Verifying"] - verify_before
        others = max(time.monotonic() - began - verify, 0.001)
        number = await context.operation.next_group()
        # A rescan costs the same for one key as for many: grow until verifying is a small share of the time.
        wanted = int(len(group) * max(verify / others / VERIFY_SHARE, 1.0))
        size.now = max(context.config.group_objects, min(MAX_GROUP, wanted))
    if denied := deletions.denied_everything():
        result.stopped = "denied"
        result.errors.append(denied.message)
    elif total and result.skipped["denied"] == total:
        # A right to read is missing: without a backup nothing was tried, and a success would hide it.
        result.stopped = "denied"
        result.errors.append(f"every object of the plan was kept, the first because {result.first_denied}")


async def why_stop(context: SweepContext) -> str:
    """Why nothing more may be begun, empty while it may. Raises LockedError when the lock is lost."""
    await context.lock.check()
    if context.stop.is_set():
        return "stopped"
    if context.deadline is not None and time.monotonic() >= context.deadline:
        return "deadline"
    if await stop_requested(context.vault, context.scope):
        return "a restore waits"
    return ""


async def _group(
    context: SweepContext,
    number: int,
    group: Sequence[PlannedObject],
    total: int,
    result: SweepResult,
    deletions: Deletions,
) -> None:
    tally = GroupTally(context.operation.id, result)
    with _timed(result, "Verifying"):
        await context.verifier.fence()
    free, locked = _unlocked(group, context)
    for planned, detail in locked:
        tally.keep(planned, "locked", detail)
    swept = deletions.worth_trying(free, tally)
    try:
        if not swept:
            return
        if context.method is None:
            with _timed(result, "Verifying"):
                referenced = await context.verifier.referenced([planned.key for planned in swept])
            for planned in swept:
                if planned.key in referenced:
                    tally.keep(planned, "referenced", referenced[planned.key])
                else:
                    result.verified += 1
                    tally.note(planned, "would_delete", "unreferenced")
            return
        with _timed(result, "BackingUp"):
            backup = await back_up(
                context.bucket, context.vault, context.operation, number, swept, context.config
            )
        for planned in swept:
            if planned.key in backup.skipped:
                tally.keep(planned, *backup.skipped[planned.key])
        entries = backup.entries
        result.backed_up += len(entries)
        result.backed_up_bytes += sum(entry.size for entry in entries.values())
        result.vault_bytes += sum(part.length for entry in entries.values() for part in entry.parts)
        _tell(context, "Verifying", result, total)
        with _timed(result, "Verifying"):
            referenced = await context.verifier.referenced(list(entries))
            fence_time = await context.bucket.server_time()
        for planned in swept:
            if planned.key in referenced:
                tally.keep(planned, "referenced", referenced[planned.key])
        going = [entry for key, entry in entries.items() if key not in referenced]
        result.verified += len(going)
        # The lock is asked once more between the slow work and the deletes: who lost it must not delete.
        await context.lock.check()
        if going:
            # The intent must be durable first: a kill from here on is repaired from this journal alone.
            if (await context.operation.record()).journal != "open":
                await context.operation.update(journal="open")
            await context.operation.append_journal(number, going)
        with _timed(result, "Deleting"):
            await deletions.delete(going, fence_time, tally)
        _tell(context, "Deleting", result, total)
    finally:
        if tally.audit:
            await context.operation.append_audit(number, tally.audit)


def _unlocked(
    group: Sequence[PlannedObject], context: SweepContext
) -> tuple[list[PlannedObject], list[tuple[PlannedObject, str]]]:
    """Objects under the bucket's default retention are not touched: some stores do not show it on HEAD."""
    lock = context.capabilities.lock if context.capabilities else None
    days = lock.default_days if lock is not None else None
    if not days:
        return list(group), []
    now = datetime.now(UTC)
    free, held = [], []
    for planned in group:
        until = planned.last_modified + timedelta(days=days + 1)
        if until > now:
            held.append((planned, f"default retention of the bucket until {until:%Y-%m-%d}"))
        else:
            free.append(planned)
    return free, held


async def _regrouped(
    plan: AsyncIterator[Sequence[PlannedObject]], size: _Size
) -> AsyncIterator[list[PlannedObject]]:
    pending: list[PlannedObject] = []
    async for batch in plan:
        pending.extend(batch)
        while len(pending) >= size.now:
            group, pending = pending[: size.now], pending[size.now :]
            yield group
    if pending:
        yield pending


def _tell(context: SweepContext, phase: str, result: SweepResult, total: int) -> None:
    context.progress(Progress(phase, backed_up=result.backed_up, deleted=result.deleted, total=total))


class _timed:  # noqa: N801  reads as a statement
    def __init__(self, result: SweepResult, phase: str) -> None:
        self._result, self._phase = result, phase

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._result.seconds[self._phase] += time.monotonic() - self._began
