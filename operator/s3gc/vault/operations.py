"""One cycle's record in the vault: its plan, approval, journals, audits, manifest and result.

The order of writing is what makes a kill at any instant harmless: a group's objects are in sealed packs, then
its journal is created (never replaced: two processes that believe they own the same operation cannot
overwrite each other's intent), then objects are deleted, then the audit says what happened. A journal is
therefore a superset of the deletions, and a pack a superset of the journals.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import tempfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s3gc.exceptions import RefusedError, VaultCorruptedError, VaultError
from s3gc.results import GCResult
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.codec import decode_audit, decode_journal, encode_audit, encode_journal
from s3gc.vault.entries import EntryReader
from s3gc.vault.files import read_or_none
from s3gc.vault.manifest import EntryFilter, Outcome
from s3gc.vault.operation_record import Approval, OperationRecord, iso_time
from s3gc.vault.records import AuditRecord, BackupEntry

__all__ = ["Approval", "Operation", "OperationRecord"]

log = logging.getLogger(__name__)

_SWAP_ATTEMPTS = 20


class Operation:
    """Paths and records of one operation; cheap to make, holds nothing but names.

    Errors are VaultError, and VaultCorruptedError (with `details["path"]`) for bytes that are not what was
    written.
    """

    def __init__(self, storage: Storage, operation_id: str) -> None:
        layout.operation_path(operation_id)  # checks the id
        self.storage = storage
        self.id = operation_id

    def path(self, name: str = "") -> str:
        return layout.operation_path(self.id, name)

    def pack_path(self, number: int) -> str:
        return layout.pack_path(self.id, number)

    # --- the record

    async def create(self, record: OperationRecord) -> None:
        """Write operation.json; raises VaultError when this operation exists already."""
        if not await self.storage.create(self.path("operation.json"), record.to_json()):
            if await self.storage.read(self.path("operation.json")) == record.to_json():
                return  # our own first attempt, whose answer was lost
            raise VaultError(f"operation {self.id} exists already in the vault {self.storage.location}")

    async def exists(self) -> bool:
        return await self._read("operation.json") is not None

    async def record(self) -> OperationRecord:
        """Raises FileNotFoundError for an operation that the vault does not have."""
        data = await self.storage.read(self.path("operation.json"))
        try:
            return OperationRecord.from_json(data)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged("operation.json", f"{error}") from None

    async def update(self, **changes: Any) -> OperationRecord:
        """Change fields of the record, atomically against other writers; return what it is now."""
        path = self.path("operation.json")
        for _ in range(_SWAP_ATTEMPTS):
            before = await self.storage.read(path)
            try:
                record = replace(OperationRecord.from_json(before), **changes)
            except (ValueError, KeyError, TypeError) as error:
                raise self._damaged("operation.json", f"{error}") from None
            if record.to_json() == before or await self.storage.replace(
                path, record.to_json(), expected=before
            ):
                return record
        raise VaultError(
            f"{path} of the vault {self.storage.location} kept changing while it was updated; try again"
        )

    # --- plan, approval, result

    async def write_plan(self, path: Path) -> None:
        """Keep the plan (Parquet). A plan is written once: raises VaultError when there is one."""
        if await self.plan_exists():
            raise VaultError(f"operation {self.id} has a plan already, and a plan never changes")
        await self.storage.write_file(self.path("plan.parquet"), path)

    async def plan_exists(self) -> bool:
        try:
            await self.storage.size(self.path("plan.parquet"))
        except FileNotFoundError:
            return False
        return True

    async def fetch_plan(self, to: Path) -> None:
        """Copy the plan to a local file. Raises FileNotFoundError when there is none."""
        await self.fetch("plan.parquet", to)

    async def approval(self) -> Approval | None:
        data = await self._read("approval.json")
        if data is None:
            return None
        try:
            value = json.loads(data)
            return Approval(str(value["digest"]), str(value["by"]), datetime.fromisoformat(value["at"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged("approval.json", f"{error}") from None

    async def approve(self, digest: str, by: str, *, at: datetime | None = None) -> Approval:
        """Consent to the plan with this digest. A second, different approval is refused (RefusedError)."""
        approval = Approval(digest, by, at or datetime.now(UTC))
        data = (json.dumps(asdict(approval), indent=1, default=iso_time) + "\n").encode()
        if not await self.storage.create(self.path("approval.json"), data):
            existing = await self.approval()
            if existing is not None and existing.digest == digest:
                return existing
            raise RefusedError(
                f"operation {self.id} was approved already, for another plan digest; start a new cycle and "
                "approve that",
                details={"guard": "approval", "plan_digest": digest},
            )
        return approval

    async def write_result(self, result: GCResult) -> None:
        await self.storage.write(self.path("result.json"), (result.model_dump_json(indent=1) + "\n").encode())

    async def result(self) -> GCResult | None:
        """None when the cycle left none."""
        data = await self._read("result.json")
        if data is None:
            return None
        try:
            return GCResult.model_validate_json(data)
        except ValidationError as error:
            raise self._damaged("result.json", f"{error.error_count()} problems") from None

    # --- hold: what stops the expiry of this operation

    async def hold(self, reason: str, by: str) -> None:
        value = {"reason": reason, "by": by, "at": datetime.now(UTC).isoformat()}
        await self.storage.write(
            self.path("hold.json"), (json.dumps(value, ensure_ascii=False) + "\n").encode()
        )

    async def unhold(self) -> None:
        await self.storage.delete(self.path("hold.json"))

    async def is_held(self) -> bool:
        """Whether hold.json is there, readable or not."""
        return await self._read("hold.json") is not None

    # --- journal and audit

    async def journal_groups(self) -> list[int]:
        return await self._numbers("journal/")

    async def pack_numbers(self) -> list[int]:
        return await self._numbers("packs/")

    async def next_group(self) -> int:
        """The number after the last journal's or audit's, whichever is higher; 1 in a new operation."""
        return max([0, *await self.journal_groups(), *await self.audit_groups()]) + 1

    async def append_journal(self, group: int, entries: Sequence[BackupEntry]) -> None:
        """Write the intent to delete `entries`, durably, before any of them is deleted. Never replaces a
        journal.

        Raises VaultError when this group has another journal: then another process works on this operation.
        """
        path = layout.journal_path(self.id, group)
        data = await asyncio.to_thread(encode_journal, self.id, group, entries)
        if await self.storage.create(path, data):
            return
        if await self.storage.read(path) != data:  # else: our own first attempt, whose answer was lost
            raise VaultError(
                f"{path} exists already in the vault {self.storage.location} with another content: another "
                "process works "
                "on this operation; nothing of this group was deleted by this one"
            )

    async def read_journal(self, group: int) -> list[BackupEntry]:
        """The intent of one group, proven by its trailer. FileNotFoundError when that group has none."""
        path = layout.journal_path(self.id, group)
        data = await self.storage.read(path)
        return await asyncio.to_thread(decode_journal, data, path, self.storage.location)

    async def append_audit(self, group: int, records: Sequence[AuditRecord]) -> None:
        """Add records to the audit of a group, durably. A second call for the same group appends a frame."""
        if not records:
            return
        path = layout.audit_path(self.id, group)
        frame = await asyncio.to_thread(encode_audit, records)
        for _ in range(_SWAP_ATTEMPTS):
            before = await read_or_none(self.storage, path)
            if before is None:
                if await self.storage.create(path, frame):
                    return
            elif before.endswith(frame) or await self.storage.replace(path, before + frame, expected=before):
                return
        raise VaultError(
            f"{path} of the vault {self.storage.location} kept changing while it was appended to"
        )

    async def read_audit(self) -> AsyncGenerator[AuditRecord, None]:
        """Every audit record, in the order of groups and of writing. Damage raises at the damaged file."""
        for group in await self.audit_groups():
            for record in await self.audit_of(group):
                yield record

    async def audit_groups(self) -> list[int]:
        return await self._numbers("audit/")

    async def audit_of(self, group: int) -> list[AuditRecord]:
        """The audit of one group; empty when it has none."""
        path = layout.audit_path(self.id, group)
        data = await read_or_none(self.storage, path)
        return (
            [] if data is None else await asyncio.to_thread(decode_audit, data, path, self.storage.location)
        )

    # --- manifest and entries

    async def write_manifest(self) -> None:
        """Merge journals and audits into manifest.parquet, group by group, and note its SHA-256 in
        operation.json.

        An operation that intended nothing gets no manifest. A damaged journal is made up for from the
        packs; where that is not whole either, no manifest is written, as it would claim to know what the
        journals do not.
        """
        if not await self.journal_groups():
            return
        with tempfile.TemporaryDirectory(prefix="s3gc-manifest-") as folder:
            local = Path(folder) / "manifest.parquet"
            reader = EntryReader(self, None, [])
            writer = await reader.into_manifest(local)
            for problem in [*reader.problems, *reader.lost]:
                log.warning("operation %s: %s", self.id, problem)
            if writer is None:
                return
            size = local.stat().st_size
            if (await self.record()).manifest is not None:
                # Two files cannot change at one instant. Killed between them, a new manifest beside the old SHA-256
                # would look damaged; without one the journals serve, and nobody is alarmed.
                await self.update(manifest=None)
            await self.storage.write_file(self.path("manifest.parquet"), local)
        await self.update(manifest={"sha256": writer.sha256, "size": size, "rows": writer.rows})

    async def entries(
        self,
        keys: Iterable[str] | None = None,
        prefixes: Sequence[str] | None = None,
        globs: Sequence[str] | None = None,
        *,
        problems: list[str] | None = None,
    ) -> AsyncGenerator[BackupEntry, None]:
        """Yield every backed-up object of this operation that matches any filter (all, without a filter).

        From the manifest; from the journals where it is missing, damaged or older than they are; from the
        packs' own indexes where a journal is missing or damaged. What was damaged is appended to
        `problems`. Raises VaultCorruptedError when an object may be missing from what was yielded, after
        yielding all there is.
        """
        async with aclosing(self.outcomes(keys, prefixes, globs, problems=problems)) as rows:
            async for entry, _ in rows:
                yield entry

    async def outcomes(
        self,
        keys: Iterable[str] | None = None,
        prefixes: Sequence[str] | None = None,
        globs: Sequence[str] | None = None,
        *,
        problems: list[str] | None = None,
    ) -> AsyncGenerator[tuple[BackupEntry, Outcome], None]:
        """As `entries`, each with what became of it."""
        wanted = EntryFilter.make(keys, prefixes, globs)
        reader = EntryReader(self, wanted, problems if problems is not None else [])
        async with aclosing(reader.rows()) as rows:
            async for row in rows:
                yield row

    # --- small things

    async def _numbers(self, folder: str) -> list[int]:
        found = [layout.number_in(file.path) async for file in self.storage.list(self.path(folder))]
        return sorted({number for number in found if number is not None})

    async def _read(self, name: str) -> bytes | None:
        return await read_or_none(self.storage, self.path(name))

    async def fetch(self, name: str, to: Path) -> str:
        """Copy a file of the vault to a local one; return the SHA-256 of what was copied."""
        digest = hashlib.sha256()
        with to.open("wb") as file:
            async for chunk in self.storage.stream(self.path(name)):
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        return digest.hexdigest()

    def _damaged(self, name: str, what: str) -> VaultCorruptedError:
        path = self.path(name)
        return VaultCorruptedError(
            f"{path} of the vault {self.storage.location} is damaged ({what}). The operation's objects can "
            "still be "
            "restored from its journals and packs; no other operation is affected",
            details={"path": path},
        )
