"""What an operation backed up, object by object, from the best of its three records that is whole.

The manifest is the quickest, the journals are the truth, the packs' own indexes are enough. Each is proven
before it is believed, and what one lacks the next one gives; so a damaged file costs time, and an object
only when its bytes are damaged too. `Operation.entries` and `Operation.outcomes` are how this is used.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from s3gc.exceptions import VaultCorruptedError
from s3gc.vault import layout
from s3gc.vault.manifest import EntryFilter, ManifestWriter, Outcome, groups_of, read_rows
from s3gc.vault.packindex import read_pack_index
from s3gc.vault.records import AuditRecord, BackupEntry

if TYPE_CHECKING:
    from s3gc.vault.operations import Operation

__all__ = ["EntryReader"]

log = logging.getLogger(__name__)

_Row = tuple[BackupEntry, Outcome]


class EntryReader:
    """One reading of one operation. `problems` collects what was damaged, `lost` what nothing makes up
    for."""

    def __init__(self, operation: Operation, wanted: EntryFilter | None, problems: list[str]) -> None:
        self._operation = operation
        self._wanted = wanted
        self.problems = problems
        self.lost: list[str] = []

    async def rows(self) -> AsyncGenerator[_Row, None]:
        """Every wanted entry and what became of it; raises VaultCorruptedError after the last one when any
        is lost."""
        operation = self._operation
        groups = set(await operation.journal_groups())
        has_manifest = False
        with tempfile.TemporaryDirectory(prefix="s3gc-manifest-") as folder:
            local = await self._proven_manifest(Path(folder) / "manifest.parquet")
            if local is not None:
                has_manifest = True
                covered = await asyncio.to_thread(groups_of, local)
                for group in sorted(covered - groups):
                    path = layout.journal_path(operation.id, group)
                    self.problems.append(f"journal {path} is missing; the manifest has its objects")
                rows = read_rows(local, operation.id, self._wanted)
                while (batch := await asyncio.to_thread(next, rows, None)) is not None:
                    for row in batch:
                        yield row
                groups -= covered
        if not has_manifest or groups:
            async with aclosing(self._from_journals(groups, look_for_gaps=not has_manifest)) as batches:
                async for batch in batches:
                    for row in batch:
                        yield row
        if self.lost:
            raise VaultCorruptedError(
                f"operation {operation.id} in the vault {operation.storage.location} is damaged: "
                f"{'; '.join(self.lost)}. "
                "What its other journals and packs hold can be restored, and other operations are not "
                "affected",
                details={"path": operation.path(), "problems": [*self.problems, *self.lost]},
            )

    async def into_manifest(self, to: Path) -> ManifestWriter | None:
        """Write a manifest from the journals; None when something is lost, as it would claim to know what
        it does not."""
        groups = await self._operation.journal_groups()
        with ManifestWriter(to) as writer:
            async with aclosing(self._from_journals(set(groups), look_for_gaps=True)) as batches:
                async for batch in batches:
                    await asyncio.to_thread(writer.add_all, batch)
            await asyncio.to_thread(writer.finish, groups)
        return None if self.lost else writer

    # --- from the journals, and from the packs what they lack

    async def _from_journals(
        self, groups: set[int], *, look_for_gaps: bool
    ) -> AsyncGenerator[list[_Row], None]:
        late = await self._late_outcomes(groups)
        missing = await self._gaps(groups) if look_for_gaps else set()
        for group in sorted(groups):
            try:
                entries = await self._operation.read_journal(group)
            except VaultCorruptedError as error:
                self.problems.append(error.message)
                missing.add(group)
                continue
            known = await self._outcomes_of(group)
            yield [
                (entry, late.get(entry.key) or known.get(entry.key) or Outcome())
                for entry in entries
                if self._wanted is None or self._wanted.matches(entry.key)
            ]
        if missing or (look_for_gaps and not groups):
            async with aclosing(self._from_packs(missing if groups else None)) as batches:
                async for entries in batches:
                    outcomes: dict[str, Outcome] = {}
                    for group in {entry.group for entry in entries}:
                        outcomes.update(await self._outcomes_of(group))
                    yield [(e, late.get(e.key) or outcomes.get(e.key) or Outcome()) for e in entries]

    async def _from_packs(self, groups: set[int] | None) -> AsyncGenerator[list[BackupEntry], None]:
        """Entries of these groups (None: of all) from the packs' own indexes."""
        for number in await self._operation.pack_numbers():
            try:
                rows = await read_pack_index(self._operation.storage, self._operation.pack_path(number))
            except VaultCorruptedError as error:
                self.lost.append(error.message)
                continue
            found = (row.entry for row in rows if row.entry is not None)
            yield [
                entry
                for entry in found
                if (groups is None or entry.group in groups)
                and (self._wanted is None or self._wanted.matches(entry.key))
            ]

    async def _gaps(self, groups: set[int]) -> set[int]:
        """Numbers below the last journal that have none. A group of which nothing was deleted has an audit
        that says so, and never had a journal; of any other the journal was lost."""
        gaps: set[int] = set()
        for group in set(range(1, max(groups, default=0))) - groups:
            records = await self._audit(group)
            if not records or any(record.action == "deleted" for record in records):
                gaps.add(group)
        return gaps

    # --- outcomes

    async def _audit(self, group: int) -> list[AuditRecord]:
        try:
            return await self._operation.audit_of(group)
        except VaultCorruptedError as error:
            if error.message not in self.problems:
                self.problems.append(error.message)
            return []

    async def _outcomes_of(self, group: int) -> dict[str, Outcome]:
        return {record.key: Outcome.of(record) for record in await self._audit(group)}

    async def _late_outcomes(self, groups: set[int]) -> dict[str, Outcome]:
        """What audits outside the journals' own groups say: the corrections of a check or a recovery,
        which are few."""
        late: dict[str, Outcome] = {}
        for group in await self._operation.audit_groups():
            if group not in groups:
                records = await self._audit(group)
                late.update(
                    {r.key: Outcome.of(r) for r in records if r.action not in ("kept", "would_delete")}
                )
        return late

    # --- the manifest

    async def _proven_manifest(self, local: Path) -> Path | None:
        """Fetch the manifest and prove it; None, with a problem noted where it is one, when the journals
        must serve."""
        operation = self._operation
        try:
            expected = (await operation.record()).manifest
        except (VaultCorruptedError, FileNotFoundError) as error:
            self.problems.append(str(error) or f"{operation.path('operation.json')} is missing")
            return None
        if expected is None:
            return None
        path = operation.path("manifest.parquet")
        instead = "the journals were read in its place"
        try:
            digest = await operation.fetch("manifest.parquet", local)
        except FileNotFoundError:
            self.problems.append(f"manifest {path} is missing; {instead}")
            return None
        if digest != expected.get("sha256"):
            size, right = local.stat().st_size, expected.get("size")
            what = (
                "its SHA-256 is not the recorded one"
                if size == right
                else f"{size} bytes, {right} were written"
            )
            self.problems.append(f"manifest {path} is damaged ({what}); {instead}")
            return None
        try:
            await asyncio.to_thread(groups_of, local)
        except (pa.ArrowException, ValueError) as error:
            self.problems.append(f"manifest {path} cannot be read ({error}); {instead}")
            return None
        return local
