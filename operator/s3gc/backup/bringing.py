"""Bring one object back without ever covering something newer.

The order, and why each step loses nothing:

1. Versioned, and a delete marker is latest above exactly the version that was recorded: that marker is
   removed by its version id. No byte moves; removing a marker never removes data.
2. Something is there: it is left alone, whatever it is.
3. Nothing is there: the object is written with ``If-None-Match: *``, so whoever uploads at the same moment
   wins. Where a store refuses that above a delete marker (versitygw answers 412), it is written without the
   condition, which in a versioned bucket destroys nothing, and the versions then tell whether an upload
   slipped in between: it would lie between the marker and ours, and ours is removed again by its version id.

Where versioning is Suspended, "null" names no particular version: whatever is uploaded there replaces it. So no
marker is removed by that id, and nothing is written where that would destroy another null version. A store that
takes a marker for an object is then written to without the condition, directly after it was seen that nothing is
there, as everywhere else where a store knows no conditional create.

Bytes are proven before a store can complete the object (see `reading`), and what the store made of the
headers is compared afterwards: some drop a storage class or an encryption silently.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal

from s3gc.backup.headers import (
    are_tags_apart,
    comparable_etags,
    grants_in,
    headers_for,
    lost_in,
    part_size_of,
)
from s3gc.backup.reading import read_object
from s3gc.exceptions import AccessDeniedError, RestoreError, StoreError
from s3gc.store.bucket import Bucket, VersioningStatus
from s3gc.store.types import ObjectHead, ObjectVersion, PutAnswer
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Vault

__all__ = ["Brought", "bring_back", "is_recorded_version", "write_back", "write_on_top"]

Brought = Literal["restored_marker", "restored", "present"]

#: Codes of a 400 that say of a header that the store does not have what it asks for.
_UNKNOWN = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})
_CLASS = "x-amz-storage-class"
_LARGEST_PUT = 5 * 1024**3
#: Up to this size a body is in memory as a whole; larger ones stream, and are sent once.
WHOLE_BYTES = 16 * 1024 * 1024


async def bring_back(
    bucket: Bucket,
    vault: Vault,
    entry: BackupEntry,
    *,
    versioning: VersioningStatus,
    create_only: str = "honoured",
    marker_version_id: str | None = None,
    key: str | None = None,
    notes: list[str] | None = None,
) -> Brought:
    """Bring `entry`'s object back and verify it; return how, or "present" when something was there and was
    left.

    `versioning` is the bucket's, as it is now. `create_only` is what the probe saw
    (`Capabilities`); with "refused" the write goes without its condition, directly after a HEAD.
    `marker_version_id` is our own marker where the audit knows it: another one is then not removed. `key`
    is another place than the original (then versions are not looked at). What came back other than it was
    is appended to `notes`.

    Raises RestoreError; VaultCorruptedError for damaged bytes, StoreError for a store that failed. It can
    be repeated.
    """
    place = entry.key if key is None else key
    noted = notes if notes is not None else []
    if versioning != "Off" and key is None:
        versions = await bucket.versions(entry.key)
        uncovered = await _uncover(bucket, entry, versions, marker_version_id, versioning)
        if uncovered is not None:
            return uncovered
        if versioning == "Suspended":
            _keep_null_version(bucket, entry, versions)
    if await bucket.head(place) is not None:
        return "present"
    is_original = key is None
    answer = await _create(
        bucket,
        vault,
        entry,
        place,
        create_only=create_only != "refused",
        is_original=is_original,
        notes=noted,
    )
    if answer is None:
        head = await bucket.head(place)
        if head is not None:
            # Either somebody was faster, or this is our own first attempt whose answer was lost.
            return "restored" if head.size == entry.size and head.etag == entry.etag else "present"
        if versioning == "Enabled":
            return await _write_over_marker(bucket, vault, entry, place, is_original=is_original, notes=noted)
        if versioning == "Suspended":
            answer = await write_back(
                bucket, vault, entry, place, create_only=False, is_original=is_original, notes=noted
            )
        if answer is None:
            raise RestoreError(
                f"bucket {bucket.name!r}: the store refuses to create key {place!r} although nothing is "
                "there (412). Try again"
            )
    await _verify(bucket, entry, place, answer, noted)
    return "restored"


def is_recorded_version(entry: BackupEntry, version: ObjectVersion) -> bool:
    """Whether `version` is the one that was backed up. A version id is an identity.

    The version of before versioning is "null" in a listing of versions and has no id in HEAD; then ETag and size
    decide, and that it is no older: while versioning is Enabled nothing can take its place, and versitygw gives a
    version that became noncurrent the time at which it did."""
    if version.is_marker or version.etag != entry.etag or version.size != entry.size:
        return False
    if entry.version_id in (None, "null"):
        is_no_older = version.last_modified >= entry.last_modified.replace(microsecond=0)
        return version.version_id in ("", "null") and is_no_older
    return version.version_id == entry.version_id


async def _uncover(
    bucket: Bucket,
    entry: BackupEntry,
    versions: Sequence[ObjectVersion],
    marker_version_id: str | None,
    versioning: VersioningStatus,
) -> Brought | None:
    """Step 1; None when the object has to be written."""
    if not versions:
        return None
    marker = versions[0]
    if not marker.is_marker:
        return "present"
    below = versions[1] if len(versions) > 1 else None
    if below is None or below.is_marker or (versioning == "Suspended" and marker.version_id == "null"):
        return None
    is_ours = marker_version_id in (None, marker.version_id)
    if is_ours and is_recorded_version(entry, below):
        try:
            await bucket.delete(entry.key, version_id=marker.version_id)
        except AccessDeniedError:
            return None  # without the right to remove a marker the bytes are written anew
        head = await bucket.head(entry.key)
        if head is None:
            raise RestoreError(
                f"bucket {bucket.name!r}: the delete marker of key {entry.key!r} was removed, and the "
                "object is still not "
                "there; somebody deletes it at the same time. Try again"
            )
        return "restored_marker"
    if marker_version_id == marker.version_id and _is_newer(entry, below, versions):
        # Our marker hides what was uploaded after the backup: that is the newer data, and it must be seen
        # again.
        await bucket.delete(entry.key, version_id=marker.version_id)
        return "present"
    return None


def _keep_null_version(bucket: Bucket, entry: BackupEntry, versions: Sequence[ObjectVersion]) -> None:
    for version in versions:
        if version.version_id == "null" and not version.is_marker and not is_recorded_version(entry, version):
            raise RestoreError(
                f"bucket {bucket.name!r}: versioning is Suspended, so writing key {entry.key!r} would destroy its "
                "noncurrent null version, which is another object. Enable versioning and restore again"
            )


def _is_newer(entry: BackupEntry, below: ObjectVersion, versions: Sequence[ObjectVersion]) -> bool:
    """Whether `below` was uploaded after the recorded version: by the order of the versions where the
    recorded one is among them, else by a later second (a listing may have milliseconds that the recorded
    time has not)."""
    if any(is_recorded_version(entry, version) for version in versions):
        return True  # the recorded one is not directly below the marker, so what is there came after it
    return below.last_modified.replace(microsecond=0) > entry.last_modified.replace(microsecond=0)


async def _write_over_marker(
    bucket: Bucket, vault: Vault, entry: BackupEntry, key: str, *, is_original: bool, notes: list[str]
) -> Brought:
    """Step 3 where the store takes a delete marker for an object."""
    before = await bucket.versions(key)
    if not before or not before[0].is_marker:
        return "present"
    return await write_on_top(bucket, vault, entry, key, before, is_original=is_original, notes=notes)


async def write_on_top(
    bucket: Bucket,
    vault: Vault,
    entry: BackupEntry,
    key: str,
    before: Sequence[ObjectVersion],
    *,
    is_original: bool,
    notes: list[str],
) -> Brought:
    """Write above the versions that were seen in `before`, in a bucket whose versioning is Enabled: nothing is
    destroyed. "present" when somebody uploaded in between: ours is removed again, so that theirs is seen."""
    answer = await write_back(
        bucket, vault, entry, key, create_only=False, is_original=is_original, notes=notes
    )
    if answer is None or not answer.version_id:
        raise RestoreError(
            f"bucket {bucket.name!r}: the store gave no version id for key {key!r}; look at its versions"
        )
    # Whatever is there now, was not there before, and is not ours, was uploaded meanwhile. Told by version
    # ids and not by the order of the list: within one second some stores' times do not say which came first.
    known = {version.version_id for version in before} | {answer.version_id}
    after = await bucket.versions(key)
    if any(not version.is_marker and version.version_id not in known for version in after):
        await bucket.delete(
            key, version_id=answer.version_id
        )  # ours alone: the upload is seen again, or still
        return "present"
    await _verify(bucket, entry, key, answer, notes)
    return "restored"


# --- writing


async def _create(
    bucket: Bucket,
    vault: Vault,
    entry: BackupEntry,
    key: str,
    *,
    create_only: bool,
    is_original: bool,
    notes: list[str],
) -> PutAnswer | None:
    """Write where nothing is. A store that answers that it knows no ``If-None-Match`` has written nothing: it gets the
    object without, directly after it was seen once more that nothing is there. Whoever heals or restores has not probed
    the store, and must be able to bring back what was deleted in any."""
    write = partial(write_back, bucket, vault, entry, key, is_original=is_original, notes=notes)
    try:
        return await write(create_only=create_only)
    except StoreError as error:
        if not create_only or not _says_unknown(error):
            raise
    return await write(create_only=False) if await bucket.head(key) is None else None


def _says_unknown(error: StoreError) -> bool:
    status, code = error.details.get("status"), error.details.get("code")
    return status == 501 or (status == 400 and code in _UNKNOWN)


async def write_back(
    bucket: Bucket,
    vault: Vault,
    entry: BackupEntry,
    key: str,
    *,
    create_only: bool,
    is_original: bool,
    notes: list[str],
    if_match: str | None = None,
) -> PutAnswer | None:
    """Write the object with all that is recorded of it; None when the condition (`create_only`,
    `if_match`) failed."""
    answer = await _written(
        bucket,
        vault,
        entry,
        key,
        create_only=create_only,
        is_original=is_original,
        notes=notes,
        if_match=if_match,
    )
    if answer is not None and are_tags_apart(entry):
        try:
            head = await bucket.head(key)
            if head is not None and head.etag == answer.etag:  # else: uploaded again, with tags of its own
                await bucket.set_tags(key, entry.tags or ())
        except StoreError as error:
            notes.append(f"{key!r}: its tags did not come back: {error.message}")
    return answer


async def _written(
    bucket: Bucket,
    vault: Vault,
    entry: BackupEntry,
    key: str,
    *,
    create_only: bool,
    is_original: bool,
    notes: list[str],
    if_match: str | None,
) -> PutAnswer | None:
    is_multipart = entry.size > _LARGEST_PUT or ("-" in entry.etag and entry.size > 0 and if_match is None)
    headers = headers_for(entry, is_original=is_original, is_multipart=is_multipart)
    try:
        return await _write(bucket, vault, entry, key, headers, is_multipart, create_only, if_match)
    except StoreError as error:
        left_out, note = _cannot_take(error, headers)
        if not left_out:
            raise
        notes.append(f"{key!r}: {note}")
        plain = {name: value for name, value in headers.items() if name not in left_out}
        return await _write(bucket, vault, entry, key, plain, is_multipart, create_only, if_match)


def _cannot_take(error: StoreError, headers: Mapping[str, str]) -> tuple[set[str], str]:
    """Headers that this store does not take (any more) and without which the object can come back all the same."""
    code = error.details.get("code")
    if code == "AccessControlListNotSupported":
        return grants_in(headers), "the bucket takes no ACLs any more, the recorded one did not come back"
    if code == "InvalidStorageClass" and _CLASS in headers:
        # MinIO shows the name of the tier that a lifecycle rule moved an object to, and takes no upload into a tier.
        return {
            _CLASS
        }, f"the store takes no upload of storage class {headers[_CLASS]}, so it has the default one"
    return set(), ""


async def _write(
    bucket: Bucket,
    vault: Vault,
    entry: BackupEntry,
    key: str,
    headers: dict[str, str],
    is_multipart: bool,
    create_only: bool,
    if_match: str | None,
) -> PutAnswer | None:
    async with aclosing(read_object(vault, entry)) as content:
        if is_multipart:
            if if_match is not None:
                raise RestoreError(
                    f"key {key!r} is larger than one PUT may be, so it cannot replace what is there"
                )
            return await _write_parts(bucket, entry, key, headers, content, create_only)
        # Up to this size it is read, and so proven, as a whole, and can be sent again. The SHA-256 goes into
        # the signature, so that the store itself refuses other bytes, and a stream that ends short as well.
        body = content if entry.size > WHOLE_BYTES else b"".join([piece async for piece in content])
        return await bucket.put(
            key,
            body,
            size=entry.size,
            headers=headers,
            create_only=create_only,
            if_match=if_match,
            sha256=entry.sha256,
        )


async def _write_parts(
    bucket: Bucket,
    entry: BackupEntry,
    key: str,
    headers: dict[str, str],
    content: AsyncGenerator[bytes, None],
    create_only: bool,
) -> PutAnswer | None:
    """Upload in the parts that the original probably had, so that its ETag comes back too where that is
    possible."""
    size = part_size_of(entry)
    upload = await bucket.create_multipart(key, headers=headers)
    answer: PutAnswer | None = None
    try:
        parts: list[tuple[int, str]] = []
        rest = _Rest(content)
        for number, start in enumerate(range(0, entry.size, size), start=1):
            length = min(size, entry.size - start)
            body = rest.take(length)
            sent = body if length > WHOLE_BYTES else b"".join([piece async for piece in body])
            parts.append((number, await bucket.upload_part(key, upload, number, sent, size=length)))
            del sent
            gc.collect(1)  # a request holds its body in a reference cycle, see `packs`
        async for _ in content:
            raise RestoreError(f"key {key!r}: the vault has more bytes than were recorded")
        if create_only and await bucket.head(key) is not None:
            # The parts took their time, and some stores honour the condition on PUT and not on this.
            return None
        # Only here does an object come to be, and the generator has ended, so every byte of it was proven.
        answer = await bucket.complete_multipart(key, upload, parts, create_only=create_only)
    finally:
        if answer is None:
            await bucket.abort_multipart(key, upload)
    return answer


class _Rest:
    """Cuts a stream into lengths, holding at most one piece of it."""

    def __init__(self, content: AsyncGenerator[bytes, None]) -> None:
        self._content = content
        self._left = b""

    async def take(self, length: int) -> AsyncIterator[bytes]:
        while length:
            piece = self._left or await anext(self._content, b"")
            if not piece:
                return
            self._left = piece[length:]
            piece = piece[:length]
            length -= len(piece)
            yield piece


# --- verifying


async def _verify(bucket: Bucket, entry: BackupEntry, key: str, answer: PutAnswer, notes: list[str]) -> None:
    head: ObjectHead | None = await bucket.head(key)
    if head is None:
        raise RestoreError(
            f"bucket {bucket.name!r}: key {key!r} was written and is not there; somebody deletes it at the "
            "same time. Try again"
        )
    if head.etag != answer.etag:
        return  # uploaded again directly after us: theirs is newer, and theirs to judge
    if head.size != entry.size or (comparable_etags(entry, head) and head.etag != entry.etag):
        raise RestoreError(
            f"bucket {bucket.name!r}: key {key!r} came back with {head.size} bytes and ETag {head.etag}, "
            "recorded were "
            f"{entry.size} bytes and ETag {entry.etag}. The backup was proven, so ask the store"
        )
    notes.extend(f"{key!r}: {loss}" for loss in lost_in(entry, head))
