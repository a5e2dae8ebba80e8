"""Remove one noncurrent version for good, or leave it: what must be there before, and what is judged afterwards.

Why this loses nothing:

* An exact version id cannot hit what was uploaded since. It is sent only while our own delete marker is the latest and
  exactly that version lies directly below it, so the object is out of view and was put there by us. Whoever uploaded
  above, deleted by themselves or took our marker away has made the key theirs again: nothing of it is touched.
* The bytes were read back from the vault and compared just before (`sweep.purge`).
* What remains is a person who takes the marker away between the last look and the request. Then what we removed was in
  view; the versions show it afterwards, and the object comes back from the vault, above whatever older version came
  into view in its place.
* The version of before versioning is called "null", and "null" is an identity only while versioning is Enabled: that
  is asked immediately before such a version is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from s3gc.backup.bringing import bring_back, is_recorded_version, write_on_top
from s3gc.exceptions import AccessDeniedError, StoreError, ThrottledError, VaultCorruptedError
from s3gc.store.bucket import Bucket
from s3gc.store.types import ObjectVersion
from s3gc.vault.purges import Purged, PurgeIntent
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Vault

__all__ = ["IsOlder", "is_alone", "judge", "purge_version", "why_not"]

#: Whether a version existed before ours did.
IsOlder = Callable[[ObjectVersion], bool]


def why_not(versions: Sequence[ObjectVersion], entry: BackupEntry, marker_version_id: str) -> str:
    """Why nothing of this key may be purged, as a short fixed phrase; empty when it may."""
    if not any(is_recorded_version(entry, version) for version in versions):
        return "gone"  # a lifecycle rule or somebody else was faster
    latest = versions[0]
    if not latest.is_marker:
        return "back in view" if is_recorded_version(entry, latest) else "uploaded again"
    if latest.version_id != marker_version_id:
        return "another marker"
    if not is_recorded_version(entry, versions[1]):
        return "another version below"
    return ""


def is_alone(versions: Sequence[ObjectVersion], marker_version_id: str) -> bool:
    """Whether our marker is all that is left of the key: what S3's lifecycle calls an expired object delete marker."""
    return len(versions) == 1 and versions[0].is_marker and versions[0].version_id == marker_version_id


async def purge_version(
    bucket: Bucket, vault: Vault, entry: BackupEntry, intent: PurgeIntent
) -> Purged | None:
    """Remove the version that `intent` names, if `why_not` has nothing against it. None: nobody knows what became of
    it (the store failed afterwards), and the journal must stay open.

    Raises ThrottledError before anything was sent; other errors of the store are outcomes.
    """
    try:
        before = await bucket.versions(entry.key)
        reason = why_not(before, entry, intent.marker_version_id)
        if not reason and intent.version_id == "null" and (await bucket.versioning()).status != "Enabled":
            reason = "versioning"
    except ThrottledError:
        raise
    except StoreError as error:
        return kept(intent, "failed", error.message)
    if reason:
        return kept(intent, reason)
    try:
        await bucket.delete(entry.key, version_id=intent.version_id)
    except AccessDeniedError as error:
        return kept(intent, "locked" if _is_locked(error.message) else "denied", error.message)
    except StoreError as error:
        if error.details.get("status") == 400:  # MinIO's way of saying that a lock protects it
            return kept(intent, "locked" if _is_locked(error.message) else "failed", error.message)
        # Lost or a stumble: what is left decides.
    known = {version.version_id for version in before}
    try:
        after = await bucket.versions(entry.key)
        return await judge(bucket, vault, entry, intent, after, is_older=lambda v: v.version_id in known)
    except StoreError:
        return None


async def judge(
    bucket: Bucket,
    vault: Vault,
    entry: BackupEntry | None,
    intent: PurgeIntent,
    after: Sequence[ObjectVersion],
    *,
    is_older: IsOlder,
) -> Purged:
    """Say what became of the version from what is left. Brings the object back where our marker was taken away while
    the version was removed. Doing it twice changes nothing. `entry` is None where the vault lost its copy."""
    if any(_is_intended(version, intent) for version in after):
        return kept(intent, "still there")
    if any(version.version_id == intent.marker_version_id for version in after):
        return Purged(intent, "purged", _now())
    # Somebody took our marker away: the version we removed was in view, or about to be.
    if entry is None:
        raise VaultCorruptedError(
            f"bucket {bucket.name!r}: the delete marker of key {intent.key!r} was removed while its version was "
            f"purged, and the vault has no backup of it any more in operation {intent.of}. Look for another copy of "
            "the vault",
            details={"key": intent.key},
        )
    if not after:
        how = await bring_back(bucket, vault, entry, versioning="Enabled")
    elif not after[0].is_marker and is_older(after[0]):
        # An older version came into view in its place: nobody asked for that one.
        how = await write_on_top(bucket, vault, entry, entry.key, after, is_original=True, notes=[])
    else:
        return Purged(
            intent, "purged", _now(), detail="uploaded again, or deleted by somebody else, at the same time"
        )
    return Purged(intent, "restored", _now(), "its marker was removed while it was purged", how)


def _is_intended(version: ObjectVersion, intent: PurgeIntent) -> bool:
    same = (version.version_id or "null", version.etag, version.size)
    return not version.is_marker and same == (intent.version_id, intent.etag, intent.size)


def kept(intent: PurgeIntent, reason: str, detail: str = "") -> Purged:
    return Purged(intent, "kept", _now(), reason, detail)


def _is_locked(message: str) -> bool:
    text = message.lower()
    return "object lock" in text or "worm" in text or "legal hold" in text or "retention" in text


def _now() -> str:
    return datetime.now(UTC).isoformat()
