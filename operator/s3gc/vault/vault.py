"""Opening a vault: its sentinel, the scopes in it and the operations it remembers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ulid import ULID

from s3gc.config import S3GCConfig
from s3gc.exceptions import VaultCorruptedError, VaultError
from s3gc.store.storage import open_storage
from s3gc.store.types import Storage
from s3gc.vault import layout
from s3gc.vault.files import read_or_none
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.ownership import load_scopes, seen_scope
from s3gc.vault.scopes import Scope

__all__ = ["FORMAT_VERSION", "Scope", "Vault"]

log = logging.getLogger(__name__)

#: Of the vault's layout. A reader refuses a vault with a higher one: it may hold what this reader would
#: overlook.
FORMAT_VERSION = 1

_READS_IN_FLIGHT = 16


class Vault:
    """An open vault. Safe for concurrent use in one event loop; who may write what is decided by the scope's
    lock."""

    def __init__(self, storage: Storage, vault_id: str, *, read_only: bool = False) -> None:
        self.storage = storage
        self.id = vault_id
        self.read_only = read_only

    @classmethod
    async def open(cls, config: S3GCConfig, *, read_only: bool = False, create: bool = True) -> Vault:
        """Open the vault that `config` names; a new one is made unless it is only to be read or `create` is False.

        Raises VaultError when it cannot be used, is of a newer version, or does not exist and is not to be made
        (`details["is_missing"]`).
        """
        if not create and not read_only:
            # Looked for first, and opened for writing only then: that proves the store's conditional writes, on which
            # the lock stands, and would make a folder.
            await (await cls.open(config, read_only=True)).close()
        storage = await open_storage(
            config.vault_path,
            endpoint_url=config.vault_endpoint_url,
            region=config.vault_region,
            path_style=config.vault_path_style,
            storage_class=config.vault_storage_class,
            kms_key_id=config.vault_kms_key_id,
            create=not read_only,
        )
        try:
            return await cls.attach(storage, read_only=read_only)
        except BaseException:
            await storage.close()
            raise

    @classmethod
    async def attach(cls, storage: Storage, *, read_only: bool = False) -> Vault:
        """As `open`, over a storage that is open already (the vault closes it)."""
        data = await read_or_none(storage, layout.SENTINEL)
        if data is None:
            if read_only:
                raise VaultError(
                    f"{storage.location} is not a vault: it has no {layout.SENTINEL}. Check the path; a vault is made "
                    "by the first cycle that may write to it",
                    details={"is_missing": True},
                )
            await _refuse_orphaned(storage)
            now = datetime.now(UTC)
            sentinel = {
                "s3gc": "vault",
                "version": FORMAT_VERSION,
                "id": str(ULID()),
                "created_at": now.isoformat(),
            }
            await storage.create(layout.SENTINEL, (json.dumps(sentinel) + "\n").encode())
            data = await storage.read(layout.SENTINEL)  # whoever was first, there is one id
        return cls(storage, _check_sentinel(data, storage.location), read_only=read_only)

    @property
    def location(self) -> str:
        """For people: the folder, or ``s3://bucket/prefix``."""
        return self.storage.location

    @property
    def catalog_path(self) -> Path:
        """Where the SQLite catalog lies: in a folder vault itself, else (or when that is read-only) in a
        cache folder."""
        if not self.location.startswith("s3://"):
            folder = Path(self.location)
            if os.access(folder, os.W_OK) and not self.read_only:
                return folder / "vault.db"
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        for parent in (base / "s3gc", Path(tempfile.gettempdir()) / f"s3gc-{os.getuid()}"):
            folder = parent / "vaults" / self.id
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError:
                continue
            if os.access(folder, os.W_OK):
                return folder / "vault.db"
        raise VaultError(
            f"there is no writable folder for the vault's catalog; set XDG_CACHE_HOME (tried {base})"
        )

    async def scope(self, config: S3GCConfig) -> Scope:
        """The scope of this policy, or the one that its first cycle would make. Reads only: what a policy owns is
        changed by a cycle (`ownership.own_scope`) and by nothing else."""
        return await seen_scope(self.storage, config)

    async def scopes(self, *, strict: bool = True) -> list[Scope]:
        """Every scope of this vault, by id. `strict`: VaultCorruptedError for a scope.json that cannot be read; else
        it is left out."""
        return await load_scopes(self.storage, strict=strict)

    def operation(self, operation_id: str) -> Operation:
        """The operation with this id, whether it exists or not. Raises VaultError for what is not a ULID."""
        return Operation(self.storage, operation_id)

    async def operation_ids(self) -> list[str]:
        """Every operation that has any file in the vault, newest first."""
        found: set[str] = set()
        async for file in self.storage.list(layout.OPERATIONS):
            name = file.path.removeprefix(layout.OPERATIONS).partition("/")[0]
            if layout.is_operation_id(name):
                found.add(name)
        return sorted(found, reverse=True)

    async def operations(self, *, scope_id: str | None = None) -> list[OperationRecord]:
        """The records of every operation, newest first. A record that cannot be read is in the list all the same, with
        its `problem`: a damaged file must not hide an operation. Whose it is its result may still say; where nothing
        does it is in every scope's list."""
        limit = asyncio.Semaphore(_READS_IN_FLIGHT)

        async def read(operation_id: str) -> OperationRecord:
            operation = self.operation(operation_id)
            async with limit:
                try:
                    return await operation.record()
                except (VaultCorruptedError, FileNotFoundError) as error:
                    problem = str(error) or "operation.json is missing"
                    journal = "open" if await operation.journal_groups() else "none"
                    began = ULID.from_str(operation_id).datetime
                    scope, bucket = await _from_result(operation)
                    return OperationRecord(
                        operation_id, scope, bucket, "unknown", began, journal=journal, problem=problem
                    )

        records = await asyncio.gather(*(read(operation_id) for operation_id in await self.operation_ids()))
        return [
            record
            for record in records
            if scope_id in (None, record.scope) or (record.problem and not record.scope)
        ]

    async def size(self) -> int:
        """Bytes of every file in the vault."""
        return sum([file.size async for file in self.storage.list("")])

    async def close(self) -> None:
        await self.storage.close()


async def _from_result(operation: Operation) -> tuple[str, str]:
    """Scope and bucket of an operation whose record is lost, as far as its result tells."""
    try:
        result = await operation.result()
    except VaultCorruptedError:
        result = None
    return (result.scope, result.bucket) if result is not None else ("", "")


def _check_sentinel(data: bytes, where: str) -> str:
    try:
        value = json.loads(data)
        version, vault_id = int(value["version"]), str(value["id"])
    except (ValueError, KeyError, TypeError):
        raise VaultCorruptedError(
            f"{layout.SENTINEL} of the vault {where} is damaged; its content is one line of JSON with "
            "version and id. Bring "
            "it back from a copy (each operations/*/packs is readable without it)",
            details={"path": layout.SENTINEL},
        ) from None
    if version > FORMAT_VERSION:
        raise VaultError(
            f"the vault {where} is of format {version}, written by a newer s3gc; this one knows formats up "
            "to "
            f"{FORMAT_VERSION}. Nothing in it was changed: use the newer version",
            details={"version": version},
        )
    return vault_id


async def _refuse_orphaned(storage: Storage) -> None:
    """A vault without its sentinel is a vault that lost a file, not a new one: with a new id, its own claims
    in the customers' buckets would look like a stranger's."""
    for prefix in (layout.OPERATIONS, layout.SCOPES):
        async for file in storage.list(prefix):
            raise VaultCorruptedError(
                f"the vault {storage.location} has {file.path} but no {layout.SENTINEL}: that file was "
                "lost. Bring it back "
                f'from a copy, or write {{"s3gc": "vault", "version": {FORMAT_VERSION}, "id": "…"}} with '
                "the id that the name "
                "of this vault's claim in the bucket has (.s3gc/claims/<id>/)",
                details={"path": layout.SENTINEL},
            )
