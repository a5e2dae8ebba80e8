"""Bring back what was deleted in a bucket whose versioning was switched off while the sweep ran.

A delete marker is a restorable delete only while versioning is Enabled. In a suspended bucket the same request replaces
the null version, so the bytes in the bucket are gone and those in the vault are all there is. The sweep was not allowed
to delete like that; each such object comes back from the vault before anything else happens. Killed in here, the
objects are verified orphans with a proven backup, recorded in an open journal: the next check brings back those that
are referenced, and a restore brings back all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from s3gc.backup.bringing import bring_back
from s3gc.exceptions import RefusedError, S3GCError
from s3gc.store.bucket import Bucket
from s3gc.vault.records import AuditRecord, BackupEntry
from s3gc.vault.vault import Vault

__all__ = ["undo_unversioned"]


async def undo_unversioned(
    bucket: Bucket, vault: Vault, destroyed: Sequence[tuple[BackupEntry, str]], audit: list[AuditRecord]
) -> RefusedError:
    """Bring `destroyed` (entry, what was seen) back, note it in `audit`, and return the error that ends the sweep."""
    failed: list[str] = []
    for entry, seen in destroyed:
        try:
            versioning = (await bucket.versioning()).status
            how = await bring_back(bucket, vault, entry, versioning=versioning)
        except S3GCError as error:
            failed.append(error.message)
            audit.append(_record(entry, "failed", f"{seen}; {error.message}"))
            continue
        audit.append(_record(entry, "restored", f"{seen}; {how}"))
    objects = "1 object was" if len(destroyed) == 1 else f"{len(destroyed)} objects were"
    message = (
        f"versioning of bucket {bucket.name!r} was switched off while the sweep ran ({destroyed[0][1]}): {objects} "
        "deleted without a delete marker of their own and brought back from the vault. Nothing more is deleted until "
        "versioning is Enabled again"
    )
    if failed:
        message += (
            f". {len(failed)} of them could not be brought back yet; their bytes are in the vault, restore them once "
            f"versioning is Enabled. The first because: {failed[0]}"
        )
    return RefusedError(
        message, details={"guard": "versioning", "bucket": bucket.name, "failed": len(failed)}
    )


def _record(entry: BackupEntry, action: str, detail: str) -> AuditRecord:
    return AuditRecord(
        at=datetime.now(UTC),
        operation_id=entry.operation_id,
        key=entry.key,
        action=action,
        reason="versioning was switched off",
        detail=detail,
        etag=entry.etag,
        size=entry.size,
        version_id=entry.version_id,
    )
