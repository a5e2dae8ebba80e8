"""What tests of deletions look at: every version and marker of a key, past the code under test."""

from __future__ import annotations

from typing import Any

import aiosqlite
from tests.library.cycle.world import World

from s3gc import initialize_gc_state, shutdown_gc_state
from s3gc.backup.restore import restore_operation
from s3gc.config import S3GCConfig
from s3gc.results import RestoreResult
from s3gc.vault.records import AuditRecord


def versions(world: World, key: str) -> list[tuple[str, str]]:
    """(kind, version id) of every version of exactly this key, the latest first; kind is "object" or "marker"."""
    answer = world.client.list_object_versions(Bucket=world.bucket, Prefix=key)
    found: list[tuple[Any, str, str]] = []
    for name, kind in (("Versions", "object"), ("DeleteMarkers", "marker")):
        found += [
            ((item["IsLatest"], item["LastModified"]), kind, item["VersionId"])
            for item in answer.get(name, [])
            if item["Key"] == key
        ]
    return [(kind, version) for _, kind, version in sorted(found, reverse=True)]


def kinds(world: World, key: str) -> list[str]:
    return [kind for kind, _ in versions(world, key)]


def set_versioning(world: World, status: str) -> None:
    world.client.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": status})


async def restore(world: World, operation_id: str, **options: Any) -> RestoreResult:
    config: S3GCConfig = options.pop("config", None) or world.config()
    state = await initialize_gc_state(config)
    try:
        async with aiosqlite.connect(state["vault_db_path"]) as vault_db:
            return await restore_operation(
                config, state, vault_db, operation_id=operation_id, dry_run=False, **options
            )
    finally:
        await shutdown_gc_state(state)


async def audit(world: World, operation_id: str) -> list[AuditRecord]:
    state = await initialize_gc_state(world.config())
    try:
        return [record async for record in state["vault"].operation(operation_id).read_audit()]
    finally:
        await shutdown_gc_state(state)


class During:
    """A progress callback that calls `action` once, synchronously, when `phase` is told for the `nth` time."""

    def __init__(self, phase: str, action: Any, nth: int = 1) -> None:
        self.phase, self.action, self.left = phase, action, nth

    def __call__(self, progress: Any) -> None:
        if progress.phase == self.phase:
            self.left -= 1
            if self.left == 0:
                self.action()
