"""Read a whole vault back and name everything in it that is not what was written.

Nothing is believed: every frame of every pack is decompressed and its SHA-256 compared, every object of
every journal is looked up in the packs, every journal, manifest and result is parsed. One damaged file is
one problem, and never ends the look at the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from s3gc.backup.packs import check_rows
from s3gc.backup.reading import read_object
from s3gc.exceptions import VaultCorruptedError
from s3gc.vault import layout
from s3gc.vault.operations import Operation
from s3gc.vault.packindex import read_pack_index
from s3gc.vault.records import BackupEntry
from s3gc.vault.vault import Vault

__all__ = ["VaultProblem", "VerifyReport", "verify"]

_LISTED = 10_000
_INDEXES = 4


@dataclass(frozen=True, slots=True)
class VaultProblem:
    """One thing that is wrong. `key` is empty when a whole file is; `is_lost` says that an object cannot
    come back."""

    operation_id: str
    path: str
    key: str
    what: str
    is_lost: bool = False


@dataclass(slots=True)
class VerifyReport:
    """What `verify` read and found; `problems` lists at most 10,000, `problem_count` has them all."""

    operations: int = 0
    packs: int = 0
    objects: int = 0
    bytes: int = 0
    problem_count: int = 0
    problems: list[VaultProblem] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return self.problem_count == 0

    def add(self, problem: VaultProblem) -> None:
        self.problem_count += 1
        if len(self.problems) < _LISTED:
            self.problems.append(problem)


async def verify(
    vault: Vault, operations: Sequence[str] | None = None, progress: Callable[[int], None] | None = None
) -> VerifyReport:
    """Read back everything (or these `operations`), in bounded memory. `progress` gets the objects read so
    far.

    Raises VaultError only when the vault itself cannot be read; damage is in the report.
    """
    report = VerifyReport()
    for operation_id in operations if operations is not None else await vault.operation_ids():
        await _Verifier(vault, vault.operation(operation_id), report, progress).run()
        report.operations += 1
    return report


class _Verifier:
    def __init__(
        self, vault: Vault, operation: Operation, report: VerifyReport, progress: Callable[[int], None] | None
    ) -> None:
        self._vault = vault
        self._operation = operation
        self._report = report
        self._progress = progress
        #: pack -> offsets of frames that are not what was written; None for a pack without a readable index.
        self._bad: dict[int, set[int] | None] = {}
        #: pack -> {offset: (length, SHA-256)}, of the few packs used last.
        self._indexes: dict[int, dict[int, tuple[int, str]]] = {}

    async def run(self) -> None:
        operation = self._operation
        for read in (operation.record, operation.result, operation.approval):
            try:
                await read()
            except (VaultCorruptedError, FileNotFoundError) as error:
                self._problem(error, operation.path("operation.json"))
        try:
            async with aclosing(operation.read_audit()) as records:
                async for _ in records:
                    pass
        except VaultCorruptedError as error:
            self._problem(error, operation.path("audit/"))
        for number in await operation.pack_numbers():
            await self._pack(number)
        await self._entries()

    async def _pack(self, number: int) -> None:
        """Read a pack back once and report its bad frames."""
        path = self._operation.pack_path(number)
        self._report.packs += 1
        try:
            rows = await read_pack_index(self._vault.storage, path)
        except VaultCorruptedError as error:
            self._problem(error, path)
            self._bad[number] = None
            return
        bad: set[int] = set()
        async for row, problem in check_rows(self._vault.storage, path, rows):
            self._report.bytes += row.raw_length
            if problem:
                bad.add(row.offset)
                self._report.add(VaultProblem(self._operation.id, path, row.key, problem, is_lost=True))
        if bad:
            self._bad[number] = bad

    async def _is_proven(self, entry: BackupEntry) -> bool:
        """Whether the one frame of this object was read back well, with the SHA-256 that the entry
        records."""
        part = entry.parts[0]
        bad = self._bad.get(part.pack, set())
        if bad is None or part.offset in bad:
            return False
        if part.pack not in self._indexes:
            try:
                rows = await read_pack_index(self._vault.storage, self._operation.pack_path(part.pack))
            except VaultCorruptedError:
                return False
            while len(self._indexes) >= _INDEXES:
                self._indexes.pop(next(iter(self._indexes)))
            self._indexes[part.pack] = {row.offset: (row.length, row.raw_sha256) for row in rows}
        return self._indexes[part.pack].get(part.offset) == (part.length, entry.sha256)

    async def _entries(self) -> None:
        """Every object that the journals intend must be in the packs, with the SHA-256 that they record."""
        problems: list[str] = []
        try:
            async with aclosing(self._operation.entries(problems=problems)) as entries:
                async for entry in entries:
                    self._report.objects += 1
                    await self._entry(entry)
                    if self._progress is not None and self._report.objects % 256 == 0:
                        self._progress(self._report.objects)
        except VaultCorruptedError as error:
            self._problem(error, self._operation.path())
        for problem in problems:
            self._report.add(VaultProblem(self._operation.id, self._operation.path(), "", problem))
        # The manifest hides a damaged journal from `entries`, and a journal may be needed when the manifest
        # is not there.
        for group in await self._operation.journal_groups():
            try:
                await self._operation.read_journal(group)
            except VaultCorruptedError as error:
                self._problem(error, layout.journal_path(self._operation.id, group))

    async def _entry(self, entry: BackupEntry) -> None:
        if len(entry.parts) == 1 and await self._is_proven(entry):
            return
        try:
            # Several parts, a pack without its index, or no match: read it as a restore would.
            async with aclosing(read_object(self._vault, entry)) as content:
                async for _ in content:
                    pass
        except VaultCorruptedError as error:
            path = str(error.details.get("path", ""))
            known = any(p.key == entry.key and p.path == path for p in self._report.problems[-64:])
            if not known:
                found = VaultProblem(self._operation.id, path, entry.key, error.message, is_lost=True)
                self._report.add(found)

    def _problem(self, error: Exception, path: str) -> None:
        details = getattr(error, "details", {})
        found = VaultProblem(
            self._operation.id, str(details.get("path", path)), "", str(error) or f"{path} is missing"
        )
        self._report.add(found)
