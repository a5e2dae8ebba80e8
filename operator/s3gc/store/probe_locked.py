"""What a bucket that locks new objects by default does with deletes, seen on one object that stays for good.

An ordinary probe would leave objects there that nobody can remove for years. But a lock does not stop a delete marker,
and a marker is never locked: so one tiny object, made once and kept under a name of its own, answers whether If-Match
is honoured on DELETE and whether a marker can be removed again, by markers alone. Two policies that probe at the same
moment may spoil each other's answer; every such mistake is on the side of refusing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from s3gc.config import RESERVED_PREFIX
from s3gc.exceptions import AccessDeniedError, StoreError
from s3gc.store.bucket import Bucket

if TYPE_CHECKING:
    from s3gc.store.probe import Honesty

__all__ = ["LOCKED_PROBE", "probe_locked"]

LOCKED_PROBE = f"{RESERVED_PREFIX}probe/locked"
_BODY = b"s3gc tries on this object what a delete does in this bucket. It is locked like any other; leave it here.\n"
_WRONG_ETAG = "0" * 31 + "1"


async def probe_locked(bucket: Bucket, notes: list[str], repeats: int = 5) -> tuple[Honesty, bool]:
    """Return what becomes of a wrong If-Match on DELETE, and whether a marker of our own can be removed.

    Raises what the first write raises when nothing may be written at all.
    """
    if not await _uncover(bucket, notes):
        return "unknown", False
    head = await bucket.head(LOCKED_PROBE)
    if head is None:
        await bucket.put(LOCKED_PROBE, _BODY, size=len(_BODY))
        head = await bucket.head(LOCKED_PROBE)
        if head is None:
            notes.append(f"{LOCKED_PROBE!r} was stored and is not there.")
            return "unknown", False
    answers = await asyncio.gather(*(_delete(bucket, _WRONG_ETAG) for _ in range(repeats)))
    if await bucket.head(LOCKED_PROBE) is None:
        return "ignored", await _uncover(bucket, notes)
    await _delete(bucket, head.etag)
    is_hidden = await bucket.head(LOCKED_PROBE) is None
    honesty: Honesty = "honoured" if is_hidden and all(status == 412 for status in answers) else "refused"
    if not is_hidden:  # a server that refuses every condition: a marker without one tells the rest
        await bucket.delete(LOCKED_PROBE)
    return honesty, await _uncover(bucket, notes)


async def _delete(bucket: Bucket, etag: str) -> int:
    try:
        return (await bucket.delete(LOCKED_PROBE, if_match=etag)).status
    except AccessDeniedError:
        raise
    except StoreError as error:  # 501, 400: what is left decides
        status = error.details.get("status")
        return status if isinstance(status, int) else 0


async def _uncover(bucket: Bucket, notes: list[str]) -> bool:
    """Remove every marker of the probe's own object, by its version id; whether that can be done."""
    for version in await bucket.versions(LOCKED_PROBE):
        if not version.is_marker:
            continue
        try:
            await bucket.delete(LOCKED_PROBE, version_id=version.version_id)
        except (AccessDeniedError, StoreError) as error:
            notes.append(f"A delete marker of our own could not be removed: {error.message}")
            return False
    return True
