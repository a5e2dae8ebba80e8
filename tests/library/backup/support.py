"""What the tests of vault and backup share: a policy, an open world, and objects put there past the code
under test."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.testbed.services import S3Server, s3_client
from ulid import ULID

from s3gc.backup.backup import GroupBackup, back_up
from s3gc.builder import create_config
from s3gc.config import S3GCConfig
from s3gc.store.bucket import Bucket
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.records import AuditRecord, BackupEntry, PlannedObject
from s3gc.vault.vault import Scope, Vault


@dataclass
class World:
    """One bucket, one vault, one policy, and a boto3 client that looks past everything under test."""

    config: S3GCConfig
    bucket: Bucket
    vault: Vault
    scope: Scope
    client: Any

    @property
    def state(self) -> dict[str, Any]:
        return {"vault": self.vault, "bucket": self.bucket, "scope": self.scope, "config": self.config}

    @property
    def vault_folder(self) -> Path:
        return Path(self.vault.location)

    async def planned(self, prefix: str = "") -> list[PlannedObject]:
        """Everything in the bucket as the listing sees it."""
        found: list[PlannedObject] = []
        async for page in self.bucket.list_pages(prefix):
            found.extend(
                PlannedObject(r["key"], r["etag"], r["size"], r["last_modified"], r["storage_class"])
                for r in page.rows.to_pylist()
            )
        return found

    async def begin(self, mode: str = "execute") -> Operation:
        operation = self.vault.operation(str(ULID()))
        record = OperationRecord(operation.id, self.scope.id, self.bucket.name, mode, datetime.now(UTC))
        await operation.create(record)
        return operation

    async def back_up(
        self, operation: Operation, objects: Iterable[PlannedObject], group: int = 1
    ) -> GroupBackup:
        return await back_up(self.bucket, self.vault, operation, group, list(objects), self.config)

    async def sweep(self, objects: Iterable[PlannedObject] | None = None) -> tuple[Operation, GroupBackup]:
        """What a cycle does in order: back up, journal, delete, audit, manifest."""
        operation = await self.begin()
        chosen = list(objects) if objects is not None else await self.planned()
        backup = await self.back_up(operation, chosen)
        await self.delete(operation, 1, list(backup.entries.values()))
        await operation.write_manifest()
        await operation.update(completed_at=datetime.now(UTC), outcome="Succeeded", journal="closed")
        return operation, backup

    async def delete(self, operation: Operation, group: int, entries: list[BackupEntry]) -> None:
        await operation.append_journal(group, entries)
        await operation.update(journal="open")
        audit = []
        for entry in entries:
            answer = await self.bucket.delete(entry.key)
            audit.append(audit_record(operation, entry, "deleted", marker=answer.version_id))
        await operation.append_audit(group, audit)

    def put(self, key: str, body: bytes = b"content", **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.put_object(Bucket=self.bucket.name, Key=key, Body=body, **more)
        return answer

    def body(self, key: str) -> bytes | None:
        try:
            found: bytes = self.client.get_object(Bucket=self.bucket.name, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return found

    def head(self, key: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.head_object(Bucket=self.bucket.name, Key=key)
        return answer

    def damage(self, path: str, *, at: int = -1, cut: int | None = None) -> None:
        """Flip one byte (the middle one, by default) of a file of a folder vault, or cut it to a length."""
        file = self.vault_folder / path
        data = bytearray(file.read_bytes())
        if cut is not None:
            del data[cut:]
        else:
            data[len(data) // 2 if at == -1 else at] ^= 0x40
        file.write_bytes(data)


def audit_record(
    operation: Operation, entry: BackupEntry, action: str, marker: str | None = None
) -> AuditRecord:
    return AuditRecord(
        datetime.now(UTC), operation.id, entry.key, action, "unreferenced", "", entry.etag, entry.size,
        entry.version_id, marker,
    )  # fmt: skip


@asynccontextmanager
async def open_world(
    server: S3Server, bucket: str, vault_path: str, *, concurrency: int = 16, **settings: Any
) -> AsyncIterator[World]:
    settings.setdefault("restore_hold_days", 30)
    config = create_config(
        bucket=bucket, endpoint_url=server.endpoint, vault_path=vault_path, concurrency=concurrency,
        vault_endpoint_url=server.endpoint if vault_path.startswith("s3://") else None, **settings,
    )  # fmt: skip
    opened = await Bucket.open(bucket, endpoint_url=server.endpoint, concurrency=concurrency)
    try:
        vault = await Vault.open(config)
        try:
            yield World(config, opened, vault, await vault.scope(config), s3_client(server))
        finally:
            await vault.close()
    finally:
        await opened.close()


def entry_of(key: str = "uploads/a.jpg", **changes: Any) -> BackupEntry:
    """An entry for tests that need no bucket."""
    entry = BackupEntry(
        operation_id="01HX0000000000000000000000", group=1, key=key, etag="d41d8cd98f00b204e9800998ecf8427e", size=0,
        last_modified=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), version_id=None, storage_class="STANDARD",
        sha256=hashlib.sha256(b"").hexdigest(), headers={"content-type": "image/jpeg"}, tags=(), acl=None, parts=(),
    )  # fmt: skip
    return dataclasses.replace(entry, **changes)
