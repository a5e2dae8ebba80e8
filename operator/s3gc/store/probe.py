"""What this store really does with a condition, seen on objects of our own, judged by what is left
afterwards.

Several stores accept `If-Match` on DELETE and delete anyway, so a status code proves nothing. Each question
here is asked with a wrong ETag (the object must stay) and, as a positive control, with the right one (it must
go: a server that answers 412 to everything is "refused", not "honoured"). The wrong one is asked several
times at once, over as many connections, because the nodes behind one load balancer may run different
versions.

All objects lie under `.s3gc/probe/<random>/`, which no scope ever includes; nobody else can know their keys.
They are removed by exact key and version. Where the bucket locks new objects by default they could not be:
there one object that stays is asked instead (`probe_locked`). The result is valid for one run.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal

from s3gc.config import RESERVED_PREFIX
from s3gc.exceptions import AccessDeniedError, StoreError
from s3gc.store.bucket import Bucket
from s3gc.store.probe_locked import probe_locked
from s3gc.store.settings import LockConfiguration, VersioningState

__all__ = ["Capabilities", "Honesty", "probe"]

Honesty = Literal["honoured", "ignored", "refused", "unknown"]

#: An ETag that no object has: the MD5 of nothing we know, and of the right shape.
_WRONG_ETAG = "0" * 31 + "1"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the store was seen to do. "unknown" (not tried, or not allowed) must be treated like "ignored".

    `create_only_put` and `create_only_complete` are `If-None-Match: *`; `remove_version` says that exactly
    one version (our own marker) can be removed; `aliases` are spellings of a key that reach the same object
    (`a//b`, `a/./b`, `/a/b`); `notes` are sentences for the report.
    """

    versioning: VersioningState
    lock: LockConfiguration
    delete_if_match: Honesty = "unknown"
    create_only_put: Honesty = "unknown"
    create_only_complete: Honesty = "unknown"
    remove_version: bool = False
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Probe:
    """One run: its random prefix, what it made, what it has to say."""

    def __init__(self, bucket: Bucket, repeats: int) -> None:
        self.bucket = bucket
        self.repeats = repeats
        self.base = f"{RESERVED_PREFIX}probe/{uuid.uuid4().hex}/"
        self.made: list[str] = []
        self.notes: list[str] = []

    async def put(self, name: str, body: bytes = b"probe") -> tuple[str, str]:
        key = self.base + name
        self.made.append(key)
        answer = await self.bucket.put(key, body, size=len(body))
        return key, answer.etag if answer else ""

    async def is_there(self, key: str) -> bool:
        return await self.bucket.head(key) is not None

    async def ask(self, question: str, answer: Awaitable[Honesty]) -> Honesty:
        """One question; a right that is missing or a store that stumbles makes it "unknown", with a note."""
        try:
            return await answer
        except (AccessDeniedError, StoreError) as error:
            self.notes.append(f"{question} could not be probed: {error.message}")
            return "unknown"

    async def delete_if_match(self) -> Honesty:
        made = await asyncio.gather(*(self.put(f"delete-{number}") for number in range(self.repeats)))
        if not all(await asyncio.gather(*(self.is_there(key) for key, _ in made))):
            raise StoreError("an object that was just stored is not there")
        answers = await asyncio.gather(*(self._try_delete(key, _WRONG_ETAG) for key, _ in made))
        kept = await asyncio.gather(*(self.is_there(key) for key, _ in made))
        if not all(kept):
            if any(kept):
                self.notes.append(
                    f"{sum(kept)} of {len(kept)} deletes with a wrong If-Match were refused and the others carried "
                    "out: the nodes of this endpoint differ."
                )
            return "ignored"
        key, etag = made[0]
        await self._try_delete(key, etag)
        is_gone = not await self.is_there(key)
        return "honoured" if is_gone and all(status == 412 for status in answers) else "refused"

    async def _try_delete(self, key: str, etag: str) -> int:
        try:
            return (await self.bucket.delete(key, if_match=etag)).status
        except AccessDeniedError:
            raise
        except StoreError as error:  # 501, 400: what is left decides
            status = error.details.get("status")
            return status if isinstance(status, int) else 0

    async def create_only_put(self) -> Honesty:
        key, _ = await self.put("create", b"first")
        refused = await self._refusal(self.bucket.put(key, b"second!", size=7, create_only=True))
        head = await self.bucket.head(key)
        if head is None or head.size != len(b"first"):
            return "ignored"
        fresh = self.base + "create-fresh"
        self.made.append(fresh)
        made = await self._refusal(self.bucket.put(fresh, b"fresh", size=5, create_only=True))
        return "honoured" if refused and not made and await self.is_there(fresh) else "refused"

    async def create_only_complete(self) -> Honesty:
        key, _ = await self.put("complete", b"first")
        refused = await self._complete(key)
        head = await self.bucket.head(key)
        if head is None or head.size != len(b"first"):
            return "ignored"
        fresh = self.base + "complete-fresh"
        self.made.append(fresh)
        made = await self._complete(fresh)
        return "honoured" if refused and not made and await self.is_there(fresh) else "refused"

    async def _complete(self, key: str) -> bool:
        """Whether a create-only completion was refused."""
        upload = await self.bucket.create_multipart(key)
        try:
            etag = await self.bucket.upload_part(key, upload, 1, b"second!", size=7)
            return await self._refusal(
                self.bucket.complete_multipart(key, upload, [(1, etag)], create_only=True)
            )
        finally:
            await self.bucket.abort_multipart(key, upload)  # a refused completion leaves its parts

    async def _refusal(self, attempt: Awaitable[object]) -> bool:
        try:
            return await attempt is None
        except AccessDeniedError:
            raise
        except StoreError:
            return True

    async def remove_version(self, *, is_versioned: bool) -> bool:
        """Delete an object of our own, and where that leaves a marker, remove it.

        Raises AccessDeniedError where the right to delete, or to see what lies below a marker, is missing: without
        either nothing can be deleted safely, so that is said before anything is.
        """
        # First where nothing is: a right that is missing shows before anything is stored that could not be removed.
        key = f"{self.base}version"
        self.made.append(key)
        await self.bucket.delete(key)
        await self.put("version")
        marker = await self.bucket.delete(key)
        if not is_versioned:
            return False
        await self.bucket.versions(key)
        hidden = not await self.is_there(key)
        if not hidden or marker.version_id is None:
            self.notes.append(
                "A delete in this versioned bucket did not leave a delete marker with a version id."
            )
            return False
        try:
            await self.bucket.delete(key, version_id=marker.version_id)
        except (AccessDeniedError, StoreError) as error:
            self.notes.append(f"A delete marker of our own could not be removed: {error.message}")
            return False
        return await self.is_there(key)

    async def aliases(self) -> tuple[str, ...]:
        key, _ = await self.put("alias/x")
        seen: list[str] = []
        spellings = {"a//b": f"{self.base}alias//x", "a/./b": f"{self.base}alias/./x", "/a/b": f"/{key}"}
        for name, spelling in spellings.items():
            try:
                if await self.is_there(spelling):
                    seen.append(name)
            except (AccessDeniedError, StoreError):
                continue  # the store refuses such a key, so it is no alias
        return tuple(seen)

    async def clean_up(self, *, is_versioned: bool) -> None:
        """Remove every version of every object we made, by exact key; what stays is said, and lies in our prefix."""
        left: list[str] = []
        for key in dict.fromkeys(self.made):
            try:
                if is_versioned:
                    for version in await self.bucket.versions(key):
                        await self.bucket.delete(key, version_id=version.version_id)
                elif await self.is_there(key):
                    await self.bucket.delete(key)  # nobody else knows this key
            except (AccessDeniedError, StoreError):
                left.append(key)
        if left:
            self.notes.append(
                f"{len(left)} objects of the probe could not be removed; they lie under {self.base!r}."
            )


async def probe(
    bucket: Bucket,
    *,
    versioning: VersioningState | None = None,
    lock: LockConfiguration | None = None,
    repeats: int = 5,
) -> Capabilities:
    """Find out what the store behind `bucket` honours, in some thirty requests, and leave nothing behind.

    Raises what the first write raises when nothing may be written at all (AccessDeniedError names the right).
    """
    versioning = versioning or await bucket.versioning()
    lock = lock or await bucket.lock_configuration()
    if lock.default_mode is not None:
        notes: list[str] = []
        honesty, can_remove = await probe_locked(bucket, notes, max(1, repeats))
        return Capabilities(versioning, lock, honesty, remove_version=can_remove, notes=tuple(notes))
    run = _Probe(bucket, max(1, repeats))
    try:
        remove_version = await run.remove_version(is_versioned=versioning.status == "Enabled")
        aliases = await run.aliases()
        delete_if_match = await run.ask("If-Match on DELETE", run.delete_if_match())
        create_only_put = await run.ask("If-None-Match on PUT", run.create_only_put())
        create_only_complete = await run.ask(
            "If-None-Match on multipart completion", run.create_only_complete()
        )
    finally:
        await run.clean_up(is_versioned=versioning.status != "Off")
    return Capabilities(
        versioning, lock, delete_if_match, create_only_put, create_only_complete, remove_version, aliases,
        tuple(run.notes),
    )  # fmt: skip
