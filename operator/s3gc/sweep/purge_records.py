"""What a purge leaves on record: audits in the operation whose objects it purged, and markers tidied away.

Both come after the purge's own journal is durable, and both can be done again after a kill without a second effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from s3gc.exceptions import AccessDeniedError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.sweep.purge_version import is_alone
from s3gc.vault.operations import Operation
from s3gc.vault.purges import Purged, PurgeIntent
from s3gc.vault.records import AuditRecord

__all__ = ["record_outcomes", "tidy_markers"]


async def record_outcomes(operation: Operation, by: str, outcomes: Sequence[Purged]) -> None:
    """Audit what was purged (or brought back) in the groups of `operation`, each once; `by` is the purging one.

    In the object's own group, after what is there: so its last record says where its bytes are.
    """
    groups: dict[int, list[Purged]] = {}
    for outcome in outcomes:
        if outcome.state != "kept":
            groups.setdefault(outcome.intent.group, []).append(outcome)
    for group, items in groups.items():
        known = {
            (r.key, r.action) for r in await operation.audit_of(group) if r.action in ("purged", "restored")
        }
        missing = [_record(item, by) for item in items if (item.intent.key, item.state) not in known]
        await operation.append_audit(group, missing)


def _record(outcome: Purged, by: str) -> AuditRecord:
    intent = outcome.intent
    return AuditRecord(
        at=datetime.fromisoformat(outcome.at),
        operation_id=intent.of,
        key=intent.key,
        action=outcome.state,
        reason=outcome.reason or "noncurrent, its backup proven",
        detail=f"by operation {by}" + (f"; {outcome.detail}" if outcome.detail else ""),
        etag=intent.etag,
        size=intent.size,
        version_id=intent.version_id,
        marker_version_id=intent.marker_version_id,
    )


async def tidy_markers(bucket: Bucket, outcomes: Sequence[Purged], concurrency: int) -> None:
    """Remove our markers of purged versions where nothing else of the key is left.

    An application's upload above it would make it one of two, and it stays; below it there is nothing that could come
    into view. A marker that cannot be removed is harmless and stays, too.
    """
    queue = iter([outcome.intent for outcome in outcomes if outcome.state == "purged"])

    async def worker() -> None:
        for intent in queue:
            await _tidy(bucket, intent)

    await asyncio.gather(*(worker() for _ in range(max(1, min(concurrency, len(outcomes))))))


async def _tidy(bucket: Bucket, intent: PurgeIntent) -> None:
    try:
        if is_alone(await bucket.versions(intent.key), intent.marker_version_id):
            await bucket.delete(intent.key, version_id=intent.marker_version_id)
    except (AccessDeniedError, StoreError):
        return
