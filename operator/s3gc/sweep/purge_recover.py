"""Close the purges that a run left open: what became of each version, counted once, whoever counts.

A run that is killed while it purges leaves, at worst, (a) an intent with the version still there, (b) a version removed
and not recorded, (c) a record without its audit, (d) our markers standing alone, (e) no result. The purge's journal
names every version that any of these can concern. What is left in the bucket decides, as in the run itself; the bytes
reclaimed are the sum over that operation's records and stand in *its* result, never in that of the run that recovers.
Doing all this twice changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from s3gc.backup.settle import write_cut_off_result
from s3gc.exceptions import VaultCorruptedError
from s3gc.store.bucket import Bucket
from s3gc.sweep.purge_records import record_outcomes, tidy_markers
from s3gc.sweep.purge_version import IsOlder, judge
from s3gc.vault.operations import Operation
from s3gc.vault.purges import Purged, PurgeIntent, PurgeJournal
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Scope, Vault

__all__ = ["close_purges", "open_purges", "recover_purges"]


async def open_purges(vault: Vault, scope: Scope) -> list[Operation]:
    """Operations of this scope that purged and were not closed since, oldest first."""
    records = await vault.operations(scope_id=scope.id)
    return [vault.operation(r.id) for r in reversed(records) if r.extra.get("purge") == "open"]


async def recover_purges(
    bucket: Bucket, vault: Vault, operation: Operation, *, concurrency: int, is_resumed: bool = False
) -> None:
    """Judge what `operation` left open, and bring its records and its result up to that. `is_resumed`: the result is
    still to be written, by the run that resumes it."""
    journal = PurgeJournal(operation)
    opened = await journal.open_numbers()
    for number in opened:
        intents = await journal.intents(number)
        await journal.end(number, await _judge_all(bucket, vault, intents))
    # Every earlier batch had its audits and markers done before the next one began.
    for number in {*opened, *(await journal.numbers())[-1:]}:
        outcomes = await journal.outcomes(number)
        for of in sorted({outcome.intent.of for outcome in outcomes}):
            target = vault.operation(of)
            if await target.exists():
                await record_outcomes(target, operation.id, [o for o in outcomes if o.intent.of == of])
                await target.write_manifest()
        await tidy_markers(bucket, outcomes, concurrency)
    if not is_resumed:
        await _correct_result(operation, journal)
        await close_purges(operation)


async def close_purges(operation: Operation) -> None:
    """Note that everything this operation purged is recorded and counted, its result included."""
    record = await operation.record()
    if record.extra.get("purge") == "open" and not await PurgeJournal(operation).open_numbers():
        await operation.update(extra={**record.extra, "purge": "closed"})


async def _judge_all(bucket: Bucket, vault: Vault, intents: Sequence[PurgeIntent]) -> list[Purged]:
    outcomes: list[Purged] = []
    for of in sorted({intent.of for intent in intents}):
        mine = [intent for intent in intents if intent.of == of]
        entries = await _backups(vault.operation(of), mine)
        for intent in mine:
            entry = entries.get((intent.key, intent.version_id))
            after = await bucket.versions(intent.key)
            outcomes.append(await judge(bucket, vault, entry, intent, after, is_older=_older_than(entry)))
    return outcomes


def _older_than(entry: BackupEntry | None) -> IsOlder:
    """By the store's own times: an upload that came after ours was deleted is younger by the whole age that ours had.
    One that ours replaced is older, or as old (versitygw gives a version the time at which it was replaced)."""
    until = (
        entry.last_modified + timedelta(seconds=2) if entry is not None else datetime.fromtimestamp(0, UTC)
    )
    return lambda version: version.last_modified <= until


async def _backups(
    operation: Operation, intents: Sequence[PurgeIntent]
) -> dict[tuple[str, str], BackupEntry]:
    entries: dict[tuple[str, str], BackupEntry] = {}
    # Needed only where an object must come back; where one is missing then, that is an error.
    with contextlib.suppress(VaultCorruptedError, FileNotFoundError):
        async for entry in operation.entries(keys=[intent.key for intent in intents]):
            entries[entry.key, entry.version_id or "null"] = entry
    return entries


async def _correct_result(operation: Operation, journal: PurgeJournal) -> None:
    count, size = await journal.total()
    record, result = await operation.record(), await operation.result()
    if result is None:
        # Killed before it had one.
        result = await write_cut_off_result(operation, purged=count)
        await operation.update(
            outcome=str(record.outcome or result.outcome),
            completed_at=record.completed_at or result.completed_at,
        )
    corrected = result.model_copy(
        update={
            "purged_count": count,
            "purged_bytes": size,
            "reclaimed_bytes": result.reclaimed_bytes - result.purged_bytes + size,
        }
    )
    await operation.write_result(corrected)
