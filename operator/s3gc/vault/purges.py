"""The journal of purges: which versions an operation was about to remove for good, and what became of each.

It is a journal of its own kind beside that of the deletions, because a purge concerns objects of *earlier* operations
and is judged otherwise after a kill. Two files a batch, each written once and never changed: ``purge/000001.jsonl``
before the first version of it is removed, ``purged/000001.jsonl`` after the last. The bytes that an operation reclaimed
by purging are the sum over its second files and nothing else, so whoever counts, and however often, counts the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from s3gc.exceptions import VaultCorruptedError, VaultError
from s3gc.vault import layout
from s3gc.vault.codec import decode_sealed, encode_sealed
from s3gc.vault.operations import Operation

__all__ = ["PurgeIntent", "PurgeJournal", "Purged"]


@dataclass(frozen=True, slots=True)
class PurgeIntent:
    """One noncurrent version to be removed. `version_id` is as a listing of versions names it ("null" for the one of
    before versioning), `marker_version_id` our delete marker above it; `of` and `group` say which operation made it
    noncurrent and where its backup is."""

    of: str
    group: int
    key: str
    version_id: str
    marker_version_id: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class Purged:
    """What became of an intent. `state` is "purged" (that version is no more), "kept" (it is there), or "restored"
    (it had to be brought back). `reason` is a short fixed phrase. `at` is ISO 8601, UTC."""

    intent: PurgeIntent
    state: str
    at: str
    reason: str = ""
    detail: str = ""


class PurgeJournal:
    """The purges of one operation. Errors are VaultError, and VaultCorruptedError for a file that was changed."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._storage = operation.storage

    async def numbers(self) -> list[int]:
        """The batches that were begun."""
        return await self._numbers("purge/")

    async def open_numbers(self) -> list[int]:
        """The batches that were begun and not recorded to their end."""
        ended = set(await self._numbers("purged/"))
        return [number for number in await self.numbers() if number not in ended]

    async def begin(self, number: int, intents: Sequence[PurgeIntent]) -> None:
        """Write the intent, durably, before any of these versions is removed."""
        await self._create(
            layout.purge_path(self._operation.id, number), number, [asdict(i) for i in intents]
        )

    async def end(self, number: int, outcomes: Sequence[Purged]) -> None:
        """Write what became of a batch. Never replaces one: the first record counts."""
        await self._create(
            layout.purged_path(self._operation.id, number), number, [asdict(o) for o in outcomes]
        )

    async def intents(self, number: int) -> list[PurgeIntent]:
        return [_intent(value) for value in await self._read(layout.purge_path(self._operation.id, number))]

    async def outcomes(self, number: int) -> list[Purged]:
        values = await self._read(layout.purged_path(self._operation.id, number))
        return [Purged(**{**value, "intent": _intent(value["intent"])}) for value in values]

    async def total(self) -> tuple[int, int]:
        """How many versions this operation purged, and their bytes: always from the records, never from memory."""
        count = size = 0
        for number in await self._numbers("purged/"):
            for outcome in await self.outcomes(number):
                if outcome.state == "purged":
                    count, size = count + 1, size + outcome.intent.size
        return count, size

    # --- small things

    async def _numbers(self, folder: str) -> list[int]:
        listed = self._storage.list(self._operation.path(folder))
        found = [layout.number_in(file.path) async for file in listed]
        return sorted({number for number in found if number is not None})

    async def _create(self, path: str, number: int, values: Sequence[Mapping[str, Any]]) -> None:
        data = await asyncio.to_thread(encode_sealed, self._operation.id, number, values)
        if await self._storage.create(path, data):
            return
        if await self._storage.read(path) != data:  # else: our own first attempt, whose answer was lost
            raise VaultError(
                f"{path} exists already in the vault {self._storage.location} with another content: another process "
                "works on this operation; this one purges nothing more"
            )

    async def _read(self, path: str) -> list[Any]:
        data = await self._storage.read(path)
        try:
            return await asyncio.to_thread(decode_sealed, data)
        except (ValueError, KeyError, TypeError) as error:
            raise VaultCorruptedError(
                f"{path} of the vault {self._storage.location} is damaged: {error}. Backups and restores do not need "
                "it; nothing is purged until it is brought back from a copy or moved away",
                details={"path": path},
            ) from None


_INTENT_FIELDS = tuple(field.name for field in fields(PurgeIntent))


def _intent(value: Mapping[str, Any]) -> PurgeIntent:
    return PurgeIntent(**{name: value[name] for name in _INTENT_FIELDS})
